"""One DVC stage through `dvc repro --single-item`, its lines passed on as they come, and nothing left running."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

GRACE = 20  # seconds between the interrupt and the end
LOCKED = ("Unable to acquire lock", "is busy, it is being blocked by")
UNCHANGED = "didn't change, skipping"

_running: set[subprocess.Popen] = set()
_stopping = threading.Event()


class StageFailedError(Exception):
    """`dvc repro` of a stage ended with an error; the message names the stage and holds DVC's last lines."""


class LockedError(StageFailedError):
    """Another DVC process held a lock: nothing was run, and the stage may be tried again."""


def reproduce(stage: str, say: Callable[[str], None]) -> bool:
    """Bring one stage up to date. True where it ran or came from the cache, False where nothing had changed.

    Raises:
        LockedError: another DVC process held a lock.
        StageFailedError: the stage failed, or `stop` was called.
    """
    if _stopping.is_set():
        raise StageFailedError(f"{stage} not started: everything is being stopped")
    code, lines = _dvc("repro", "--single-item", stage, say=say)
    if code:
        error = LockedError if any(message in line for line in lines for message in LOCKED) else StageFailedError
        raise error(f"{stage} failed (exit code {code}):\n" + "\n".join(lines[-10:]))
    return not any(UNCHANGED in line for line in lines)


def _dvc(*arguments: str, say: Callable[[str], None]) -> tuple[int, list[str]]:
    """Exit code and lines. However this is left, the process and all its children are gone."""
    command = [sys.executable, "-m", "dvc", *arguments]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        env={**os.environ, "PATH": f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"},
    )
    _running.add(process)
    lines = []
    try:
        for line in process.stdout:
            if line := line.rstrip():
                lines.append(line)
                say(line)
        return process.wait(), lines
    finally:
        if process.poll() is None:
            _end(process)
        process.stdout.close()
        _running.discard(process)


def stop() -> None:
    """Start no further stage, and end every one that runs, in whichever thread it was started."""
    _stopping.set()
    for process in list(_running):
        if process.poll() is None:
            _end(process)


def _end(process: subprocess.Popen) -> None:
    """Interrupt the session, as Ctrl-C would; what is still there when DVC is gone, or after a while, is killed."""
    os.killpg(process.pid, signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
