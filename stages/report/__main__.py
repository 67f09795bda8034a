"""`python -m stages.report`: the results on the listed datasets -> `reports/`: tables, figures and one page."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from stages import tracking
from stages.report import assemble, check
from stages.report.assemble import FOLDERS, Files
from stages.report.dataset_numbers import ReportError
from stages.runtime import layout, params
from stages.runtime.atomic_write import atomic_write
from stages.runtime.params import Params


def main(arguments: Sequence[str] | None = None) -> None:
    """Write tables, figures, kept data, provenance and the page; or check that none of them is stale."""
    options = _parser().parse_args(arguments)
    settings = params.read_or_exit()
    if options.check:
        _check(settings)
        return
    try:
        made = assemble.of_results(settings)
    except (ReportError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
    _write(made, layout.REPORTS)
    for name in settings.experiment.datasets:
        tracking.log_report(name, layout.comparison(name), [layout.REPORTS / path for path in made])


def _check(settings: Params) -> None:
    """Exit with code 1 and name what is stale, where something is."""
    stale, looked = check.check(settings)
    if stale:
        sys.exit("\n".join([f"{layout.REPORTS} is stale ({looked}):", *(f"  {line}" for line in stale)]))
    print(f"{layout.REPORTS} is up to date: {looked}")


def _write(made: Files, folder: Path) -> None:
    """Write folder by folder, as DVC keeps them, then the files beside them; what only an earlier report had goes."""
    for part in FOLDERS:
        with atomic_write(folder / part) as partial:
            for path, content in made.items():
                if path.is_relative_to(part):
                    place = partial / path.relative_to(part)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    place.write_bytes(content)
    for path, content in made.items():
        if path.parts[0] not in FOLDERS:
            with atomic_write(folder / path) as partial:
                partial.write_bytes(content)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m stages.report",
        description="Write reports/: tables, figures and one offline page about the datasets listed in params.yaml.",
    )
    parser.add_argument("--check", action="store_true", help="write nothing, exit with 1 where the report is stale")
    return parser


if __name__ == "__main__":
    main()
