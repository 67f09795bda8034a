"""What MLflow holds of this project: a parent run an ablation, a child run a training, and what is in them.

`stages.tracking` writes it while stages run, `pipelines.sync` afterwards from what DVC keeps, and both give the same.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from stages.runtime import keys, layout
from stages.tracking import owner, store
from stages.tracking.store import Scalar, Store

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from mlflow.entities import Run as MlflowRun

EVALUATION, COMPARISON, REPORT = "evaluation", "comparison", "report"  # folders of artifacts
PAGE = layout.REPORTS / "index.html"
PARENT = "mlflow.parentRunId"
EVALUATED, REPORTED = "key.evaluate", "key.report"  # tags: which entry of dvc.lock metrics and files are of


def run_name(dataset: str, variant: str, seed: int) -> str:
    """As DVC names the stages of a training: `train@` and this."""
    return f"{dataset}-{variant}-{seed}"


def flatten(**sections: BaseModel) -> dict[str, Scalar]:
    """Every knob of the sections under its dotted name: `recipe.training.epochs`. A list is one knob."""

    def walk(name: str, value) -> Iterator[tuple[str, Scalar]]:
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from walk(f"{name}.{key}", inner)
        else:
            yield name, str(value) if isinstance(value, list) else value

    return dict(item for name, section in sections.items() for item in walk(name, section.model_dump()))


def conditions(protocol: str, summary: Path) -> dict[str, str]:
    """What must agree before numbers of two runs are compared: the protocol, and how complete the data are.

    Args:
        summary: `dataset.json` of the prepared dataset; may be absent.
    """
    data = json.loads(summary.read_text(encoding="utf-8")) if summary.exists() else {}
    return {
        "protocol": protocol,
        "data.partial": str(data.get("partial", False)).lower(),
        "data.warnings": "; ".join(data.get("warnings", [])),
        "data.fingerprint": str(data.get("fingerprint", "not recorded")),
    }


def source(module: str) -> dict[str, str]:
    """The tags that name what computed a run."""
    return {"mlflow.source.name": module, "mlflow.source.type": "LOCAL"}


def rebuilt(module: str) -> dict[str, str]:
    """The same of a run that was made after the computing: commit and times of that are not known."""
    return {**source(module), "rebuilt": "true"}


def parent_key(dataset: str, recipe: str, inputs: dict | None) -> str:
    """The key of an ablation's run. Inputs: those of any of its trainings."""
    return keys.shared_key(f"ablation@{dataset}-{recipe}", inputs)


def find_or_make_parent(
    opened: Store, dataset: str, recipe: str, inputs: dict | None, given: Mapping[str, str], code: Mapping[str, str]
) -> "MlflowRun":
    """The run of an ablation, brought up to the given conditions; `code` says where a new one came from."""
    found = store.find(opened, parent_key(dataset, recipe, inputs))
    if not found:
        return make_parent(opened, dataset, recipe, inputs, {**given, **code})
    store.send_tags(opened, found[0].info.run_id, given)
    return found[0]


def make_parent(opened: Store, dataset: str, recipe: str, inputs: dict | None, more: Mapping[str, str]) -> "MlflowRun":
    """A new run of an ablation, RUNNING."""
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
    """A new run of a training, RUNNING, that belongs to this process."""
    stage = f"train@{run_name(dataset, variant, seed)}"
    described = {"stage": stage, "key": keys.key(stage, inputs), "dataset": dataset, "variant": variant}
    tags = {**described, "seed": str(seed), PARENT: parent.info.run_id, **more, **owner.tags()}
    return opened.client.create_run(opened.experiment_id, tags=tags, run_name=f"{variant}-{seed}")


def model_name(dataset: str, variant: str, seed: int) -> str:
    """Of the logged model of a training."""
    return f"{run_name(dataset, variant, seed)}-model"


def by_split(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """`{"val": {"mIoU": 0.5}}` becomes `val/mIoU`."""
    return {f"{split}/{metric}": value for split, values in metrics.items() for metric, value in values.items()}


def compared(table: Path) -> dict[str, float]:
    """`mean` and `difference` of every row as `VARIANT/SPLIT/METRIC` and `difference/...`; empty cells are left out."""
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    named = [(f"{row['variant']}/{row['split']}/{row['metric']}", row) for row in rows]
    means = {name: row["mean"] for name, row in named}
    differences = {f"difference/{name}": row["difference"] for name, row in named}
    return {name: float(cell) for name, cell in {**means, **differences}.items() if cell}


def report_files(dataset: str, files: Iterable[Path]) -> list[tuple[Path, str]]:
    """The page and, of files of `reports/`, those of a dataset, with the folder of artifacts of each, as they lie."""
    own = [path for path in files if path.name.startswith((f"{dataset}.", f"{dataset}-")) or path == PAGE]
    return [(path, (Path(REPORT) / path.parent.relative_to(layout.REPORTS)).as_posix()) for path in own]


def send_new(opened: Store, run: "MlflowRun", values: Mapping[str, float], model: "LoggedModel | None" = None) -> int:
    """Metrics of step 0 that the run does not hold as they are; how many that were.

    Args:
        model: the run's logged model, which is told the same.
    """
    values = {store.legal(name): value for name, value in values.items()}
    of_model = {metric.key: metric.value for metric in model.metrics or []} if model else values
    changed = {name: value for name, value in values.items() if not _same(run.data.metrics.get(name), value)}
    metrics = store.points(changed, 0, model and model.model_id)
    for name in values.keys() - changed.keys():
        if not _same(of_model.get(name), values[name]):  # at the time of the run's own point, which is kept once
            when = opened.client.get_metric_history(run.info.run_id, name)[-1].timestamp
            metrics += store.points({name: values[name]}, 0, model.model_id, when)
    store.send(opened, run.info.run_id, metrics)
    return len(metrics)


def _same(told: float | None, value: float) -> bool:
    return told is not None and repr(float(told)) == repr(float(value))
