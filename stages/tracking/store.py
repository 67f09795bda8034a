"""MLflow's store: open it, and write runs, logged models and files to it.

`MLFLOW_TRACKING_URI` names another store or a server; `MLFLOW_EXPERIMENT_NAME` another experiment.
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

from stages.runtime import layout
from stages.tracking import flavour

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Metric
    from mlflow.entities import Run as MlflowRun

EXPERIMENT = "alignformer"
LOCK_PATIENCE = 60  # seconds
CLIENT = {  # MLflow's settings; an address that it prints may hold a password
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
BATCH = {"metrics": 1000, "params": 100}  # MLflow's limits

Scalar = str | int | float | bool | None


class Store(NamedTuple):
    client: "MlflowClient"
    experiment_id: str


@contextmanager
def opened() -> Iterator[Store]:
    """Open the store under a lock, so that no two processes create the database, or one run, at once.

    Raises:
        filelock.Timeout: another process had the lock for a minute.
        sqlite3.Error, mlflow.MlflowException: the store cannot be opened.
    """
    from filelock import FileLock

    for name, value in CLIENT.items():
        os.environ.setdefault(name, value)
    for name in ("alembic", "mlflow.pyfunc", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
    from mlflow import MlflowClient

    root = layout.project().resolve()
    with FileLock(root / "mlflow.db.lock", timeout=LOCK_PATIENCE):
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            _check_writable(root / "mlflow.db")
        client = MlflowClient(address())
        yield Store(client, _experiment_id(client, root))


def address() -> str:
    """The address of the store: `MLFLOW_TRACKING_URI`, or else the database of this project."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{layout.project().resolve() / 'mlflow.db'}"


def _check_writable(database: Path) -> None:
    """Raise within seconds, where MLflow would try for minutes, if the database cannot be written or is locked."""
    with closing(sqlite3.connect(database, timeout=20)) as connection:
        connection.execute("BEGIN IMMEDIATE")


def _experiment_id(client: "MlflowClient", root: Path) -> str:
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    if existing := client.get_experiment_by_name(name):
        if existing.lifecycle_stage == "deleted":
            client.restore_experiment(existing.experiment_id)
        return existing.experiment_id
    ours = not os.environ.get("MLFLOW_TRACKING_URI")
    return client.create_experiment(
        name,
        artifact_location=(root / "mlartifacts").as_uri() if ours else None,
        tags={"mlflow.experimentKind": "custom_model_development"},
    )


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
    """The name of a metric or param with characters that MLflow allows: `Pr@0.5` becomes `Pr_0.5`."""
    return re.sub(r"[^\w\-./ ]", "_", name)


def in_words(error: BaseException) -> str:
    """Class and first line of an error, without user and password of any address in it."""
    lines = str(error).strip().splitlines() or [""]
    return re.sub(r"//[^/@\s]+@", "//***@", f"{type(error).__name__}: {lines[0]}")
