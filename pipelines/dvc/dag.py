"""The stages of `dvc.yaml` and what each waits for, as DVC itself reads them."""

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from stages.runtime.atomic_write import atomic_write

Dag = dict[str, set[str]]  # stage -> the stages it waits for, in an order in which they can run

READ = """
import json, sys
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.repo.reproduce import plan_repro

def is_unchanged(stage):
    try:
        return not stage.changed()
    except DvcException:
        return False

with Repo() as repo:
    graph = repo.index.graph
    stages = plan_repro(graph)
    dag = {stage.addressing: sorted(needed.addressing for needed in graph.successors(stage)) for stage in stages}
    unchanged = []
    if "unchanged" in sys.argv:
        try:
            with repo.lock:
                unchanged = [stage.addressing for stage in stages if is_unchanged(stage)]
        except DvcException:
            pass
    json.dump([dag, unchanged], sys.stdout)
"""


class DagError(Exception):
    """The DAG cannot be read, or a target is not in it; the message names the way out."""


def check_root() -> None:
    """Raises DagError where the current folder is not the root of a DVC project."""
    if not Path(".dvc").is_dir():
        raise DagError(f"{Path.cwd()} is not the root of a DVC project: run from the project's root")


def read() -> Dag:
    """Every stage of the project in the current folder, in the order of `dvc repro`: each after those it waits for.

    In a process of its own: `Repo` depends on the working directory.

    Raises:
        DagError: with DVC's own message, where this is no DVC project or its files are wrong.
    """
    return _ask()[0]


def look() -> tuple[Dag, set[str]]:
    """The same, and the stages that `dvc repro` would skip as things are: a second for all, where one takes as long.

    Of those that another DVC process is at work on, none is among them. Raises DagError as `read`.
    """
    return _ask("unchanged")


def _ask(*arguments: str) -> tuple[Dag, set[str]]:
    done = subprocess.run([sys.executable, "-c", READ, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise DagError(f"DVC cannot read the pipeline: {done.stderr.strip().splitlines()[-1]}")
    dag, unchanged = json.loads(done.stdout)
    return {stage: set(needed) for stage, needed in dag.items()}, set(unchanged)


def sort_lock(dag: Dag) -> None:
    """Put the entries of dvc.lock into the order of `dvc repro`; stages side by side leave them as they ended.

    Nothing depends on the order: where another DVC process holds the lock, the next flow does it.
    """
    from dvc.lock import LockError
    from dvc.repo import Repo
    from dvc.utils.serialize import dump_yaml, load_yaml

    order = {stage: position for position, stage in enumerate(dag)}
    lock = Path("dvc.lock")
    with suppress(LockError), Repo() as repo, repo.lock:
        if lock.exists():
            content = load_yaml(lock)
            entries = content["stages"]
            content["stages"] = dict(sorted(entries.items(), key=lambda item: order.get(item[0], len(order))))
            if list(content["stages"]) != list(entries):
                with atomic_write(lock) as new:
                    dump_yaml(new, content)


def restrict(dag: Dag, targets: Sequence[str]) -> Dag:
    """What the targets are made from, and the targets. A target is a stage, or all of a matrix by its name: `train`.

    Raises:
        DagError: a target names no stage.
    """
    if not targets:
        return dag
    wanted: set[str] = set()
    for target in targets:
        named = {stage for stage in dag if stage == target or stage.split("@")[0] == target}
        if not named:
            raise DagError(f"no stage {target!r}; dvc.yaml has: {', '.join(dag)}")
        wanted |= named
    kept = _with_ancestors(dag, wanted)
    return {stage: needed for stage, needed in dag.items() if stage in kept}


def _with_ancestors(dag: Dag, stages: Iterable[str]) -> set[str]:
    found, waiting = set(), list(stages)
    while waiting:
        stage = waiting.pop()
        if stage not in found:
            found.add(stage)
            waiting += dag[stage]
    return found
