"""The stages of `dvc.yaml` and what each waits for, as DVC itself reads them."""

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from stages.runtime import dvc_internals, keys, layout, merge_conflicts
from stages.runtime.dvc_internals import DvcStage

Dag = dict[str, set[str]]  # stage -> the stages it waits for, in an order in which they can run


class Pipeline(NamedTuple):
    """The stages and their state.

    Attributes:
        dag: every stage.
        unchanged: the stages that `dvc repro` would skip.
        outputs: stage -> path -> hash: the outputs of those that DVC runs each time (`always_changed`), where they lie
            there as `dvc.lock` records them.
        commands: the commands of these stages.
    """

    dag: Dag
    unchanged: set[str]
    outputs: dict[str, dict[str, str]]
    commands: dict[str, str] = {}  # noqa: RUF012 (never changed)


class DagError(Exception):
    """The DAG cannot be read, or a target is not in it; the message names the way out."""


def check_root() -> None:
    """Raises DagError where the current folder is not the root of a DVC project."""
    if not Path(".dvc").is_dir():
        raise DagError(f"{Path.cwd()} is not the root of a DVC project: run from the project's root")


def read() -> Dag:
    """Every stage of the project in the current folder, in the order of `dvc repro`: each after those it waits for.

    Raises:
        DagError: with DVC's own message, where this is no DVC project or its files are wrong.
    """
    return _dag(_stages())


def look() -> Pipeline:
    """The same, with the state of each stage. Takes a second for all stages; `dvc repro` takes a second for each.

    Of a stage that another DVC process is running, no state is known. Raises DagError as `read`.
    """
    stages = _stages("look")
    return Pipeline(
        _dag(stages),
        unchanged={stage.name for stage in stages if stage.unchanged},
        outputs={stage.name: stage.outputs for stage in stages if stage.outputs is not None},
        commands={stage.name: stage.command for stage in stages if stage.command is not None},
    )


def _stages(*arguments: str) -> list[DvcStage]:
    command = [sys.executable, "-m", "pipelines.dvc.read_dag", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        conflicts = filter(None, map(merge_conflicts.named, (Path("dvc.yaml"), layout.PARAMS)))
        reason = next(conflicts, done.stderr.strip())
        raise DagError(f"DVC cannot read the pipeline: {reason}")
    if not (stages := json.loads(done.stdout)):
        raise DagError("DVC finds no stage: dvc.yaml is missing, empty, or ignored by git or .dvcignore")
    return [DvcStage(**stage) for stage in stages]


def _dag(stages: Iterable[DvcStage]) -> Dag:
    return {stage.name: set(stage.needs) for stage in stages}


def recorded_outputs(stage: str) -> dict[str, str]:
    """Path -> hash of the outputs of a stage, as `dvc.lock` records them now."""
    with dvc_internals.files_held():  # another stage may just have ended: DVC writes the file in place
        entry = keys.locked_entries().get(stage, {})
    return {out["path"]: out.get("md5") for out in entry.get("outs", [])}


def sort_lock(dag: Dag) -> None:
    """Put the entries of `dvc.lock` into the order of `dvc repro`: parallel stages add them in the order they end.

    No result depends on the order. Where another DVC process holds the lock, the next flow sorts the entries.
    """
    dvc_internals.sort_lock_file(keys.LOCK, dag)


def restrict(dag: Dag, targets: Sequence[str]) -> Dag:
    """The targets and what they are made from. A target is a stage, or a matrix for all its stages, as `train`.

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
