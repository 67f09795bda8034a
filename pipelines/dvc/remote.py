"""The DVC remote, where clones find what others have made."""

from collections.abc import Callable

from pipelines.dvc.reproduce import dvc
from stages.runtime import dvc_internals


def name() -> str | None:
    """Name of the clone's default DVC remote; None where it has none, and then nothing is claimed, pulled or pushed.

    One of the user's or the machine's DVC settings does not count: it is for whatever they do, and nobody asked to push
    this project there.
    """
    return dvc_internals.default_remote()


def say_unused(say: Callable[[str], None]) -> None:
    """One line where only the settings of the user or the machine name a default remote."""
    if not name() and (other := dvc_internals.default_remote(("global", "system"))):
        say(
            f"DVC remote {other!r} of your own DVC settings is not used, as this clone names none: "
            f"`dvc remote default --local {other}` has flows pull from it and push to it"
        )


def push(stage: str, say: Callable[[str], None] = print) -> None:
    """What a stage made, and DVC's record of the run, onto the remote.

    Raises:
        LockedError, StorageError, StageFailedError: as `pipelines.dvc.reproduce.reproduce`.
    """
    dvc("push", "--run-cache", stage=stage, say=say)
