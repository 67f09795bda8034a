"""DVC's own files after a kill or a full disk, so that DVC starts again.

DVC writes `dvc.lock` and `.dvc/tmp/rwlock` in place: a kill in that moment leaves them cut off, and every later `dvc`
ends with an error. A number of a dead process in `rwlock` may belong to another program after a restart of the machine;
DVC then waits for that one. The flow calls this before it reads the DAG.
"""

from collections.abc import Callable

import psutil

from stages.runtime import dvc_internals
from stages.runtime.dvc_internals import RWLOCK
from stages.runtime.keys import LOCK

DAMAGED = LOCK.with_name("dvc.lock.damaged")


def repair(say: Callable[[str], None] = print) -> None:
    """Put aside a `dvc.lock` that DVC cannot read, and drop from `rwlock` what no DVC process holds.

    Nothing is lost: stages that ran in this clone come from DVC's run-cache. Does nothing where all is well, and waits
    where a DVC process is at work on its files.

    Args:
        say: is told what was done.
    """
    if not _is_cut_off() and not _is_stale():
        return
    with dvc_internals.files_held():
        if _is_cut_off():  # still: nobody was just writing it
            LOCK.replace(DAMAGED)
            say(
                f"{LOCK} was cut off, as by a kill or a full disk: moved to {DAMAGED}. What ran here before comes from "
                f"DVC's run-cache; `git checkout {LOCK}` has the last commit's"
            )
        if _is_stale():
            RWLOCK.unlink()
            say(f"{RWLOCK} was cut off, or held by a process that is not DVC's: removed")


def _is_cut_off() -> bool:
    return LOCK.exists() and not dvc_internals.is_lock_file(LOCK)


def _is_stale() -> bool:
    """Whether it cannot be read, or DVC would wait for a process in it that is no DVC, while none in it is one."""
    try:
        signed = dvc_internals.holders()
    except FileNotFoundError:
        return False
    except ValueError:
        return True
    alive = [info for info in signed if psutil.pid_exists(info["pid"])]
    return bool(alive) and not any(_signed(**info) for info in alive)


def _signed(pid: int, cmd: str) -> bool:
    """Whether the process is the one that signed: its arguments are those of the command."""
    try:
        return " ".join(psutil.Process(pid).cmdline()).endswith(cmd.partition(" ")[2])
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
