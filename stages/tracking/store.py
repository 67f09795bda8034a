"""MLflow's store: open it, and write runs, logged models and files to it.

Each experiment is an MLflow experiment: `alignformer`, and `alignformer-NAME` for one in `experiments/`.
`MLFLOW_TRACKING_URI` names another store or a server (a relative path is relative to the project's folder, whichever
experiment is at work); `MLFLOW_EXPERIMENT_NAME` another name than `alignformer`.
Settings of the user that would split what belongs together, as `MLFLOW_REGISTRY_URI`, have no effect.
"""

import logging
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from stages.runtime import experiments, layout
from stages.runtime.errors import UserError
from stages.tracking import flavour

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Metric
    from mlflow.entities import Run as MlflowRun
    from mlflow.entities.model_registry import ModelVersion

PROJECT = "alignformer"
SQLITE = "sqlite:///"  # begins the address of a file
LOCK_PATIENCE = 60  # seconds
CLIENT = {  # MLflow's settings; an address that it prints may hold a password
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
PLACES = {  # table -> its column with the address of a folder of artifacts
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}
LONGEST = 500  # bytes of a path; SQLite opens none of 512
BATCH = {"metrics": 1000, "params": 100}  # MLflow's limits

Scalar = str | int | float | bool | None

log = logging.getLogger(__name__)


class StoreError(UserError):
    """MLflow cannot keep its database in this folder."""


class Store(NamedTuple):
    client: "MlflowClient"
    experiment_id: str


@contextmanager
def opened() -> Iterator[Store]:
    """Open the store under a lock, so that no two processes create the database, or one run, at once.

    Raises:
        StoreError: this project's own database cannot lie where it would.
        filelock.Timeout: another process had the lock for a minute.
        sqlite3.Error, mlflow.MlflowException: the store cannot be opened.
    """
    from filelock import FileLock

    database = own_database()
    with FileLock(f"{database}.lock", timeout=LOCK_PATIENCE):
        if is_own():
            _check_place(database)
            _check_writable(database)
        opened = client()
        yield Store(opened, _experiment_id(opened))


def client() -> "MlflowClient":
    """MLflow's client of the store, for runs and for registered models."""
    for name, value in CLIENT.items():
        os.environ.setdefault(name, value)
    os.environ["MLFLOW_ENABLE_ASYNC_LOGGING"] = "false"  # what is sent is read again at once
    for name in ("alembic", "mlflow.pyfunc", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
    from mlflow import MlflowClient

    return MlflowClient(address(), registry_uri=address())


def address() -> str:
    """The address of the store: `MLFLOW_TRACKING_URI`, or else the database of this project."""
    if not is_own():
        return str(_given())
    database = own_database()  # to SQLAlchemy, whatever follows a `?` is a setting, and nothing can quote it
    return f"{SQLITE}{os.path.relpath(database) if '?' in str(database) else database}"


def is_own() -> bool:
    """Whether the store is the database of this project, also where `MLFLOW_TRACKING_URI` names that."""
    given = _given()
    return not given or (given.startswith(SQLITE) and Path(given[len(SQLITE) :]).resolve() == own_database())


def _given() -> str | None:
    """`MLFLOW_TRACKING_URI`, which holds a whole path where it names a database of SQLite."""
    given = os.environ.get("MLFLOW_TRACKING_URI")
    if given and given.startswith(SQLITE):
        return f"{SQLITE}{layout.project().resolve() / given[len(SQLITE) :]}"
    return given


def own_database() -> Path:
    """`mlflow.db` of this project."""
    return layout.project().resolve() / "mlflow.db"


def _check_place(database: Path) -> None:
    problem = None
    if "'" in str(database) and not database.exists():  # MLflow does not quote the folder when it makes a database
        problem = "MLflow can make no database in a folder with an apostrophe in its path"
    elif len(os.fsencode(database)) > LONGEST:
        problem = f"SQLite opens no file with a path of more than {LONGEST} bytes"
    if problem:
        raise StoreError(f"{problem}: {database}. Move the project, or name another store in MLFLOW_TRACKING_URI")


def _check_writable(database: Path) -> None:
    """Raise within seconds, where MLflow would try for minutes, if the database cannot be written or is locked."""
    with closing(sqlite3.connect(database, timeout=20)) as connection:
        connection.execute("BEGIN IMMEDIATE")


def _experiment_id(client: "MlflowClient") -> str:
    project, own = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT, experiments.current()
    name = project if own == experiments.DEFAULT else f"{project}-{own}"
    beside = "mlartifacts" if is_own() else "mlruns"  # MLflow's own choice, but not in the current folder
    files = own_database().with_name(beside).as_uri() if address().startswith(SQLITE) else None
    kind = {"mlflow.experimentKind": "custom_model_development"}  # or MLflow shows pages for chat models
    if existing := client.get_experiment_by_name(name):
        if existing.lifecycle_stage == "deleted":
            client.restore_experiment(existing.experiment_id)
        now = existing.artifact_location
        if is_own() and files and now != files and now.startswith(("file:", "/")):  # a bucket is somebody's choice
            _repoint(own_database(), now, files)
        for tag, value in kind.items() - existing.tags.items():
            client.set_experiment_tag(existing.experiment_id, tag, value)
        return existing.experiment_id
    return client.create_experiment(name, artifact_location=files, tags=kind)


def _repoint(database: Path, old: str, new: str) -> None:
    """Replace the folder of all artifacts. MLflow keeps it as an absolute path, so a copied project has the old one."""
    with closing(sqlite3.connect(database, timeout=20)) as connection, connection:
        for table, column in PLACES.items():
            connection.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column} || '/', 1, ?) = ?",
                (new, len(old) + 1, len(old) + 1, f"{old}/"),
            )
    log.warning(
        "%s has its files in %s: the project was copied or moved. From now on they are in %s. "
        "`python -m pipelines.sync` brings those that are missing there.", database.name, old, new,
    )  # fmt: skip


