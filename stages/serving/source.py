"""The folder of a model that is named as a folder, as a run of an experiment or as a model of MLflow."""

import re
import sqlite3
from pathlib import Path

from stages.runtime import experiments, layout
from stages.runtime.errors import UserError
from stages.runtime.run import Run, how_to_train
from stages.tracking import flavour, store

RUN = re.compile(r"(?:([^/@:]+)/)?([^/@:]+)/([^/@:]+)/(\d+)")
REGISTERED = re.compile(r"(?:models:/)?([^/@:]+@[^/@:]+)|models:/(.+)")
SYNC = "`python -m pipelines.sync` registers the champion of each comparison, or says why there is none"
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # what MLflow says of a name, and of an alias


class NoModelError(UserError):
    """There is no such model; the message names those there are, or says why MLflow does not give it."""


def folder(name: str) -> Path:
    """The folder of a model.

    Args:
        name: a folder; DATASET/VARIANT/SEED for a run of the current experiment, EXPERIMENT/DATASET/VARIANT/SEED for
            one of another; or NAME@ALIAS or models:/NAME/VERSION for a registered model of MLflow, in the store that
            `MLFLOW_TRACKING_URI` names or in this project's own.

    Raises:
        NoModelError: there is none of that name.
    """
    if Path(name, "config.json").is_file():
        return Path(name)
    of, run = _run(name)
    if run and ((place := experiments.place(of) / layout.model(*run)) / "config.json").is_file():
        return place
    if registered := REGISTERED.fullmatch(name):
        return _downloaded(f"models:/{registered[1] or registered[2]}")
    there = ", ".join(runs()) or "none; `make repro` trains some"
    train = f" {how_to_train(run, of)}." if run and of in experiments.names() else ""
    raise NoModelError(
        f"no model {name!r}: it is neither a folder with a config.json nor a run in {layout.RESULTS / 'models'} of an "
        f"experiment.{train} Runs there: {there}. A model of MLflow is NAME@ALIAS or models:/NAME/VERSION"
    )


def runs() -> list[str]:
    """DATASET/VARIANT/SEED of every trained model of the current experiment, then EXPERIMENT/... of those of others."""
    current = experiments.current()
    others = [name for name in experiments.names() if name != current]
    return [run for name in (current, *others) for run in _runs(name)]


def runs_here() -> list[str]:
    """Those of the current experiment."""
    return _runs(experiments.current())


def _runs(experiment: str) -> list[str]:
    found = experiments.place(experiment).glob(f"{layout.RESULTS}/models/*/*/*/model.safetensors")
    prefix = [] if experiment == experiments.current() else [experiment]
    return ["/".join([*prefix, *path.parts[-4:-1]]) for path in sorted(found)]


def _run(name: str) -> tuple[str, Run | None]:
    """The experiment and the run that a name may mean."""
    match = RUN.fullmatch(name)
    run = Run(match[2], match[3], int(match[4])) if match else None
    return (match and match[1]) or experiments.current(), run


def _downloaded(uri: str) -> Path:
    from mlflow.exceptions import MlflowException

    database = store.own_database()
    if store.is_own() and not database.exists():
        raise NoModelError(f"MLflow does not give {uri}: there is no {database.name} yet; {SYNC}")
    try:
        if store.is_own():
            with store.opened():  # where the project was copied, its files are those here from now on
                pass
        return store.downloaded(uri) / flavour.FOLDER
    except (MlflowException, OSError, sqlite3.Error) as error:
        raise NoModelError(f"MLflow does not give {uri}: {_reason(uri, error)}") from error


def _reason(uri: str, error: Exception) -> str:
    """What the registered model says of itself, as why there is no champion, or which there are; else the error."""
    if getattr(error, "error_code", None) not in ABSENT:
        return store.in_words(error)
    name = uri.removeprefix("models:/").partition("@")[0].partition("/")[0]
    client = store.client()
    described = {
        model.name: model.description
        for model in store.all_pages(lambda token: client.search_registered_models(page_token=token))
    }
    if name in described:
        return f"{error} {described[name] or ''}".strip()
    return f"no registered model has this name. Registered are: {', '.join(described) or 'none'}; {SYNC}"
