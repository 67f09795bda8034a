"""What MLflow is told. A view: deleting `mlflow.db` and `mlartifacts/` loses nothing that DVC does not keep.

One parent run an ablation (what all variants of a dataset share: data, code, recipe), one child a variant x seed. Both
are found by a key made of their inputs (`stages.keys`), so a stage that runs again replaces its run.

Nothing here stops a stage. What MLflow could not be told is warned of, once a run, and named.

`MLFLOW_TRACKING_URI` names another store or a server; `MLFLOW_EXPERIMENT_NAME` another experiment.
"""

import csv
import json
import logging
import os
import re
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from pydantic import BaseModel

from stages import keys, layout
from stages import params as parameters

EXPERIMENT = "alignformer"
LOCK_PATIENCE = 60  # seconds
BATCH = {"metrics": 1000, "params": 100}  # MLflow's limits

log = logging.getLogger(__name__)

Scalar = str | int | float | bool | None


@contextmanager
def training_run(dataset: str, variant: str, seed: int, params: Mapping[str, Scalar]) -> Iterator["TrainingRun"]:
    """The child run of one training, open while the block runs.

    It ends as FINISHED; as FAILED after an exception; as KILLED after Ctrl-C or SIGTERM, which this block turns into
    an exit with code 143 unless the caller handles the signal itself.
    """
    run = TrainingRun(dataset, variant, seed, params)
    with _sigterm_raised():
        try:
            yield run
        except (KeyboardInterrupt, _Terminated):
            run.end("KILLED")
            raise
        except BaseException:
            run.end("FAILED")
            raise
        run.end("FINISHED")


def flatten(**sections: BaseModel) -> dict[str, Scalar]:
    """Every knob of the sections under its dotted name: `recipe.training.epochs`. A list is one knob."""

    def walk(name: str, value) -> Iterator[tuple[str, Scalar]]:
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from walk(f"{name}.{key}", inner)
        else:
            yield name, str(value) if isinstance(value, list) else value

    return dict(item for name, section in sections.items() for item in walk(name, section.model_dump()))


class TrainingRun:
    """The open child run. No method raises: `lost` tells what MLflow was not told."""

    def __init__(self, dataset: str, variant: str, seed: int, params: Mapping[str, Scalar]):
        self.name = f"{dataset}-{variant}-{seed}"
        self.lost = _Lost(f"train@{self.name}")
        self._client, self._run, self._model = None, None, None
        self._waiting: list = []
        with self.lost.unless_told("the run and everything in it"):
            stage = f"train@{self.name}"
            self._client, self._run = _open_child(dataset, variant, seed, stage, keys.live_inputs(stage))
            _log_params(self._client, self._run, params)

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run; None where MLflow could not be told of it. Never for a file that DVC tracks."""
        return self._run.info.run_id if self._run else None

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Metrics of one epoch. What a busy database refuses is sent again with the next epoch."""
        if not self._run:
            return
        with self.lost.unless_told(f"metrics from epoch {self._waiting[0].step if self._waiting else step} on"):
            self._waiting += _metrics(metrics, step)
            self._send()

    def log_folder(self, folder: Path, name: str) -> None:
        """The model folder, as a logged model of this run with a page and metrics of its own."""
        if not self._run:
            return
        with self.lost.unless_told(f"the folder {folder}"):
            self._model = _log_model(self._client, self._run, Path(folder), f"{self.name}-{name}")

    def end(self, status: str) -> None:
        """Close the run as FINISHED, FAILED or KILLED."""
        if not self._run:
            return
        with self.lost.unless_told(f"the last {len(self._waiting)} metrics and that the run is {status}"):
            self._send()
            self._client.set_terminated(self.run_id, status)

    def _send(self) -> None:
        for start in range(0, len(self._waiting), BATCH["metrics"]):
            self._client.log_batch(self.run_id, metrics=self._waiting[start : start + BATCH["metrics"]])
        self._waiting.clear()


def log_evaluation(
    dataset: str, variant: str, seed: int, metrics: Mapping[str, Mapping[str, float]], files: Iterable[Path] = ()
) -> None:
    """Metrics of every split and files, on the run that trained the model: `{"val": {"mIoU": 0.5}}` becomes `val/mIoU`.

    Where that run is not there (the model came from DVC's cache, the database was deleted), it is made.
    """
    name = f"{dataset}-{variant}-{seed}"
    lost = _Lost(f"evaluate@{name}")
    with lost.unless_told("the metrics of every split"):
        stage = f"train@{name}"
        client, run = _find_or_open_child(dataset, variant, seed, stage, _made_from(stage))
        flat = {f"{split}/{metric}": value for split, values in metrics.items() for metric, value in values.items()}
        told = run.data.metrics
        new = [metric for metric in _metrics(flat, step=0) if told.get(metric.key) != metric.value]
        models = client.search_logged_models(
            [run.info.experiment_id], filter_string=f"source_run_id = '{run.info.run_id}'"
        )
        for metric in new:
            metric._model_id = models[0].model_id if models else None
        key = keys.key(f"evaluate@{name}", keys.live_inputs(f"evaluate@{name}"))
        client.log_batch(run.info.run_id, metrics=new, tags=_tags({"key.evaluate": key, **_conditions(dataset)}))
        for path in files:
            with lost.unless_told(f"the file {path}"):
                _log_path(client, run, Path(path), "evaluation")


