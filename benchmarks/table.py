"""Rows of results: their common columns, and adding them to a file."""

import csv
import datetime
import os
import platform
import resource
import sys
from importlib.metadata import version
from pathlib import Path


def surroundings(*libraries: str, machine: str | None = None) -> dict[str, str]:
    """The columns of every row: date, machine (by default this one), and versions of Python and libraries."""
    return {
        "date": datetime.date.today().isoformat(),
        "machine": machine or f"{platform.machine()}, {os.cpu_count()} CPU cores",
        "versions": "; ".join(
            [f"python {platform.python_version()}", *(f"{name} {version(name)}" for name in libraries)]
        ),
    }


def command(benchmark: str) -> str:
    """The command line of the running benchmark, as it is given in the project's folder."""
    return " ".join([f"python -m benchmarks.{benchmark}", *sys.argv[1:]])


def cpu_of_children() -> float:
    """CPU seconds of the processes that this one has started and waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def append(path: Path, rows: list[dict[str, object]]) -> None:
    """Add rows to a CSV file, which is created if missing. Raises ValueError if it has other columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns, new = list(rows[0]), not path.exists()
    if not new:
        with path.open(newline="", encoding="utf-8") as file:
            columns = next(csv.reader(file))
    if set(columns) != set(rows[0]):
        raise ValueError(f"{path} has the columns {columns}, the new rows {list(rows[0])}: move the file away")
    with path.open("a", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns, lineterminator="\n")
        if new:
            table.writeheader()
        table.writerows(rows)
