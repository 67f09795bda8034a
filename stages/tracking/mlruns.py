"""What MLflow holds of this project: one parent run per ablation, one child run per training, and their contents.

`stages.tracking.live` writes them while stages run, `pipelines.sync` afterwards from the outputs that DVC keeps. The
result is the same.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel

from stages.runtime import keys, layout
from stages.runtime.run import Run
from stages.tracking import owner, store
from stages.tracking.store import Scalar, Store

Value = TypeVar("Value")

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from mlflow.entities import Run as MlflowRun

EVALUATION, COMPARISON, REPORT = "evaluation", "comparison", "report"  # artifact folders
PROVENANCE = layout.REPORTS / "provenance.json"
PARENT = "mlflow.parentRunId"
NOTE = "mlflow.note.content"  # the description, in Markdown
CURRENT, PLACE = "current", "place"  # tags that views filter and sort runs by
COMPARED_AS = "compared_with_the_reference"  # and the one that they group runs by
KEPT = ("mIoU", "oIoU", "Pr@0.5")  # of each split, as metrics; the others are in the file of the evaluation
BY_EPOCH = "by_epoch"  # section of the curves
SYSTEM = "system/"  # begins the names of what MLflow measures of the machine
EVALUATED, REPORTED = "key.evaluate", "key.report"  # tags: the entry of dvc.lock that metrics and files belong to
CARD, COMPARED = "md5.card", "md5.comparison"  # tags: the content of these files, as MLflow lists only their sizes


def evaluated(on: str | None = None) -> str:
    """The tag that says which evaluation metrics are of; on: the further dataset, None for the run's own splits."""
    return f"{EVALUATED}_on.{on}" if on else EVALUATED


def flatten(**sections: BaseModel) -> dict[str, Scalar]:
    """All parameters of the sections by dotted name, such as `recipe.training.epochs`. A list is one parameter."""

    def walk(name: str, value) -> Iterator[tuple[str, Scalar]]:
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from walk(f"{name}.{key}", inner)
        else:
            yield name, str(value) if isinstance(value, list) else value

    return dict(item for name, section in sections.items() for item in walk(name, section.model_dump()))


