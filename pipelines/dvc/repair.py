"""Mends DVC's own files after a kill or a full disk, so that DVC starts again.

DVC writes `dvc.lock` and `.dvc/tmp/rwlock` in place. A kill in that moment leaves half a file, and every later `dvc`
ends with an error. After a restart of the machine, the number of a dead process in `rwlock` may belong to another
program, and DVC waits for that program. The flow calls `repair` before it reads the DAG.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

from pipelines.dvc.dag import DagError
from stages.runtime import dvc_internals, experiments, merge_conflicts
from stages.runtime.dvc_internals import RWLOCK
from stages.runtime.experiments import DEFAULT
from stages.runtime.keys import LOCK

DAMAGED = ".damaged"  # is added to the name of a file that is put aside


def repair(say: Callable[[str], None] = print, of: Iterable[str] = (DEFAULT,)) -> None:
    """Put aside a `dvc.lock` that DVC cannot read, and remove an `rwlock` that no DVC process holds.

    Nothing is lost: stages that ran in this clone come from DVC's run-cache. Changes nothing where the files are whole,
    and waits where a DVC process is writing them.

    Args:
        say: gets one line for each thing done.
        of: the experiments whose `dvc.lock` is looked at.

    Raises:
        DagError: a `dvc.lock` holds a merge conflict, whose sides only the user can choose from.
    """
    locks = [experiments.folder(name) / LOCK for name in of]
    if not any(map(_is_cut_off, locks)) and not _is_stale():
        return
    with dvc_internals.files_held():
        for lock in filter(_is_cut_off, locks):  # still: no process was just writing it
            if conflict := merge_conflicts.named(lock):
                raise DagError(f"{conflict}. `dvc repro` then runs what the other side alone has")
            damaged = lock.replace(lock.with_name(f"{lock.name}{DAMAGED}"))
            say(
                f"{lock} was cut off, as by a kill or a full disk: moved to {damaged}. What ran here before comes from "
                f"DVC's run-cache; `git checkout {lock}` has the last commit's"
            )
        if _is_stale():
            RWLOCK.unlink()
            say(f"{RWLOCK} was cut off, or held by a process that is not DVC's: removed")


def _is_cut_off(lock: Path) -> bool:
    return lock.exists() and not dvc_internals.is_lock_file(lock)


def _is_stale() -> bool:
    """Whether `rwlock` cannot be read, or keeps DVC waiting: processes in it are alive, and none of them is DVC."""
    try:
        listed = dvc_internals.holders()
    except FileNotFoundError:
        return False
    except ValueError:
        return True
    alive = [info for info in listed if psutil.pid_exists(info["pid"])]
    return bool(alive) and not any(_is_writer(**info) for info in alive)


def _is_writer(pid: int, cmd: str) -> bool:
    """Whether the process is the one that wrote the entry: it has the arguments of that command."""
    try:
        return " ".join(psutil.Process(pid).cmdline()).endswith(cmd.partition(" ")[2])
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
