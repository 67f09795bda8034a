"""The stages of experiments and what each waits for, as DVC itself reads them. Named as in `stage_name`."""

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from pipelines.dvc import stage_name
from stages.runtime import dvc_internals, experiments, keys, layout, merge_conflicts
from stages.runtime.dvc_internals import DvcStage
from stages.runtime.experiments import DEFAULT

Dag = dict[str, set[str]]  # stage -> the stages it waits for, in an order in which they can run


class Pipeline(NamedTuple):
    """The stages and their state.

    Attributes:
        dag: every stage.
        unchanged: the stages that `dvc repro` would skip.
        outputs: stage -> path -> hash: the outputs of those that DVC runs each time (`always_changed`), where they lie
            there as `dvc.lock` records them.
        commands: stage -> command, of all that DVC runs each time.
    """

    dag: Dag
    unchanged: set[str]
    outputs: dict[str, dict[str, str]]
    commands: dict[str, str] = {}  # noqa: RUF012 (never changed)

    @property
    def settled(self) -> set[str]:
        """The stages that have nothing to make, as far as a look can tell."""
        return self.unchanged | set(self.commands)


class DagError(Exception):
    """The DAG cannot be read, or a target is not in it; the message names the way out."""


def check_root() -> None:
    """Raises DagError where the current folder is not the root of a DVC project."""
    if not Path(".dvc").is_dir():
        raise DagError(f"{Path.cwd()} is not the root of a DVC project: run from the project's root")


def read(of: Sequence[str] = (DEFAULT,)) -> Dag:
    """Every stage of some experiments, in the order of `dvc repro`: each after those it waits for.

    Raises:
        DagError: with DVC's own message, where this is no DVC project or its files are wrong.
    """
    return _dag(_stages(of))


def look(at: Sequence[str]) -> Pipeline:
    """The same, with the state of each stage. Takes a second for all stages; `dvc repro` takes a second for each.

    Of a stage that another DVC process is running, no state is known. Raises DagError as `read`.
    """
    stages = _stages(at, "--look")
    return Pipeline(
        _dag(stages),
        unchanged={stage.name for stage in stages if stage.unchanged},
        outputs={stage.name: stage.outputs for stage in stages if stage.outputs is not None},
        commands={stage.name: stage.command for stage in stages if stage.command is not None},
    )


def _stages(of: Sequence[str], *options: str) -> list[DvcStage]:
    command = [sys.executable, "-m", "pipelines.dvc.read_dag", *of, *options]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        files = [experiments.folder(name) / file for name in of for file in (experiments.DAG, layout.PARAMS)]
        reason = next(filter(None, map(merge_conflicts.named, files)), done.stderr.strip())
        raise DagError(f"DVC cannot read the pipeline: {reason}")
    stages = [DvcStage(**stage) for stage in json.loads(done.stdout)]
    if without := set(of) - {stage_name.split(stage.name)[0] for stage in stages}:
        file = experiments.folder(min(without)) / experiments.DAG
        raise DagError(f"DVC finds no stage: {file} is missing, empty, or ignored by git or .dvcignore")
    return stages


def _dag(stages: Iterable[DvcStage]) -> Dag:
    return {stage.name: set(stage.needs) for stage in stages}


def recorded_outputs(stage: str) -> dict[str, str]:
    """Path -> hash of the outputs of a stage, as `dvc.lock` records them now."""
    experiment, bare = stage_name.split(stage)
    with dvc_internals.files_held():  # another stage may just have ended: DVC writes the file in place
        entry = keys.locked_entries(experiments.folder(experiment) / keys.LOCK).get(bare, {})
    return {out["path"]: out.get("md5") for out in entry.get("outs", [])}


def sort_lock(dag: Dag) -> None:
    """Put the entries of each `dvc.lock` into the order of `dvc repro`: parallel stages add them in the order they end.

    No result depends on the order. Where another DVC process holds the lock, the next flow sorts the entries.
    """
    orders: dict[str, list[str]] = {}
    for stage in dag:
        experiment, bare = stage_name.split(stage)
        orders.setdefault(experiment, []).append(bare)
    for experiment, order in orders.items():
        dvc_internals.sort_lock_file(experiments.folder(experiment) / keys.LOCK, order)


def restrict(dag: Dag, targets: Sequence[str]) -> Dag:
    """The targets and what they are made from. A target is a stage, or a matrix for all its stages, as `train`.

    It is one of each experiment, unless it names one, as `NAME/train`.

    Raises:
        DagError: a target names no stage.
    """
    if not targets:
        return dag
    wanted: set[str] = set()
    for target in targets:
        named = {stage for stage in dag if _is_named(stage, target)}
        if not named:
            raise DagError(f"no stage {target!r}; there are: {', '.join(dag)}")
        wanted |= named
    kept = _with_ancestors(dag, wanted)
    return {stage: needed for stage, needed in dag.items() if stage in kept}


def _is_named(stage: str, target: str) -> bool:
    (experiment, bare), (wanted, name) = stage_name.split(stage), stage_name.split(target)
    return name in (bare, bare.split("@")[0]) and ("/" not in target or wanted == experiment)


def _with_ancestors(dag: Dag, stages: Iterable[str]) -> set[str]:
    found, waiting = set(), list(stages)
    while waiting:
        stage = waiting.pop()
        if stage not in found:
            found.add(stage)
            waiting += dag[stage]
    return found
