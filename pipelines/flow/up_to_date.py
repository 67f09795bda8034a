"""Whether a run would find nothing to do: known without Prefect, whose start takes longer than the look itself."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from pipelines.dvc import dag, remote, stage_name
from pipelines.dvc.dag import Dag, DagError
from pipelines.dvc.reproduce import with_own_programs
from stages.runtime import experiments, keys


def stages(of: Sequence[str], targets: Sequence[str]) -> Dag | None:
    """The targets in some experiments, and what they are made from, where all are up to date; None where one is not.

    Also None where only a run can tell: DVC cannot read its files, or a DVC remote may lack outputs.
    """
    if remote.name() or not all((experiments.folder(name) / keys.LOCK).exists() for name in of):
        return None
    try:
        pipeline = dag.look(of)
    except DagError:
        return None
    wanted = dag.restrict(pipeline.dag, targets)
    changed = set(wanted) - pipeline.unchanged - set(pipeline.outputs)
    return None if changed or not all(_gives_the_same(pipeline, stage) for stage in wanted) else wanted


def _gives_the_same(pipeline: dag.Pipeline, stage: str) -> bool:
    """Whether a stage that DVC runs each time still writes what its outputs hold; others are looked at already."""
    if stage not in pipeline.outputs:
        return True
    folder = experiments.folder(stage_name.split(stage)[0])
    before = _contents(folder, pipeline.outputs[stage])
    done = subprocess.run(
        pipeline.commands[stage], shell=True, cwd=folder, env=with_own_programs(), capture_output=True, check=False
    )
    return done.returncode == 0 and before is not None and _contents(folder, pipeline.outputs[stage]) == before


def _contents(folder: Path, paths: Sequence[str]) -> list[bytes] | None:
    """The bytes of files; None where one is a folder or missing."""
    try:
        return [(folder / path).read_bytes() for path in paths]
    except OSError:
        return None
