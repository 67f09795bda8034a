"""Every file of the report, in memory: from the results of all stages, or what can be made of the kept data alone."""

from collections.abc import Mapping
from pathlib import Path

from stages.data import prepared
from stages.report import dataset_results, provenance
from stages.report.dataset_results import DatasetResults, Numbers
from stages.report.figures import gallery, rendering
from stages.report.page import headline, page, sections
from stages.report.page.sections import Contents
from stages.report.tables import comparison_tables, costs, formats, published
from stages.report.tables.table import Table
from stages.runtime import layout
from stages.runtime.params import Params

Files = dict[Path, bytes]  # path in reports/ -> content
FOLDERS = ("tables", "figures", "data")


def of_results(params: Params) -> Files:
    """The whole report on the listed datasets.

    Raises:
        ReportError: a result is missing or of another experiment; an image cannot be shown.
        FileNotFoundError: there is no prepared dataset.
    """
    datasets = [dataset_results.read(name, params) for name in params.experiment.datasets]
    shown = {results.name: sections.gather(results, params) for results in datasets}
    made_of = provenance.collect(params, datasets)
    files = {
        Path("index.html"): page.render(params, datasets, shown, made_of).encode(),
        provenance.FILE: provenance.write(made_of),
    }
    for results in datasets:
        kept = dataset_results.collect(results.name, params, prepared.read(layout.prepared(results.name)))
        files |= _data(results.name, kept) | _tables(results) | _figures(results, shown[results.name])
    return files


def of_kept_data(params: Params) -> Files:
    """The tables alone, from `reports/data`.

    Raises:
        ReportError: a file is missing there, or of another experiment.
    """
    files = {}
    for name in params.experiment.datasets:
        files |= _tables(dataset_results.numbers(name, params, dataset_results.committed(name)))
    return files


def all_tables(results: Numbers) -> list[Table]:
    """Every table about a dataset, in the order in which they are read."""
    found = [
        comparison_tables.main_table(results),
        comparison_tables.contrast_table(results),
        comparison_tables.difference_table(results),
        *comparison_tables.full_tables(results),
        comparison_tables.slices_table(results),
        published.table(results),
        costs.exact_table(results),
        costs.measured_table(results),
    ]
    return [table for table in found if table]


def _data(name: str, kept: Mapping[str, bytes]) -> Files:
    return {Path("data") / name / file: content for file, content in kept.items()}


def _tables(results: Numbers) -> Files:
    name, every = results.name, all_tables(results)
    words = f"{headline.headline(results)} {headline.details(results)}".strip()
    parts = [*_warnings(results), f"{words}\n", *map(formats.to_markdown, every), f"{published.statement(results)}\n"]
    latex = "\n".join(formats.to_latex(table, f"tab:{name}-{table.key}") for table in every)
    return {
        Path("tables") / f"{name}.md": "\n".join(parts).encode(),
        Path("tables") / f"{name}.csv": comparison_tables.to_csv(results).encode(),
        Path("tables") / f"{name}.tex": latex.encode(),
    }


def _figures(results: DatasetResults, shown: Contents) -> Files:
    """Every figure as SVG and as PDF, and a few predictions."""
    name = results.name
    images = gallery.figure_png(gallery.examples(results, gallery.FIGURE_EXPRESSIONS))
    files = {Path("figures") / f"{name}-gallery.png": images}
    for figure in shown.figures:
        files[Path("figures") / f"{name}-{figure.key}.svg"] = rendering.svg(figure, name).encode()
        files[Path("figures") / f"{name}-{figure.key}.pdf"] = rendering.pdf(figure)
    return files


def _warnings(results: Numbers) -> list[str]:
    """Every warning about the data, as a quotation in Markdown."""
    lines = [f"> **{lead}.**" for lead in [comparison_tables.data_warning(results)] if lead]
    lines += [f"> - {warning}" for warning in results.warnings]
    return [*lines, ""] if lines else []