def find(store: Store, key: str) -> list["MlflowRun"]:
    """The runs with a key, the latest first."""
    return search(store, f"tags.key = '{key}'")


def search(store: Store, condition: str) -> list["MlflowRun"]:
    """Every run of the experiment that meets MLflow's filter, the latest first."""

    def page(token: str | None):
        latest = ["attributes.start_time DESC"]
        return store.client.search_runs([store.experiment_id], condition, order_by=latest, page_token=token)

    return all_pages(page)


def all_pages(page: Callable[[str | None], Any]) -> list:
    """All results that MLflow returns page by page.

    Args:
        page: takes the token of a page, None for the first, and returns the page.
    """
    found, token = [], None
    while True:
        answer = page(token)
        found += answer
        if not (token := answer.token):
            return found


def delete(store: Store, run: "MlflowRun") -> None:
    """Delete a run and its logged models."""
    for model in models_of(store, run):
        store.client.delete_logged_model(model.model_id)
    store.client.delete_run(run.info.run_id)


def points(
    values: Mapping[str, float], step: int, model_id: str | None = None, when: int | None = None
) -> list["Metric"]:
    """Metrics of one step, for a run and, if `model_id` is given, for its logged model too.

    Args:
        when: milliseconds since 1970; None for now.
    """
    from mlflow.entities import Metric

    when = int(time.time() * 1000) if when is None else when
    return [Metric(legal(name), float(value), when, step, model_id) for name, value in values.items()]


def send(store: Store, run_id: str, metrics: list["Metric"]) -> None:
    for start in range(0, len(metrics), BATCH["metrics"]):
        store.client.log_batch(run_id, metrics=metrics[start : start + BATCH["metrics"]])


def send_params(store: Store, run_id: str, params: Mapping[str, Scalar]) -> None:
    from mlflow.entities import Param

    items = [Param(legal(name), str(value)) for name, value in params.items()]
    for start in range(0, len(items), BATCH["params"]):
        store.client.log_batch(run_id, params=items[start : start + BATCH["params"]])


def send_tags(store: Store, run_id: str, tags: Mapping[str, str]) -> None:
    from mlflow.entities import RunTag

    store.client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])


