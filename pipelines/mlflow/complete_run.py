"""Sends what a run in MLflow lacks of what DVC keeps. Each function returns whether anything was missing."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stages.runtime import layout
from stages.runtime.run import Run
from stages.tracking import flavour, mlruns, store
from stages.tracking.store import Scalar, Store

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun


class ContradictedError(Exception):
    """MLflow holds points of a run that its training did not give."""


def send_tags(opened: Store, mlflow_run: "MlflowRun", tags: Mapping[str, str]) -> bool:
    new = {name: value for name, value in tags.items() if mlflow_run.data.tags.get(name) != value}
    if new:
        store.send_tags(opened, mlflow_run.info.run_id, new)
    return bool(new)


def send_params(opened: Store, mlflow_run: "MlflowRun", params: Mapping[str, Scalar]) -> bool:
    new = {name: value for name, value in params.items() if store.legal(name) not in mlflow_run.data.params}
    store.send_params(opened, mlflow_run.info.run_id, new)
    return bool(new)


def send_curves(opened: Store, mlflow_run: "MlflowRun", history: Path) -> bool:
    """One point for each epoch, of every column. Raises ContradictedError where the run has other points."""
    if not all(map(mlruns.is_told, mlflow_run.data.metrics)):  # as an earlier version of the project named them
        raise ContradictedError
    missing = []
    for name, curve in _curves(history).items():
        told = {
            (point.step, repr(point.value))
            for point in opened.client.get_metric_history(mlflow_run.info.run_id, store.legal(name))
        }
        given = {(step, repr(value)) for step, value in curve}
        if not told <= given:
            raise ContradictedError
        missing += [
            point
            for step, value in curve
            if (step, repr(value)) not in told
            for point in store.points({name: value}, step)
        ]
    store.send(opened, mlflow_run.info.run_id, missing)
    return bool(missing)


def _curves(history: Path) -> dict[str, list[tuple[int, float]]]:
    """Column -> epoch and value."""
    with history.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name not in ("epoch", "protocol")] if rows else []
    curves = {name: [(int(row["epoch"]), float(row[name] or "nan")) for row in rows] for name in names}
    return mlruns.by_epoch(curves)


def send_data(opened: Store, mlflow_run: "MlflowRun", dataset: str, digest: str, summary: Path) -> bool:
    """The data of every split as inputs of the run.

    Args:
        digest: what `dvc.lock` has as md5 of `data/D`.
        summary: its `dataset.json`.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag

    described = json.loads(summary.read_text(encoding="utf-8"))
    there = {given.dataset.name for given in (mlflow_run.inputs.dataset_inputs if mlflow_run.inputs else [])}
    source = json.dumps({"uri": summary.parent.as_posix()})
    lacking = [
        DatasetInput(
            Dataset(f"{dataset} {split}", digest, "local", source, profile=json.dumps(counts)),
            [InputTag("mlflow.data.context", split)],
        )
        for split, counts in described.get("counts", {}).items()
        if f"{dataset} {split}" not in there
    ]
    if lacking:
        opened.client.log_inputs(mlflow_run.info.run_id, lacking)
    return bool(lacking)


def send_model(opened: Store, mlflow_run: "MlflowRun", run: Run) -> bool:
    """The model folder as the run's logged model. Returns whether it, or one of its files, was missing."""
    folder = layout.model(*run)
    files = {f"{flavour.FOLDER}/{path.name}": path.stat().st_size for path in folder.iterdir()}
    models = store.models_of(opened, mlflow_run)
    if not models:
        store.send_model(opened, mlflow_run, folder, mlruns.model_name(*run))
        return True
    model = models[0]
    if model.status == "READY" and files.items() <= store.files_of_model(opened, model.model_id).items():
        return False
    store.fill_model(opened, mlflow_run, model, folder)
    return True


def send_card(opened: Store, mlflow_run: "MlflowRun", run: Run) -> bool:
    """The model card, in the run's logged model."""
    card = layout.card(*run)
    if not card.exists() or mlflow_run.data.tags.get(mlruns.CARD) == mlruns.md5(card):
        return False
    for model in store.models_of(opened, mlflow_run):
        store.add_to_model(opened, model, card)
    return send_tags(opened, mlflow_run, {mlruns.CARD: mlruns.md5(card)})


def send_files(opened: Store, mlflow_run: "MlflowRun", files: Sequence[tuple[Path, str]], again: bool) -> int:
    """Files into folders of the run's artifacts: those that are missing or have another size, or all of them.

    Args:
        files: each with its folder.
        again: send them all.

    Returns:
        How many were sent.
    """
    there, sent = store.files_of_run(opened, mlflow_run.info.run_id), 0
    for path, folder in files:
        if again or there.get(f"{folder}/{path.name}") != path.stat().st_size:
            store.send_file(opened, mlflow_run.info.run_id, path, folder)
            sent += 1
    return sent