def log_report(dataset: str, comparison: Path, files: Iterable[Path] = ()) -> None:
    """The comparison and the report's files, on the parent run of the dataset's ablation, which is then finished."""
    lost = _Lost(f"report of {dataset}")
    with lost.unless_told(f"the comparison {comparison}"):
        experiment = parameters.read().experiment
        stage = f"train@{dataset}-{experiment.variants[0]}-{experiment.seeds[0]}"
        with _store() as (client, experiment_id):
            parent = _find_or_open_parent(client, experiment_id, dataset, _made_from(stage))
        told = client.get_run(parent.info.run_id).data.metrics
        new = [item for item in _metrics(_rows(Path(comparison)), step=0) if told.get(item.key) != item.value]
        for start in range(0, len(new), BATCH["metrics"]):
            client.log_batch(parent.info.run_id, metrics=new[start : start + BATCH["metrics"]])
        for path in [comparison, *files]:
            with lost.unless_told(f"the file {path}"):
                _log_path(client, parent, Path(path), "report")
        client.set_terminated(parent.info.run_id, "FINISHED")


class _Lost:
    """Collects what MLflow was not told and warns of the first of it, for one run of one stage."""

    def __init__(self, who: str):
        self.who = who
        self.what: list[str] = []

    @contextmanager
    def unless_told(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not self.what:
                log.warning(
                    "MLflow was not told of %s: %s. The first reason: %s: %s. The stage goes on; its outputs and "
                    "dvc.lock are complete without MLflow.",
                    self.who, what, type(error).__name__, str(error).strip().splitlines()[0] if str(error) else "",
                )  # fmt: skip
            self.what.append(what)


class _Terminated(SystemExit):
    """SIGTERM, as an exception."""


@contextmanager
def _sigterm_raised() -> Iterator[None]:
    """SIGTERM raises inside the block, unless somebody handles it already or this is not the main thread."""

    def terminate(number, frame):
        raise _Terminated(128 + number)

    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _root() -> Path:
    """The project; an experiment that DVC runs in a temporary copy names the original."""
    return Path(os.environ.get("DVC_ROOT", ".")).resolve()


def _made_from(train_stage: str) -> dict | None:
    """Inputs of the training whose model lies here: under DVC its entry in the lock, by hand the working tree."""
    locked = keys.locked_inputs(train_stage) if "DVC_STAGE" in os.environ else None
    return locked or keys.live_inputs(train_stage)


@contextmanager
def _store() -> Iterator[tuple]:
    """Client and experiment, under a lock: several processes may not create one database, or one parent, at once."""
    from filelock import FileLock

    for name, value in {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}.items():
        os.environ.setdefault(name, value)
    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
    from mlflow import MlflowClient

    root = _root()
    with FileLock(root / "mlflow.db.lock", timeout=LOCK_PATIENCE):
        if not (uri := os.environ.get("MLFLOW_TRACKING_URI")):
            _check_writable(root / "mlflow.db")
            uri = f"sqlite:///{root / 'mlflow.db'}"
        client = MlflowClient(uri)
        yield client, _experiment_id(client, root)


def _check_writable(database: Path) -> None:
    """Fail within seconds where MLflow would try for minutes: no database, not writable, locked by somebody."""
    with closing(sqlite3.connect(database, timeout=20)) as connection:
        connection.execute("BEGIN IMMEDIATE")


def _experiment_id(client, root: Path) -> str:
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    if existing := client.get_experiment_by_name(name):
        return existing.experiment_id
    ours = not os.environ.get("MLFLOW_TRACKING_URI")
    return client.create_experiment(
        name,
        artifact_location=(root / "mlartifacts").as_uri() if ours else None,
        tags={"mlflow.experimentKind": "custom_model_development"},
    )


def _open_child(dataset: str, variant: str, seed: int, stage: str, inputs: dict | None) -> tuple:
    """A new child run under its parent; an earlier run with the same key gives way to it."""
    with _store() as (client, experiment_id):
        parent = _find_or_open_parent(client, experiment_id, dataset, inputs)
        key = keys.key(stage, inputs)
        for earlier in _find(client, experiment_id, key):
            _delete(client, earlier)
        client.update_run(parent.info.run_id, status="RUNNING")
        described = {"stage": stage, "key": key, "dataset": dataset, "variant": variant, "seed": str(seed)}
        parent_id = {"mlflow.parentRunId": parent.info.run_id}
        tags = {**described, **_conditions(dataset), **parent_id, **_source("stages.train")}
        return client, client.create_run(experiment_id, tags=tags, run_name=f"{variant}-{seed}")


def _find_or_open_child(dataset: str, variant: str, seed: int, stage: str, inputs: dict | None) -> tuple:
    with _store() as (client, experiment_id):
        if found := _find(client, experiment_id, keys.key(stage, inputs)):
            return client, found[0]
    client, run = _open_child(dataset, variant, seed, stage, inputs)
    client.set_terminated(run.info.run_id, "FINISHED")
    return client, run


def _find_or_open_parent(client, experiment_id: str, dataset: str, inputs: dict | None):
    recipe = parameters.read().experiment.recipe
    key = keys.shared_key(f"ablation@{dataset}-{recipe}", inputs)
    if found := _find(client, experiment_id, key):
        client.log_batch(found[0].info.run_id, tags=_tags(_conditions(dataset)))
        return found[0]
    described = {"stage": f"ablate@{dataset}", "key": key, "dataset": dataset, "recipe": recipe}
    tags = {**described, **_conditions(dataset), **_source("stages.ablate")}
    return client.create_run(experiment_id, tags=tags, run_name=f"{dataset} {recipe}")


def _find(client, experiment_id: str, key: str) -> list:
    return list(client.search_runs([experiment_id], f"tags.key = '{key}'", order_by=["attributes.start_time DESC"]))


def _delete(client, run) -> None:
    for model in client.search_logged_models(
        [run.info.experiment_id], filter_string=f"source_run_id = '{run.info.run_id}'"
    ):
        client.delete_logged_model(model.model_id)
    client.delete_run(run.info.run_id)


def _conditions(dataset: str) -> dict[str, str]:
    """What must agree before numbers of two runs are compared: the protocol, and how complete the data are."""
    protocol = parameters.read().evaluation.protocol
    summary = layout.prepared(dataset) / "dataset.json"
    data = json.loads(summary.read_text(encoding="utf-8")) if summary.exists() else {}
    return {
        "protocol": protocol,
        "data.partial": str(data.get("partial", False)).lower(),
        "data.warnings": "; ".join(data.get("warnings", [])),
        "data.fingerprint": str(data.get("fingerprint", "not recorded")),
    }


def _source(module: str) -> dict[str, str]:
    """Where the code came from. Dirty: a file other than what the pipeline itself writes differs from the commit."""
    tags = {"mlflow.source.name": module, "mlflow.source.type": "LOCAL"}
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return tags
    dirty = str(bool(_git("status", "--porcelain", "--", ".", ":!dvc.lock", ":!reports", ":!sources"))).lower()
    return {**tags, "git.commit": commit, "git.dirty": dirty, "mlflow.source.git.commit": commit}


def _git(*arguments: str) -> str | None:
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _log_params(client, run, params: Mapping[str, Scalar]) -> None:
    from mlflow.entities import Param

    items = [Param(_name(name), str(value)) for name, value in params.items()]
    for start in range(0, len(items), BATCH["params"]):
        client.log_batch(run.info.run_id, params=items[start : start + BATCH["params"]])


def _log_model(client, run, folder: Path, name: str):
    from mlflow.entities import LoggedModelOutput

    run_id, tags = run.info.run_id, run.data.tags
    model = client.create_logged_model(
        run.info.experiment_id,
        name=re.sub(r"[^\w-]", "_", name),
        source_run_id=run_id,
        tags={tag: tags[tag] for tag in ("key", "dataset", "variant", "seed", "protocol")},
        model_type="AlignFormer",
    )
    client.log_model_artifacts(model.model_id, str(folder))
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    return client.finalize_logged_model(model.model_id, "READY")


def _log_path(client, run, path: Path, folder: str) -> None:
    if path.is_dir():
        client.log_artifacts(run.info.run_id, str(path), f"{folder}/{path.name}")
    else:
        client.log_artifact(run.info.run_id, str(path), folder)


def _tags(values: Mapping[str, str]) -> list:
    from mlflow.entities import RunTag

    return [RunTag(name, value) for name, value in values.items()]


def _metrics(values: Mapping[str, float], step: int) -> list:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    return [Metric(_name(name), float(value), now, step) for name, value in values.items()]


def _rows(table: Path) -> dict[str, float]:
    """`mean` and `difference` of every row as `VARIANT/SPLIT/METRIC` and `difference/...`; empty cells are left out."""
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    named = [(f"{row['variant']}/{row['split']}/{row['metric']}", row) for row in rows]
    means = {name: row["mean"] for name, row in named}
    differences = {f"difference/{name}": row["difference"] for name, row in named}
    return {name: float(cell) for name, cell in {**means, **differences}.items() if cell}


def _name(name: str) -> str:
    """As MLflow allows it: `Pr@0.5` becomes `Pr_0.5`."""
    return re.sub(r"[^\w\-./ ]", "_", name)
