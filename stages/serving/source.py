"""The folder of a model that is named as a folder, as a run of this project or as a model of MLflow."""

import re
from pathlib import Path

from stages.runtime import layout
from stages.runtime.errors import UserError
from stages.runtime.run import Run, how_to_train
from stages.tracking import flavour, store

RUN = re.compile(r"([^/@:]+)/([^/@:]+)/(\d+)")
REGISTERED = re.compile(r"(?:models:/)?([^/@:]+@[^/@:]+)|models:/(.+)")


class NoModelError(UserError):
    """There is no such model; the message names those there are, or says why MLflow does not give it."""


def folder(name: str) -> Path:
    """The folder of a model.

    Args:
        name: a folder; DATASET/VARIANT/SEED for a run of this project; or NAME@ALIAS or models:/NAME/VERSION for a
            registered model of MLflow, in the store that `MLFLOW_TRACKING_URI` names or in this project's own.

    Raises:
        NoModelError: there is none of that name.
    """
    if Path(name, "config.json").is_file():
        return Path(name)
    run = _run(name)
    if run and (layout.model(*run) / "config.json").is_file():
        return layout.model(*run)
    if registered := REGISTERED.fullmatch(name):
        return _downloaded(f"models:/{registered[1] or registered[2]}")
    there = ", ".join(runs()) or "none; `make repro` trains some"
    train = f" {how_to_train(run)}." if run else ""
    raise NoModelError(
        f"no model {name!r}: it is neither a folder with a config.json nor a run in {layout.RESULTS / 'models'}."
        f"{train} Runs there: {there}. A model of MLflow is NAME@ALIAS or models:/NAME/VERSION"
    )


def runs() -> list[str]:
    """DATASET/VARIANT/SEED of every trained model of this project."""
    found = layout.RESULTS.glob("models/*/*/*/model.safetensors")
    return ["/".join(path.parts[-4:-1]) for path in sorted(found)]


def _run(name: str) -> Run | None:
    match = RUN.fullmatch(name)
    return Run(match[1], match[2], int(match[3])) if match else None


def _downloaded(uri: str) -> Path:
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    try:
        found = download_artifacts(artifact_uri=uri, tracking_uri=store.address(), registry_uri=store.address())
    except (MlflowException, OSError) as error:
        raise NoModelError(f"MLflow does not give {uri}: {store.in_words(error)}") from error
    return Path(found, flavour.FOLDER)
