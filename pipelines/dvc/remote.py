"""The DVC remote, where clones find what others have made."""

from collections.abc import Callable

from pipelines.dvc.reproduce import dvc
from stages.runtime import dvc_internals


def name() -> str | None:
    """Name of the clone's default DVC remote; None where it has none, and then nothing is claimed, pulled or pushed."""
    return dvc_internals.default_remote()


def push(stage: str, say: Callable[[str], None] = print) -> None:
    """What a stage made, and DVC's record of the run, onto the remote.

    Raises:
        LockedError, StorageError, StageFailedError: as `pipelines.dvc.reproduce.reproduce`.
    """
    dvc("push", "--run-cache", stage, say=say)
