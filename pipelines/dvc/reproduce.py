"""Brings one stage up to date with `dvc repro --single-item`: passes its lines on, and leaves nothing running.

Of another experiment than the default one, with its folder as DVC's current folder.
"""

import enum
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from pipelines.dvc import stage_name
from stages.runtime import experiments
from stages.runtime.dvc_internals import BUSY, CACHED, ERROR, SKIPPED, UNREACHABLE, is_locked
from stages.runtime.experiments import DEFAULT
from stages.runtime.warm import OWNER

PATIENCE = 6  # seconds between the interrupt and the kill

_running: set[subprocess.Popen] = set()
_stopping = threading.Event()


class Outcome(enum.StrEnum):
    """What `dvc repro` did with a stage."""

    RAN = "ran"
    CACHED = "cached"  # it ran before with the same inputs: its outputs come from the run-cache
    UNCHANGED = "unchanged"


class StageFailedError(Exception):
    """`dvc` ended with an error; the message names the stage and holds DVC's last lines."""


class LockedError(StageFailedError):
    """Another DVC process holds a lock: nothing ran, and the stage may be tried again."""


class StorageError(StageFailedError):
    """The DVC remote does not answer, answers with 5xx, or cuts connections: the stage may be tried again."""


def reproduce(
    stage: str, say: Callable[[str], None], pull: bool = False, environment: Mapping[str, str] | None = None
) -> Outcome:
    """Bring one stage up to date.

    Args:
        say: gets every line.
        pull: also look in the DVC remote, for inputs that are missing here and for a run with the same inputs.
        environment: variables for the stage, in addition to those of this process.

    Raises:
        LockedError: another DVC process holds a lock.
        StorageError: the DVC remote is away.
        StageFailedError: the stage failed, or `stop` was called.
    """
    options = ["--single-item", *(["--pull"] if pull else [])]
    lines = dvc("repro", *options, stage=stage, say=say, environment=environment)
    if any(SKIPPED in line for line in lines):
        return Outcome.UNCHANGED
    return Outcome.CACHED if any(CACHED in line for line in lines) else Outcome.RAN


def dvc(
    *arguments: str, stage: str, say: Callable[[str], None], environment: Mapping[str, str] | None = None
) -> list[str]:
    """Run a `dvc` command on a stage, and return its lines. Ends and raises as `run`."""
    experiment, bare = stage_name.split(stage)
    place = [] if experiment == DEFAULT else ["--cd", str(experiments.folder(experiment))]
    called = f"dvc {' '.join(arguments)} {stage}"
    return run(called, "pipelines.dvc", *place, *arguments, bare, say=say, environment=environment)


def run(
    called: str,
    module: str,
    *arguments: str,
    say: Callable[[str], None],
    environment: Mapping[str, str] | None = None,
) -> list[str]:
    """Run a Python module, and return its lines. However this ends, the process and all its children have ended.

    Args:
        called: the command in words, for errors.

    Raises:
        LockedError, StorageError, StageFailedError: as `reproduce`.
    """
    if _stopping.is_set():
        raise StageFailedError(f"{called} not started: everything is being stopped")
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        env={**with_own_programs(), OWNER: str(os.getpid()), **(environment or {})},
    )
    _running.add(process)
    lines = []
    try:
        for line in process.stdout:
            if line := line.rstrip():
                lines.append(line)
                say(line)
        code = process.wait()
    finally:
        _end([process])
        process.stdout.close()
        _running.discard(process)
    if code:
        raise _error(f"{called} ended with code {code}", lines)
    return lines


def with_own_programs() -> dict[str, str]:
    """The environment of a stage's command: its `python` is the one that runs this."""
    return {**os.environ, "PATH": f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"}


def _error(ended: str, lines: list[str]) -> StageFailedError:
    if any(map(is_locked, lines)):
        return LockedError(f"{ended}:\nanother DVC command works in this project")
    errors = [line for line in lines if line.startswith(ERROR)]
    if any(BUSY in line for line in lines):
        error = LockedError
    elif any(message in line for line in errors for message in UNREACHABLE):
        error = StorageError
    else:
        error = StageFailedError
    return error(f"{ended}:\n" + "\n".join(lines[-10:]))


def stop() -> None:
    """Start no further stage, and end all that run, in whichever thread they were started."""
    _stopping.set()
    _end(list(_running))


def _end(processes: Iterable[subprocess.Popen]) -> None:
    """Interrupt the sessions, as Ctrl-C would. What is left when DVC has ended, or after `PATIENCE`, is killed."""
    for process in processes:
        if process.poll() is None:
            _signal(process, signal.SIGINT)
    deadline = time.monotonic() + PATIENCE
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0, deadline - time.monotonic()))
        _signal(process, signal.SIGKILL)
        process.wait()


def _signal(process: subprocess.Popen, number: int) -> None:
    """Send a signal to the session of a process, which has the same number and lives as long as any process in it."""
    with suppress(ProcessLookupError, PermissionError):  # macOS: not permitted where all are dead
        os.killpg(process.pid, number)
