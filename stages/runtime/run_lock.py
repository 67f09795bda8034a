"""One trainer a run: two would write the same files."""

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
    """Hold the run whose checkpoints lie in a folder; of several processes of one training, the main one does.

    The lock beside the folder is the system's own: it ends with the process, however that ends. The file with the
    holder's name may outlive it.

    Raises:
        RunTakenError: at once, where another process holds it.
    """
    if not here().is_main_process:
        yield
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock, holder = FileLock(folder.with_name(f"{folder.name}.lock")), folder.with_name(f"{folder.name}.holder")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        named = holder.read_text(encoding="utf-8").strip() if holder.exists() else "a process that has yet to sign"
        raise RunTakenError(
            f"{folder.name} is being trained already, by {named}. Wait for it or end it: it leaves checkpoints, from "
            "which the same command then goes on"
        ) from None
    try:
        now = datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()}, since {now}\n", encoding="utf-8")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()
