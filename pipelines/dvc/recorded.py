"""What `dvc.lock` records of trainings, their evaluations and their comparisons."""

import itertools
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from stages.runtime import keys, layout
from stages.runtime.params import Recipe, Variant
from stages.runtime.run import Run
from stages.tracking.mlruns import flatten
from stages.tracking.store import Scalar

Entries = Mapping[str, dict]  # stage -> its entry in dvc.lock


class RecordedTraining(NamedTuple):
    """One training: what it was computed from, and its outputs.

    Attributes:
        outs: the entries of `dvc.lock` for the outputs.
    """

    stage: str
    run: Run
    inputs: dict
    recipe: str
    params: dict[str, Scalar]
    protocol: str
    select_by: str
    outs: list[dict]

    @property
    def data(self) -> str | None:
        """The md5 of the file with the hash of the prepared dataset; None where its entry names no such file."""
        return _md5(self.inputs["deps"], layout.prepared_hash(self.run.dataset))


class RecordedEvaluation(NamedTuple):
    """The scores of the model of a training.

    Attributes:
        on: the further dataset that was scored; None: the evaluation splits of the training's own.
        outs: the entries of `dvc.lock` for its metrics, and for those under each protocol.
        scores: the entry of `dvc.lock` for the table of scores.
    """

    stage: str
    key: str
    metrics: Path
    outs: list[dict]
    scores: list[dict]
    on: str | None = None


class RecordedComparison(NamedTuple):
    """The comparison of the trainings on one dataset.

    Attributes:
        scores: the entry of `dvc.lock` for the scores that were compared.
    """

    stage: str
    dataset: str
    runs: list[Run]
    reference: str
    outs: list[dict]
    scores: dict


def trainings(entries: Entries) -> list[RecordedTraining]:
    """Every training that `dvc.lock` records, those of variants that are no longer listed included."""
    return [found for stage in entries if stage.startswith("train@") and (found := _training(stage, entries[stage]))]


def _training(stage: str, entry: dict) -> RecordedTraining | None:
    """None for an entry that has another form, as an older version of the project wrote it."""
    given, params = _arguments(entry["cmd"]), _params(entry)
    try:
        run = Run(given["dataset"], given["variant"], int(given["seed"]))
        (recipe,) = [name for name in params if name.startswith("recipes.")]
        recorded = Recipe.model_validate(params[recipe])
        told = flatten(recipe=recorded, variant=Variant.model_validate(params[f"variants.{run.variant}"]))
        protocol = params["evaluation.protocol"]
    except (KeyError, ValueError, ValidationError):
        return None
    expected = {*_model_files(run), layout.history(*run)}
    outs = [out for out in entry.get("outs", []) if Path(out["path"]) in expected]
    if stage != run.stage("train") or len(outs) < len(expected):
        return None
    name, select_by = recipe.removeprefix("recipes."), recorded.training.select_by
    return RecordedTraining(stage, run, keys.inputs_of(entry), name, told, protocol, select_by, outs)


def prepared_md5(dataset: str, entries: Entries) -> str | None:
    """What `prepare` made of a dataset, `data/D`; None where it has not run."""
    return _md5(entries.get(f"prepare@{dataset}", {}).get("outs", []), layout.prepared(dataset))


def evaluation(training: RecordedTraining, entries: Entries, on: str | None = None) -> RecordedEvaluation | None:
    """The scores of the very model that the training gave; None where `dvc.lock` has those of another, or none.

    Args:
        on: a further dataset; None for the evaluation splits of the training's own.
    """
    stage = training.run.evaluation(on)
    if (entry := entries.get(stage)) is None:
        return None
    metrics, files = layout.metrics(*training.run, on), _model_files(training.run)
    shown = metrics, layout.protocols(*training.run, on)
    outs = [out for out in entry.get("outs", []) if Path(out["path"]) in shown]
    evaluated, trained = ([_md5(items, file) for file in files] for items in (entry.get("deps", []), training.outs))
    if evaluated != trained or not outs:
        return None
    scores = [out for out in entry["outs"] if Path(out["path"]) == layout.scores(*training.run, on)]
    return RecordedEvaluation(stage, keys.key(stage, keys.inputs_of(entry)), metrics, outs, scores, on)


def further_evaluations(training: RecordedTraining, entries: Entries) -> list[RecordedEvaluation]:
    """Its scores on further datasets, in the order of `dvc.lock`."""
    before, after = "evaluate_on@", f"-{training.run.name}"
    named = [stage for stage in entries if stage.startswith(before) and stage.endswith(after)]
    found = [evaluation(training, entries, stage.removeprefix(before).removesuffix(after)) for stage in named]
    return [each for each in found if each]


def comparisons(entries: Entries) -> list[RecordedComparison]:
    """Every comparison that `dvc.lock` records."""
    return [found for stage in entries if stage.startswith("ablate@") and (found := _comparison(stage, entries[stage]))]


def _comparison(stage: str, entry: dict) -> RecordedComparison | None:
    dataset, params = _arguments(entry["cmd"]).get("dataset"), _params(entry)
    outs = [out for out in entry.get("outs", []) if dataset and Path(out["path"]) == layout.comparison(dataset)]
    scores = [dep for dep in entry.get("deps", []) if Path(dep["path"]) == layout.RESULTS / "scores" / str(dataset)]
    if not outs or not scores or not {"experiment.variants", "experiment.seeds", "experiment.reference"} <= set(params):
        return None
    runs = [Run(dataset, name, seed) for name in params["experiment.variants"] for seed in params["experiment.seeds"]]
    return RecordedComparison(stage, dataset, runs, params["experiment.reference"], outs, scores[0])


def _arguments(command: str) -> dict[str, str]:
    """`python -m stages.train --seed 0` -> `{"seed": "0"}`."""
    words = shlex.split(command)
    return {name.removeprefix("--"): value for name, value in itertools.pairwise(words) if name.startswith("--")}


def _params(entry: dict) -> dict:
    """Key of the experiment's parameters -> its value, as the entry records them."""
    return entry.get("params", {}).get(str(layout.ALL_PARAMS), {})


def _model_files(run: Run) -> list[Path]:
    return [layout.model(*run) / name for name in layout.MODEL_FILES]


def _md5(items: Iterable[Mapping], path: Path) -> str | None:
    return next((item.get("md5") for item in items if Path(item["path"]) == path), None)
