"""The processes of an injection, found by an environment variable that children inherit."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

MARK = "FAULTS_MARK"
WORDS = {  # a word of each kind's command line; a shell, which has all words in one argument, does not match
    "flow": "pipelines.experiment",
    "dvc": "pipelines.dvc",
    "plain dvc": "dvc",
    "trainer": "stages.train",
    "evaluator": "stages.evaluate",
    "preparer": "stages.prepare",
    "diagnoser": "stages.diagnose",
    "ablation": "stages.ablate",
    "report": "stages.report",
    "Prefect's server": "pipelines.prefect.server",
    "server": "server",
    "worker": "worker",
    "flow run": "prefect.engine",
}


WARM = "stages.runtime.warm"


def marked(mark: str) -> list[psutil.Process]:
    """All running processes with the mark, zombies excluded."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            continue
    return found


def of_kind(kind: str, mark: str) -> list[psutil.Process]:
    """The marked processes of a kind in `WORDS`; `everything` stands for all of them."""
    if kind == "everything":
        return marked(mark)
    found = [process for process in marked(mark) if WORDS[kind] in _command(process)]
    return found + (_forked(mark) if found and WORDS[kind].startswith("stages.") else [])


def _forked(mark: str) -> list[psutil.Process]:
    """The stage that runs, where it is forked from a warm process: it has the command line of that."""
    warm = [process for process in marked(mark) if WARM in _command(process)]
    return [process for process in warm if process.ppid() in {parent.pid for parent in warm}]


def family(heads: Iterable[psutil.Process]) -> list[psutil.Process]:
    """These processes and all their descendants, each once."""
    found = list(heads)
    for head in list(found):
        found += [child for child in head.children(recursive=True) if child not in found]
    return found


def dead_but_listed(pid: int) -> bool:
    """Whether the process is a zombie: it has ended, but its parent has not collected it yet."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def within(seconds: float, holds: Callable[[], object]) -> float | None:
    """Wait until `holds()` is true: the seconds it took, or None after `seconds`."""
    begin = time.monotonic()
    while not holds():
        if time.monotonic() - begin > seconds:
            return None
        time.sleep(0.05)
    return time.monotonic() - begin


def shown(processes: Iterable[psutil.Process]) -> str:
    def words(process: psutil.Process) -> str:
        program, *arguments = _command(process) or [""]
        return " ".join([Path(program).name, *arguments])[:100]

    return "; ".join(f"{process.pid} {words(process)}" for process in processes)


def end(mark: str) -> None:
    """Kill all processes that are left of an injection."""
    for process in marked(mark):
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return []
