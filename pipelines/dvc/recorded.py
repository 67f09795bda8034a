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
from stages.tracking.mlruns import flatten, run_name
from stages.tracking.store import Scalar

Entries = Mapping[str, dict]  # stage -> its entry in dvc.lock


class Training(NamedTuple):
    """One training: what it was computed from, and what it gave."""

    stage: str
    cell: Run
    inputs: dict
    recipe: str
    params: dict[str, Scalar]
    protocol: str
    select_by: str
    outs: list[dict]


class Evaluation(NamedTuple):
    """The scores of a training's model."""

    stage: str
    key: str
    metrics: Path
    outs: list[dict]


class Comparison(NamedTuple):
    """The comparison of a dataset's trainings."""

    stage: str
    dataset: str
    runs: list[Run]
    reference: str
    outs: list[dict]
    scores: dict  # the dependency that it was computed from


def trainings(entries: Entries) -> list[Training]:
    """Every training that `dvc.lock` records, those of variants that are no longer listed included."""
    return [found for stage in entries if stage.startswith("train@") and (found := _training(stage, entries[stage]))]


def _training(stage: str, entry: dict) -> Training | None:
    """None for an entry that an older project wrote otherwise."""
    given, knobs = _arguments(entry["cmd"]), entry.get("params", {}).get(layout.PARAMS.name, {})
    try:
        cell = Run(given["dataset"], given["variant"], int(given["seed"]))
        (recipe,) = [name for name in knobs if name.startswith("recipes.")]
        recorded = Recipe.model_validate(knobs[recipe])
        params = flatten(recipe=recorded, variant=Variant.model_validate(knobs[f"variants.{cell.variant}"]))
        protocol = knobs["evaluation.protocol"]
    except (KeyError, ValueError, ValidationError):
        return None
    given_outs = {*_model_files(cell), layout.history(*cell)}
    outs = [out for out in entry.get("outs", []) if Path(out["path"]) in given_outs]
    if stage != f"train@{run_name(*cell)}" or len(outs) < len(given_outs):
        return None
    name, select_by = recipe.removeprefix("recipes."), recorded.training.select_by
    return Training(stage, cell, keys.inputs_of(entry), name, params, protocol, select_by, outs)


def evaluation(training: Training, entries: Entries) -> Evaluation | None:
    """The scores of the very model that the training gave; None where `dvc.lock` has those of another, or none."""
    stage = f"evaluate@{run_name(*training.cell)}"
    if (entry := entries.get(stage)) is None:
        return None
    metrics, files = layout.metrics(*training.cell), _model_files(training.cell)
    outs = [out for out in entry.get("outs", []) if Path(out["path"]) in (metrics, layout.card(*training.cell))]
    given, trained = ([_md5(items, file) for file in files] for items in (entry.get("deps", []), training.outs))
    if given != trained or not outs:
        return None
    return Evaluation(stage, keys.key(stage, keys.inputs_of(entry)), metrics, outs)


def comparisons(entries: Entries) -> list[Comparison]:
    """Every comparison that `dvc.lock` records."""
    return [found for stage in entries if stage.startswith("ablate@") and (found := _comparison(stage, entries[stage]))]


def _comparison(stage: str, entry: dict) -> Comparison | None:
    dataset, knobs = _arguments(entry["cmd"]).get("dataset"), entry.get("params", {}).get(layout.PARAMS.name, {})
    outs = [out for out in entry.get("outs", []) if dataset and Path(out["path"]) == layout.comparison(dataset)]
    scores = [dep for dep in entry.get("deps", []) if Path(dep["path"]) == layout.RESULTS / "scores" / str(dataset)]
    if not outs or not scores or not {"experiment.variants", "experiment.seeds", "experiment.reference"} <= set(knobs):
        return None
    runs = [Run(dataset, name, seed) for name in knobs["experiment.variants"] for seed in knobs["experiment.seeds"]]
    return Comparison(stage, dataset, runs, knobs["experiment.reference"], outs, scores[0])


def _arguments(command: str) -> dict[str, str]:
    """`python -m stages.train --seed 0` -> `{"seed": "0"}`."""
    words = shlex.split(command)
    return {name.removeprefix("--"): value for name, value in itertools.pairwise(words) if name.startswith("--")}


def _model_files(cell: Run) -> list[Path]:
    return [layout.model(*cell) / name for name in layout.MODEL_FILES]


def _md5(items: Iterable[Mapping], path: Path) -> str | None:
    return next((item.get("md5") for item in items if Path(item["path"]) == path), None)