def send_file(store: Store, run_id: str, path: Path, folder: str) -> None:
    """Send a file into a folder of the run's artifacts."""
    store.client.log_artifact(run_id, str(path), folder)


def models_of(store: Store, run: "MlflowRun") -> list["LoggedModel"]:
    """The logged models of a run."""
    condition = f"source_run_id = '{run.info.run_id}'"
    return list(store.client.search_logged_models([run.info.experiment_id], filter_string=condition))


def send_model(store: Store, run: "MlflowRun", folder: Path, name: str) -> "LoggedModel":
    """Send a model folder as a new logged model of the run."""
    tags = {tag: run.data.tags[tag] for tag in ("key", "dataset", "variant", "seed", "protocol")}
    model = store.client.create_logged_model(
        run.info.experiment_id,
        name=re.sub(r"[^\w-]", "_", name),
        source_run_id=run.info.run_id,
        tags=tags,
        model_type="AlignFormer",
    )
    return fill_model(store, run, model, folder)


def fill_model(store: Store, run: "MlflowRun", model: "LoggedModel", folder: Path) -> "LoggedModel":
    """Send all files of a logged model, also those that it has; then make it READY and an output of the run."""
    from mlflow.entities import LoggedModelOutput

    with flavour.packaged(folder, run.info.run_id, model.model_id) as package:
        store.client.log_model_artifacts(model.model_id, str(package))
    outputs = store.client.get_run(run.info.run_id).outputs
    if model.model_id not in [output.model_id for output in (outputs.model_outputs if outputs else [])]:
        store.client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, step=0)])
    return store.client.finalize_logged_model(model.model_id, "READY")


def add_to_model(store: Store, model: "LoggedModel", path: Path) -> None:
    """Send one more file of the model folder to a logged model."""
    with TemporaryDirectory() as place:
        folder = Path(place, flavour.FOLDER)
        folder.mkdir(parents=True)
        shutil.copy(path, folder)
        store.client.log_model_artifacts(model.model_id, place)


def register(store: Store, name: str, model: "LoggedModel") -> "ModelVersion":
    """Make a version of a registered model from a logged model."""
    of = {"run_id": model.source_run_id, "model_id": model.model_id, "await_creation_for": 0}
    with _default_store():
        return store.client.create_model_version(name, f"models:/{model.model_id}", **of)


def downloaded(uri: str) -> Path:
    """The folder of a registered model, `models:/NAME@ALIAS` or `models:/NAME/VERSION`. Raises MlflowException."""
    from mlflow.artifacts import download_artifacts

    with _default_store():
        return Path(download_artifacts(artifact_uri=uri))


@contextmanager
def _default_store() -> Iterator[None]:
    """Make the store that which MLflow takes where its functions cannot be told one."""
    names = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, address()))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def files_of_run(store: Store, run_id: str) -> dict[str, int]:
    """Artifacts of a run: path -> bytes."""
    return _files(lambda folder: store.client.list_artifacts(run_id, folder))


def files_of_model(store: Store, model_id: str) -> dict[str, int]:
    """Artifacts of a logged model: path -> bytes."""
    return _files(lambda folder: store.client.list_logged_model_artifacts(model_id, folder))


def _files(list_folder: Callable[[str | None], Iterable], folder: str | None = None) -> dict[str, int]:
    found = {}
    for info in list_folder(folder):
        found |= _files(list_folder, info.path) if info.is_dir else {info.path: info.file_size}
    return found


def legal(name: str) -> str:
    """The name of a metric or param with characters that MLflow allows: `Pr@0.5` becomes `Pr_0.5`.

    A `+`, which names of variants and splits may hold, becomes ` plus`: no two of them become one.
    """
    return re.sub(r"[^\w\-./ ]", "_", name.replace("+", " plus"))


def in_words(error: BaseException) -> str:
    """Class and first line of an error, without user and password of any address in it."""
    lines = str(error).strip().splitlines() or [""]
    return re.sub(r"//[^/@\s]+@", "//***@", f"{type(error).__name__}: {lines[0]}")
