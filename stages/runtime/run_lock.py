"""A lock, so that only one process trains a run: two would write the same files."""

import datetime
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from stages.runtime.errors import UserError
from stages.runtime.processes import here


class RunTakenError(UserError):
    """Another process trains this run; the message names it."""


@contextmanager
def only_trainer(folder: Path) -> Iterator[None]:
    """Hold the lock of the run whose checkpoints are in `folder`. If several processes train it, the main one does.

    The operating system releases the lock when the process ends, even by a signal. The file that names the holder may
    outlive the process.

    Raises:
        RunTakenError: another process holds the lock. There is no waiting.
    """
    if not here().is_main_process:
        yield
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock, holder = FileLock(folder.with_name(f"{folder.name}.lock")), folder.with_name(f"{folder.name}.holder")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        named = (
            holder.read_text(encoding="utf-8").strip()
            if holder.exists()
            else "a process that has not given its name yet"
        )
        raise RunTakenError(
            f"{folder.name} is being trained already, by {named}. Wait for it, or end it and run the same "
            "command again, which resumes from its checkpoints"
        ) from None
    try:
        now = datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()}, since {now}\n", encoding="utf-8")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()
