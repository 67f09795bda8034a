"""The report in `reports/`: written whole, or compared with what would be written."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from stages.report import assemble, check, checked
from stages.report.assemble import FOLDERS, Files
from stages.runtime import keys, layout
from stages.runtime.atomic_write import atomic_write
from stages.runtime.params import Params
from stages.tracking import live


def write(settings: Params) -> None:
    """Write tables, figures, kept data, provenance and the page, and tell MLflow; name what an earlier report had.

    Raises:
        ReportError: an input is missing or belongs to another experiment.
        FileNotFoundError: a dataset is not prepared.
    """
    made = assemble.of_results(settings)
    _write(made, layout.REPORTS)
    for name in settings.experiment.datasets:
        live.log_report(name, layout.comparison(name), [layout.REPORTS / path for path in made])
    reports = layout.from_root(layout.REPORTS)
    if gone := ", ".join(_gone(settings.experiment.datasets)):
        print(
            f"{reports} is about {', '.join(settings.experiment.datasets)} alone now; its tracked files about "
            f"{gone} are removed. Git keeps them. To have them back, list {gone} in experiment.datasets again and run: "
            f"git restore {reports} {layout.from_root(keys.LOCK)}"
        )


def check_or_exit(settings: Params) -> None:
    """Print that the report is up to date; where it is not, exit with code 1 and name what is stale."""
    reports = layout.from_root(layout.REPORTS)
    with checked.remembered(settings) as remember:
        stale, looked = check.check(settings)
        if stale:
            sys.exit("\n".join([f"{reports} is stale ({looked}):", *(f"  {line}" for line in stale)]))
        remember(looked)
    print(f"{reports} is up to date: {looked}")


def _gone(datasets: Sequence[str]) -> list[str]:
    """Datasets not listed whose report git tracks and nobody has any more; none where this is no git repository."""
    command = ["git", "ls-files", "--deleted", "-z", "--", str(layout.REPORTS / "data")]
    try:
        deleted = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    names = {Path(path).parts[2] for path in deleted.split("\0") if path}
    return sorted(names - set(datasets))


def _write(made: Files, folder: Path) -> None:
    """Folder by folder, as DVC keeps them, and the files beside them; what an earlier report had more of goes."""
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