def of_variant(params: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The parameters in which trainings of one ablation differ; its own run has the others."""
    return {name: value for name, value in params.items() if not name.startswith("recipe.")}


def conditions(protocol: str, summary: Path) -> dict[str, str]:
    """The tags that must agree before numbers of two runs are compared: the protocol, and how complete the data are.

    Args:
        summary: `dataset.json` of the prepared dataset; it need not exist.
    """
    data = json.loads(summary.read_text(encoding="utf-8")) if summary.exists() else {}
    return {
        "protocol": protocol,
        "data.partial": str(data.get("partial", False)).lower(),
        "data.warnings": "; ".join(data.get("warnings", [])),
        "data.fingerprint": str(data.get("fingerprint", "not recorded")),
    }


def source(module: str) -> dict[str, str]:
    """The tags that name the module that computed a run."""
    return {"mlflow.source.name": module, "mlflow.source.type": "LOCAL"}


def rebuilt(module: str) -> dict[str, str]:
    """The same for a run created after the computation: its commit and times are not known."""
    return {**source(module), "rebuilt": "true"}


def parent_key(dataset: str, recipe: str, inputs: dict | None) -> str:
    """The key of an ablation's run, from the inputs of any of its trainings."""
    return keys.shared_key(f"ablation@{dataset}-{recipe}", inputs)


def find_or_make_parent(
    opened: Store, dataset: str, recipe: str, inputs: dict | None, given: Mapping[str, str], code: Mapping[str, str]
) -> "MlflowRun":
    """The run of an ablation.

    Args:
        given: tags that a new run and an existing one both get.
        code: tags that only a new run gets.
    """
    found = store.find(opened, parent_key(dataset, recipe, inputs))
    if not found:
        return make_parent(opened, dataset, recipe, inputs, {**given, **code})
    store.send_tags(opened, found[0].info.run_id, given)
    return found[0]


def make_parent(opened: Store, dataset: str, recipe: str, inputs: dict | None, more: Mapping[str, str]) -> "MlflowRun":
    """Create the run of an ablation, with status RUNNING."""
    described = {"stage": f"ablate@{dataset}", "key": parent_key(dataset, recipe, inputs), "dataset": dataset}
    tags = {**described, "recipe": recipe, **more}
    return opened.client.create_run(opened.experiment_id, tags=tags, run_name=f"{dataset} {recipe}")


def make_child(
    opened: Store,
    dataset: str,
    variant: str,
    seed: int,
    inputs: dict | None,
    parent: "MlflowRun",
    more: Mapping[str, str],
) -> "MlflowRun":
    """Create the run of a training, with status RUNNING and this process as its owner."""
    stage = Run(dataset, variant, seed).stage("train")
    described = {"stage": stage, "key": keys.key(stage, inputs), "dataset": dataset, "variant": variant}
    shown = {CURRENT: "true", PLACE: "00", COMPARED_AS: variant}
    tags = {**described, "seed": str(seed), PARENT: parent.info.run_id, **shown, **more, **owner.tags()}
    return opened.client.create_run(opened.experiment_id, tags=tags, run_name=f"{variant}-{seed}")


def children(opened: Store, parent_id: str) -> "list[MlflowRun]":
    """The runs of an ablation's trainings."""
    return store.search(opened, f"tags.`{PARENT}` = '{parent_id}'")


def end_parent(opened: Store, parent_id: str) -> None:
    """End the run of an ablation where none of its trainings runs any more, with the worst of their states.

    A training whose process has died without a word is KILLED.
    """
    states = set()
    for child in children(opened, parent_id):
        status = child.info.status
        if status == "RUNNING" and owner.fate(child.data.tags) == "dead":
            status = "KILLED"
            opened.client.set_terminated(child.info.run_id, status)
        states.add(status)
    if "RUNNING" not in states:
        worst = next((status for status in ("KILLED", "FAILED") if status in states), "FINISHED")
        opened.client.set_terminated(parent_id, worst)


def model_name(dataset: str, variant: str, seed: int) -> str:
    """The name of a training's logged model."""
    return f"{Run(dataset, variant, seed).name}-model"


def by_split(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """`{"val": {"mIoU": 0.5}}` becomes `val/mIoU`, for the metrics that are `KEPT`."""
    return {
        f"{split}/{metric}": values[metric] for split, values in metrics.items() for metric in KEPT if metric in values
    }


def by_epoch(metrics: Mapping[str, Value]) -> dict[str, Value]:
    """The metrics of one epoch, `val_mIoU` as `by_epoch/val_mIoU`, without those of val that are not `KEPT`."""
    kept = {f"val_{metric}" for metric in KEPT}
    return {f"{BY_EPOCH}/{name}": value for name, value in metrics.items() if name[:4] != "val_" or name in kept}


def is_told(metric: str) -> bool:
    """Whether a metric of a run has a name that this module gives, or that MLflow gives to what it measures."""
    return metric.startswith((f"{BY_EPOCH}/", SYSTEM)) or metric.rpartition("/")[2] in map(store.legal, KEPT)


def md5(path: Path) -> str:
    """A hash of a file's content."""
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def is_reported(dataset: str, key: str) -> bool:
    """Whether the report in the working tree was made from the ablation's run of this key.

    It was not if it is about other datasets, another recipe or other data, or if the comparison has changed since.
    """
    kept = layout.REPORTS / "data" / dataset / "comparison.csv"
    if not PROVENANCE.exists() or not kept.exists():
        return False
    ablation = json.loads(PROVENANCE.read_text(encoding="utf-8"))["mlflow"].get(dataset, {}).get("ablation")
    return ablation == key and kept.read_bytes() == layout.comparison(dataset).read_bytes()


def report_files(dataset: str, files: Iterable[Path]) -> list[tuple[Path, str]]:
    """The page and, among the files of `reports/`, tables and figures; each with its folder in the run.

    They are those of the dataset, and the tables about all datasets together. No other dataset's name goes on from this
    one's by a dash: `params.yaml` may not have such names.
    """
    files, names, tables = list(files), (f"{dataset}.", f"{dataset}-"), layout.REPORTS / "tables"
    datasets = {path.parent.name for path in files if path.parent.parent == tables}
    own = [
        path
        for path in files
        if path == layout.PAGE
        or path.name.startswith(names)
        or tables / dataset in path.parents
        or (path.parent == tables and path.name.partition(".")[0] not in datasets)
    ]
    return [(path, (Path(REPORT) / path.parent.relative_to(layout.REPORTS)).as_posix()) for path in own]


def send_new(opened: Store, run: "MlflowRun", values: Mapping[str, float], model: "LoggedModel | None" = None) -> int:
    """Send metrics of step 0 that the run lacks or has with other values; return how many were sent.

    Args:
        model: the run's logged model, which gets the same metrics.
    """
    values = {store.legal(name): value for name, value in values.items()}
    of_model = {metric.key: metric.value for metric in model.metrics or []} if model else values
    changed = {name: value for name, value in values.items() if not _same(run.data.metrics.get(name), value)}
    metrics = store.points(changed, 0, model and model.model_id)
    for name in values.keys() - changed.keys():
        if not _same(of_model.get(name), values[name]):  # at the time of the run's point: MLflow keeps one
            when = opened.client.get_metric_history(run.info.run_id, name)[-1].timestamp
            metrics += store.points({name: values[name]}, 0, model.model_id, when)
    store.send(opened, run.info.run_id, metrics)
    return len(metrics)


def _same(sent: float | None, value: float) -> bool:
    return sent is not None and repr(float(sent)) == repr(float(value))
