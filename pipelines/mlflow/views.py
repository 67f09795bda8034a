"""Views of an experiment in MLflow's pages: the table of variants, their curves, their comparison, their predictions.

MLflow's page keeps a view as a tag of the experiment, `mlflow.sharedViewState.ID`: JSON with a name, a time and the
state of the page (version 3.17; `ExperimentPageUIState.tsx` of its source has the keys). An address opens it by the ID.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

from stages.statistics.evidence import unseen
from stages.tracking import mlruns, store
from stages.tracking.store import Store

TAG = "mlflow.sharedViewState."
KINDS = ("variants", "curves", "comparison", "predictions")
LOSSES = ("loss", "mask_loss", "contrastive_loss", "learning_rate")  # and what else has a curve
NAME, CREATED = "attributes.`Run Name`", "runDateAndNestInfo"  # MLflow's columns
MODEL_TRAINING = "workflowType=machine_learning"  # without it, MLflow opens its pages for chat models
WIDTHS = {NAME: 484, CREATED: 36}  # pixels; a group has no time
CELL = 86
COLOURS = "Green: hits, blue: misses, orange: false alarms"


class Shown(NamedTuple):
    """What the views on a dataset are of.

    Attributes:
        splits: those that runs are evaluated on.
        metric: the one that comes first, by which variants are sorted.
        labels: of the groups of runs, one for each variant.
        pictures: keys of the logged images.
        seed: the one whose predictions are shown.
    """

    dataset: str
    splits: Sequence[str]
    metric: str
    labels: Sequence[str]
    pictures: Sequence[str]
    seed: int


def send(opened: Store, shown: Shown) -> int:
    """Keep the views on a dataset with the experiment; return how many were not there as they are."""
    experiment = opened.client.get_experiment(opened.experiment_id)
    new = 0
    for kind, state in zip(KINDS, states(shown), strict=True):
        tag = f"{TAG}{store.legal(shown.dataset)}-{kind}"
        name = f"{shown.dataset}: {kind}"
        value = json.dumps({"name": name, "createdAt": experiment.creation_time, "state": json.dumps(state)})
        if experiment.tags.get(tag) != value:
            opened.client.set_experiment_tag(opened.experiment_id, tag, value)
            new += 1
    return new


def addresses(opened: Store, base: str) -> dict[str, str]:
    """Name of each view of the experiment -> where it opens in the browser.

    Args:
        base: where MLflow's pages are, such as `http://127.0.0.1:5000`.
    """
    tags, pages = opened.client.get_experiment(opened.experiment_id).tags, f"{base.rstrip('/')}/#/experiments"
    found = {}
    for kind in KINDS:
        for tag in sorted(tags):
            if tag.startswith(TAG) and tag.endswith(f"-{kind}"):
                view = quote(tag.removeprefix(TAG))
                mode = "" if kind == KINDS[0] else "&compareRunsMode=CHART"
                address = f"{pages}/{opened.experiment_id}/runs?{MODEL_TRAINING}{mode}"
                found[json.loads(tags[tag])["name"]] = f"{address}&viewStateShareKey={view}"
    return found


def artifact(opened: Store, run_id: str, path: str) -> str:
    """Where MLflow shows an artifact of a run, from its own pages."""
    return f"#/experiments/{opened.experiment_id}/runs/{run_id}/artifacts/{path}?{MODEL_TRAINING}"


def states(shown: Shown) -> list[dict]:
    """The state of the page for each of `KINDS`."""
    fair = unseen(list(shown.splits))
    ordered = [*fair, *(split for split in shown.splits if split not in fair)]
    metrics = [shown.metric, *(name for name in mlruns.KEPT if name != shown.metric)]
    cells = [store.legal(f"{split}/{name}") for name in metrics for split in ordered]
    curves = [store.legal(f"{mlruns.BY_EPOCH}/{name}") for name in [*(f"val_{metric}" for metric in metrics), *LOSSES]]
    runs = {
        "searchFilter": f"tags.{mlruns.CURRENT} = 'true' and tags.dataset = '{shown.dataset}'",
        "orderByKey": f"tags.`{mlruns.PLACE}`",
        "orderByAsc": True,
        "runsHiddenMode": "SHOW_ALL",  # by default, charts have ten runs
    }
    by_variant = {**runs, "groupBy": _by("variant")}
    unsmoothed = {"lineSmoothness": 0, "useGlobalLineSmoothing": False}  # else, lines leave the range of their runs
    lines = [
        {"type": "LINE", "metricKey": key, "selectedMetricKeys": [key], "xAxisKey": "step", **unsmoothed}
        for key in curves
    ]
    bars = [{"type": "BAR", "metricKey": key} for key in cells]
    image = {"type": "IMAGE", "imageKeys": list(shown.pictures), "step": 0, "showRunParams": False}
    images = [image] * bool(shown.pictures)
    of_seed = {**runs, "searchFilter": f"{runs['searchFilter']} and tags.seed = '{shown.seed}'", "orderByAsc": False}
    return [
        {**runs, "groupBy": _by(mlruns.COMPARED_AS), **_table(cells, shown.labels)},
        {
            **by_variant,
            **_charts("Mean over the seeds, and their range", lines, columns=2, cardHeight=480),
            "runListHidden": True,
        },
        {**by_variant, **_charts("Mean over the seeds", bars), "runListHidden": True},
        {
            **of_seed,  # a table of images has the last run first
            **_charts(f"Models of seed {shown.seed}. {COLOURS}", images, columns=1, cardHeight=1000),
            "runListHidden": True,
        },
    ]


def _by(tag: str) -> dict:
    return {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": tag}]}


def _table(metrics: Sequence[str], labels: Iterable[str]) -> dict:
    """Columns of metrics, and groups of runs that are closed."""
    columns = [f"metrics.`{name}`" for name in metrics]
    return {
        "selectedColumns": columns,
        "columnOrder": [NAME, *columns, CREATED],
        "columnWidths": {**WIDTHS, **dict.fromkeys(columns, CELL)},
        "groupsExpanded": {f"tag.{mlruns.COMPARED_AS}.{label}": False for label in labels},
    }


def _charts(section: str, charts: Sequence[Mapping], **layout: int) -> dict:
    """The charts of a page, in one section that is open; `columns` and `cardHeight` lay them out."""
    given = {"metricSectionId": _id(section), "deleted": False, "isGenerated": False}
    opened = {"uuid": _id(section), "name": section, "display": True, "isReordered": True, "deleted": False, **layout}
    return {
        "compareRunCharts": [{"uuid": _id(json.dumps(chart)), **given, **chart} for chart in charts],
        "compareRunSections": [opened],
        "isAccordionReordered": True,
    }


def _id(name: str) -> str:
    return str(uuid5(NAMESPACE_URL, name))
