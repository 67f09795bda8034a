"""Views of an experiment in MLflow's pages: the table of variants, their curves, and their comparison in charts.

MLflow's page keeps a view as a tag of the experiment, `mlflow.sharedViewState.ID`: JSON with a name, a time and the
state of the page (version 3.17; `ExperimentPageUIState.tsx` of its source has the keys). An address opens it by the ID.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple
from uuid import NAMESPACE_URL, uuid5

from stages.statistics.evidence import unseen
from stages.tracking import mlruns, store
from stages.tracking.store import Store

TAG = "mlflow.sharedViewState."
LOSSES = ("loss", "mask_loss", "contrastive_loss", "learning_rate")  # and what else has a curve


class View(NamedTuple):
    """A view: its ID in addresses, its name in MLflow's list, whether it shows charts, and the state of the page."""

    id: str
    name: str
    charts: bool
    state: dict


def views(dataset: str, splits: Sequence[str], metric: str) -> list[View]:
    """The views on the runs of a dataset.

    Args:
        splits: those that runs are evaluated on.
        metric: the one that comes first, by which variants are sorted.
    """
    fair = unseen(list(splits))
    ordered = [*fair, *(split for split in splits if split not in fair)]
    metrics = [metric, *(name for name in mlruns.KEPT if name != metric)]
    cells = [store.legal(f"{split}/{name}") for name in metrics for split in ordered]
    curves = [store.legal(f"{mlruns.BY_EPOCH}/{name}") for name in (*(f"val_{name}" for name in metrics), *LOSSES)]
    runs = {
        "searchFilter": f"tags.{mlruns.CURRENT} = 'true' and tags.dataset = '{dataset}'",
        "orderByKey": f"tags.`{mlruns.PLACE}`",
        "orderByAsc": True,
        "runsHiddenMode": "SHOW_ALL",  # by default, charts have ten runs
    }
    table = {"selectedColumns": [f"metrics.`{name}`" for name in cells], "groupBy": _by(mlruns.COMPARED_AS)}
    lines = _charts("Mean over the seeds, and their range", [{"type": "LINE", **_curve(key)} for key in curves])
    bars = _charts("Mean over the seeds", [{"type": "BAR", "metricKey": key} for key in cells])
    return [
        View(f"{dataset}-variants", f"{dataset}: variants", False, {**runs, **table}),
        View(f"{dataset}-curves", f"{dataset}: curves by variant", True, {**runs, **lines, "groupBy": _by("variant")}),
        View(
            f"{dataset}-comparison",
            f"{dataset}: comparison of variants",
            True,
            {**runs, **bars, "groupBy": _by("variant")},
        ),
    ]


def send(opened: Store, wanted: Iterable[View]) -> int:
    """Keep views with the experiment; return how many were not there as they are."""
    experiment = opened.client.get_experiment(opened.experiment_id)
    new = 0
    for view in wanted:
        kept = {"name": view.name, "createdAt": experiment.creation_time, "state": json.dumps(view.state)}
        if experiment.tags.get(TAG + view.id) != (value := json.dumps(kept)):
            opened.client.set_experiment_tag(opened.experiment_id, TAG + view.id, value)
            new += 1
    return new


def address(base: str, experiment_id: str, view: View) -> str:
    """Where a view opens in the browser."""
    mode = "&compareRunsMode=CHART" * view.charts
    return f"{base}/#/experiments/{experiment_id}/runs?workflowType=machine_learning{mode}&viewStateShareKey={view.id}"


def _by(tag: str) -> dict:
    return {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": tag}]}


def _curve(key: str) -> dict:
    return {"metricKey": key, "selectedMetricKeys": [key], "xAxisKey": "step"}


def _charts(section: str, charts: Sequence[Mapping]) -> dict:
    """The charts of a page, in one section that is open."""
    given = {"metricSectionId": _id(section), "deleted": False, "isGenerated": False}
    opened = {"uuid": _id(section), "name": section, "display": True, "isReordered": True, "deleted": False}
    return {
        "compareRunCharts": [{"uuid": _id(chart["metricKey"]), **given, **chart} for chart in charts],
        "compareRunSections": [opened],
        "isAccordionReordered": True,
    }


def _id(name: str) -> str:
    return str(uuid5(NAMESPACE_URL, name))
