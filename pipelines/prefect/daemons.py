"""The Prefect processes of the current folder: finds, starts and ends them.

They are recognised by their command line and working directory. Files with process numbers would be wrong after a
`kill -9`, and after a restart of the machine they would name other processes.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

import psutil

from pipelines.prefect import internals
from stages.runtime.parent import alive

Kind = Literal["server", "worker"]

PATIENCE = 12  # seconds between SIGTERM and the kill; a flow needs up to 8 to end its stages


def running(kind: Kind, *arguments: str) -> list[psutil.Process]:
    """Every `prefect KIND start` of this folder with these arguments, whoever started it.

    The `info` of each has its `cmdline` and `environ`: a process that has ended cannot be asked.
    """
    found = [process for process in _of_this_folder() if _starts(kind, process.info["cmdline"])]
    return [process for process in found if set(arguments) <= set(process.info["cmdline"])]


def flow_runs() -> dict[psutil.Process, str]:
    """Every process that a worker started in this folder, and their children (dvc, trainers) -> id of the flow run."""
    found = {process: internals.flow_run_of(process.info["environ"]) for process in _of_this_folder()}
    return {process: run for process, run in found.items() if run}


def start(kind: Kind, arguments: Iterable[str], variables: Mapping[str, str], log: Path) -> psutil.Popen:
    """`prefect KIND start` in a session of its own: it goes on when this process or its terminal ends.

    Args:
        variables: for its environment.
        log: the file that its output is appended to.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        return psutil.Popen(
            [sys.executable, "-m", "prefect", kind, "start", *arguments],
            env={**os.environ, **variables, "PWD": os.getcwd()},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def end(processes: Iterable[psutil.Process]) -> None:
    """End processes and all that they started. Returns when all have ended.

    Those that none of the others started get SIGTERM; what is left after `PATIENCE` is killed.
    """
    heads = set(processes)
    started = {child for process in heads for child in _children(process)}
    for process in heads - started:
        _signal(process, signal.SIGTERM)
    if not _ended(heads | started):
        for process in heads | started:
            _signal(process, signal.SIGKILL)
        _ended(heads | started)


def _of_this_folder() -> list[psutil.Process]:
    here, me = os.path.realpath(os.getcwd()), psutil.Process()
    asked = psutil.process_iter(["cwd", "username", "cmdline", "environ"])  # None: another user's, or it has just ended
    return [
        process
        for process in asked
        if process != me
        and process.info["cwd"] == here
        and process.info["username"] == me.username()
        and process.info["cmdline"] is not None
        and process.info["environ"] is not None
    ]


def _starts(kind: Kind, command: list[str]) -> bool:
    """`python -m prefect server start ...` or `.../bin/prefect server start ...`"""
    names = [Path(argument).name for argument in command]
    return any(names[i : i + 3] == ["prefect", kind, "start"] for i in range(len(names)))


def _children(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return process.children(recursive=True)
    return []


def _ended(processes: set[psutil.Process]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while any(map(alive, processes)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _signal(process: psutil.Process, number: int) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)
