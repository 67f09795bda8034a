"""Which model is meant: a folder, a run of this project, or a model of MLflow -> the folder that it is loaded from."""

import re
from pathlib import Path

from stages.runtime import layout
from stages.runtime.errors import UserError
from stages.tracking import flavour, store

RUN = re.compile(r"([^/@:]+)/([^/@:]+)/(\d+)")
REGISTERED = re.compile(r"(?:models:/)?([^/@:]+@[^/@:]+)|models:/(.+)")


class NoModelError(UserError):
    """There is no such model; the message says which there are, or why MLflow does not give it."""


def folder(name: str) -> Path:
    """The folder of a model.

    Args:
        name: a folder; DATASET/VARIANT/SEED, a run of this project; NAME@ALIAS or models:/NAME/VERSION, a registered
            model of MLflow, of the store that `MLFLOW_TRACKING_URI` names or of this project's own.

    Raises:
        NoModelError
    """
    if Path(name, "config.json").is_file():
        return Path(name)
    if (run := RUN.fullmatch(name)) and (layout.model(*run.groups()) / "config.json").is_file():
        return layout.model(*run.groups())
    if registered := REGISTERED.fullmatch(name):
        return _downloaded(f"models:/{registered[1] or registered[2]}")
    there = ", ".join(runs()) or "none; `make repro` trains some"
    train = f" `dvc repro train@{'-'.join(run.groups())}` trains it." if run else ""
    raise NoModelError(
        f"no model {name!r}: neither a folder with a config.json nor a run that lies in {layout.RESULTS / 'models'}."
        f"{train} Runs there: {there}. A model of MLflow is NAME@ALIAS or models:/NAME/VERSION"
    )


def runs() -> list[str]:
    """DATASET/VARIANT/SEED of every trained model of this project."""
    found = layout.RESULTS.glob("models/*/*/*/model.safetensors")
    return ["/".join(path.parts[-4:-1]) for path in sorted(found)]


def _downloaded(uri: str) -> Path:
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    try:
        found = download_artifacts(artifact_uri=uri, tracking_uri=store.address(), registry_uri=store.address())
    except (MlflowException, OSError) as error:
        raise NoModelError(f"MLflow does not give {uri}: {store.in_words(error)}") from error
    return Path(found, flavour.FOLDER)
