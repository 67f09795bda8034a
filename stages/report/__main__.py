"""`python -m stages.report`: the comparisons of the listed datasets -> `reports/`, tables, figures and one page."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from stages import layout, params, tracking
from stages.report import contents, figures, gallery, headline, inputs, page, tables
from stages.report.contents import Contents
from stages.report.inputs import DatasetResults


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the results of every listed dataset, choose the expressions to show, write tables, figures and the page."""
    _parser().parse_args(arguments)
    settings = params.read_or_exit()
    try:
        datasets = [inputs.read(name, settings) for name in settings.experiment.datasets]
        shown = {results.name: contents.gather(results, settings) for results in datasets}
        files = _files(datasets) | _figure_files(shown)
        files[Path("index.html")] = page.render(settings, datasets, shown, {"command": tables.COMMAND}).encode()
    except (inputs.ReportError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
    _write(files, layout.REPORTS)
    for results in datasets:
        own = [path for path in files if path.name.startswith((f"{results.name}.", f"{results.name}-"))]
        tracking.log_report(
            results.name,
            layout.comparison(results.name),
            [layout.REPORTS / path for path in (*own, Path("index.html"))],
        )


def _files(datasets: list[DatasetResults]) -> dict[Path, bytes]:
    files = {}
    for results in datasets:
        name, every = results.name, [tables.main_table(results), *tables.full_tables(results)]
        words = f"{headline.headline(results)} {headline.details(results)}".strip()
        markdown = "\n".join([*_warnings(results), f"{words}\n", *(tables.to_markdown(table) for table in every)])
        latex = "\n".join(tables.to_latex(table, f"tab:{name}-{table.key}") for table in every)
        files |= {
            Path("tables") / f"{name}.md": markdown.encode(),
            Path("tables") / f"{name}.csv": tables.to_csv(results).encode(),
            Path("tables") / f"{name}.tex": latex.encode(),
            Path("figures") / f"{name}-gallery.png": gallery.figure_png(
                gallery.examples(results, gallery.FIGURE_EXPRESSIONS)
            ),
        }
    return files


def _figure_files(shown: dict[str, Contents]) -> dict[Path, bytes]:
    """Every figure of every dataset as SVG and as PDF."""
    return {
        Path("figures") / f"{name}-{figure.key}.{kind}": content
        for name, of_dataset in shown.items()
        for figure in of_dataset.figures
        for kind, content in (("svg", figures.svg(figure, name).encode()), ("pdf", figures.pdf(figure)))
    }


def _warnings(results: DatasetResults) -> list[str]:
    """Every warning about the data, as a quotation in Markdown."""
    lines = [f"> **{lead}.**" for lead in [tables.data_warning(results)] if lead]
    lines += [f"> - {warning}" for warning in results.warnings]
    return [*lines, ""] if lines else []


def _write(files: dict[Path, bytes], folder: Path) -> None:
    for part in ("tables", "figures"):
        (folder / part).mkdir(parents=True, exist_ok=True)
        for path in (folder / part).iterdir():
            if path.is_file() and path.relative_to(folder) not in files:
                path.unlink()
    for path, content in files.items():
        (folder / path).write_bytes(content)


def _parser() -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog="python -m stages.report",
        description="Write reports/: tables, figures and one offline page about the datasets listed in params.yaml.",
    )


if __name__ == "__main__":
    main()
