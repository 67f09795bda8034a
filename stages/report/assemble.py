"""Every file of the report, in memory: all of them from the results of all stages, tables from the kept data alone."""

import json
from collections.abc import Sequence
from pathlib import Path

from stages.report import dataset_numbers, dataset_results, dvc_metrics, provenance
from stages.report.dataset_numbers import DatasetNumbers
from stages.report.dataset_results import DatasetResults
from stages.report.figures import gallery, gallery_png, rendering
from stages.report.page import glance, headline, index, sections
from stages.report.page.sections import DatasetSection
from stages.report.tables import (
    ablation_tables,
    captions,
    comparison_csv,
    comparison_tables,
    contrast_tables,
    cost_tables,
    factorial_tables,
    formats,
    language_tables,
    learning_tables,
    markdown,
    plan_tables,
    pooled_tables,
    protocol_tables,
    published,
    slice_tables,
    wide_tables,
)
from stages.report.tables.table import Table
from stages.runtime import layout
from stages.runtime.params import Params

Files = dict[Path, bytes]  # path in reports/ -> content
FOLDERS = ("tables", "figures", "data")


def of_results(params: Params) -> Files:
    """The whole report on the listed datasets.

    Raises:
        ReportError: a result is missing or of another experiment; an image cannot be shown.
        FileNotFoundError: there is no prepared dataset, or the stage `params` has not run.
    """
    datasets = [dataset_results.read(name, params) for name in params.experiment.datasets]
    shown = {results.name: sections.gather(results, params) for results in datasets}
    made_of = provenance.collect(params, {results.name: results.fingerprint for results in datasets})
    links = json.loads(layout.LINKS.read_text(encoding="utf-8"))
    files = {
        Path("index.html"): index.render(params, datasets, shown, made_of, links).encode(),
        provenance.FILE: provenance.write(made_of),
        dvc_metrics.FILE: dvc_metrics.to_json(datasets),
    }
    for results in datasets:
        files |= _data(results) | _tables(results) | _sentences(results) | _figures(results, shown[results.name])
    return files | _common_tables(datasets)


def of_kept_data(params: Params) -> Files:
    """The tables, the result in sentences and DVC's metrics alone, from `reports/data`.

    Raises:
        ReportError: a file is missing there, or of another experiment.
    """
    datasets = [
        dataset_numbers.from_files(name, params, dataset_numbers.kept_files(name, params))
        for name in params.experiment.datasets
    ]
    files = _common_tables(datasets) | {dvc_metrics.FILE: dvc_metrics.to_json(datasets)}
    for results in datasets:
        files |= _tables(results) | _sentences(results)
    return files


def common_tables(datasets: Sequence[DatasetNumbers]) -> list[Table]:
    """Every table about all datasets together, in reading order."""
    pooled = pooled_tables.table(datasets)
    return [*wide_tables.tables(datasets), *([pooled] if pooled else [])]


def all_tables(results: DatasetNumbers) -> list[Table]:
    """Every table about a dataset, in reading order."""
    found = [
        comparison_tables.main_table(results),
        *ablation_tables.tables(results),
        contrast_tables.table(results),
        factorial_tables.table(results),
        language_tables.table(results),
        comparison_tables.difference_table(results),
        *comparison_tables.full_tables(results),
        slice_tables.table(results),
        learning_tables.table(results),
        plan_tables.table(results),
        *protocol_tables.tables(results),
        published.table(results),
        cost_tables.table(results),
    ]
    return [table for table in found if table]


def _data(results: DatasetResults) -> Files:
    return {Path("data") / results.name / file: content for file, content in results.files.items()}


def _sentences(results: DatasetNumbers) -> Files:
    """What stands first on the page, for those who show the result elsewhere."""
    said = glance.sentences(glance.glance(results))
    path = layout.result(results.name).relative_to(layout.REPORTS)
    return {path: json.dumps(said, indent=1, ensure_ascii=False).encode() + b"\n"}


def _tables(results: DatasetNumbers) -> Files:
    name, every = results.name, all_tables(results)
    say = (headline.headline, headline.other_parts, headline.details, headline.effects, headline.others)
    words = " ".join(filter(None, (sentences(results) for sentences in say)))
    parts = [*_warnings(results), f"{words}\n", *map(markdown.to_markdown, every), f"{published.statement(results)}\n"]
    folder = Path("tables")
    return {
        folder / f"{name}.md": "\n".join([*parts, f"{formats.MADE_BY}\n"]).encode(),
        folder / f"{name}.csv": comparison_csv.to_csv(results).encode(),
    } | {path: content for table in every for path, content in _formats(table, folder / name, name).items()}


def _common_tables(datasets: Sequence[DatasetNumbers]) -> Files:
    folder = Path("tables")
    return {
        path: content for table in common_tables(datasets) for path, content in _formats(table, folder, "all").items()
    }


def _formats(table: Table, folder: Path, of: str) -> Files:
    return {
        folder / f"{table.key}{end}": text.encode() for end, text in formats.of(table, formats.label(table, of)).items()
    }


def _figures(results: DatasetResults, shown: DatasetSection) -> Files:
    """Every figure as SVG and as PDF, and a gallery of predictions as PNG where images are shown."""
    name, files = results.name, {}
    if shown.galleries:
        images = gallery_png.png(gallery.examples(results, gallery_png.EXPRESSIONS))
        files[Path("figures") / f"{name}-gallery.png"] = images
    for figure in shown.figures:
        for kind, content in zip(("svg", "pdf"), rendering.files(figure, name), strict=True):
            files[Path("figures") / f"{name}-{figure.key}.{kind}"] = content
    return files


def _warnings(results: DatasetNumbers) -> list[str]:
    """Every warning about the data, as a block quotation in Markdown."""
    rising = learning_tables.warning(results)
    lines = [f"> **{lead}.**" for lead in [captions.data_warning(results)] if lead]
    lines += [f"> - {warning}" for warning in [*results.warnings, *([rising] if rising else [])]]
    return [*lines, ""] if lines else []
