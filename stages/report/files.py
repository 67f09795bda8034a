"""Every file of the report, in memory: from the results of all stages, or what can be made of the kept data alone."""

from collections.abc import Mapping
from pathlib import Path

from stages import layout, prepared
from stages.params import Params
from stages.report import curves, formats, gallery, headline, inputs, page, provenance, published, tables
from stages.report.inputs import DatasetResults, Numbers
from stages.report.tables import Table

Files = dict[Path, bytes]  # path in reports/ -> content
FOLDERS = ("tables", "figures", "data")


def of_results(params: Params) -> Files:
    """The whole report on the listed datasets.

    Raises:
        ReportError: a result is missing or of another experiment; a photo cannot be shown.
        FileNotFoundError: there is no prepared dataset.
    """
    datasets = [inputs.read(name, params) for name in params.experiment.datasets]
    shown = {results.name: gallery.examples(results) for results in datasets}
    files = {Path("index.html"): page.render(params, datasets, shown).encode()}
    files[provenance.FILE] = provenance.write(provenance.collect(params, datasets))
    for results in datasets:
        kept = inputs.collect(results.name, params, prepared.read(layout.prepared(results.name)))
        files |= _data(results.name, kept) | _tables(results) | _figures(results)
    return files


def of_kept_data(params: Params) -> Files:
    """The tables alone, from `reports/data`.

    Raises:
        ReportError: a file is missing there, or of another experiment.
    """
    files = {}
    for name in params.experiment.datasets:
        files |= _tables(inputs.numbers(name, params, inputs.committed(name)))
    return files


def all_tables(results: Numbers) -> list[Table]:
    """Every table about a dataset, in the order in which they are read."""
    found = [
        tables.main_table(results),
        tables.contrast_table(results),
        tables.difference_table(results),
        *tables.full_tables(results),
        tables.slices_table(results),
        published.table(results),
        tables.cost_table(results),
        tables.measured_table(results),
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
        Path("tables") / f"{name}.csv": tables.to_csv(results).encode(),
        Path("tables") / f"{name}.tex": latex.encode(),
    }


def _figures(results: DatasetResults) -> Files:
    name = results.name
    figure = curves.figure_svg(results.histories, list(curves.PANELS), salt=name, legend=True)
    pictures = gallery.figure_png(gallery.examples(results, gallery.FIGURE_EXPRESSIONS))
    return {
        Path("figures") / f"{name}-curves.svg": figure.encode(),
        Path("figures") / f"{name}-gallery.png": pictures,
    }


def _warnings(results: Numbers) -> list[str]:
    """Every warning about the data, as a quotation in Markdown."""
    lines = [f"> **{lead}.**" for lead in [tables.data_warning(results)] if lead]
    lines += [f"> - {warning}" for warning in results.warnings]
    return [*lines, ""] if lines else []
