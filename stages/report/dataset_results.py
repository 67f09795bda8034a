"""Everything that the report says about one dataset, read and checked: numbers, learning curves, scores and images."""

import io
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import pandas as pd

from stages.data.prepared import PreparedDataset
from stages.report import dataset_numbers
from stages.report.dataset_numbers import (
    COLUMNS,
    COMPARISON,
    DIAGNOSIS,
    LEARNING,
    SUMMARY,
    UNDER_EACH,
    DatasetNumbers,
    MissingInputError,
    ReportError,
    check_finite,
    check_protocol,
    check_protocols,
    files_of_others,
    read_bytes,
    read_table,
    tables_of_ablate,
)
from stages.runtime import experiments, layout
from stages.runtime.params import Params
from stages.runtime.run import Run
from stages.scoring.protocols import PROTOCOLS, Protocol
from stages.statistics import scored_on

PLACES = ("root", "images", "instances", "expressions")  # keys of a source that are paths on this machine
TOLD = ("name", "source", "counts", "partial", "warnings", "notes", "checks", "fingerprint")  # of dataset.json


@dataclass(frozen=True)
class DatasetResults(DatasetNumbers):
    """Everything that the report says about one dataset.

    Attributes:
        files: the files that the numbers were read from, by the names under which `reports/data/D` keeps them.
        dataset: the prepared dataset.
        histories: variant -> seed -> one row for each epoch; runs without a history are left out, and so are variants
            without a run.
        shown_seed: the first seed that the shown variants have in common.
        scores: variant -> scores of the shown seed, indexed by sent_id, for the variants whose predictions are shown,
            and then those of the systems that others made.
        profiles: results/profiles, one row for each split, variant and threshold.
    """

    files: dict[str, bytes]
    dataset: PreparedDataset
    histories: dict[str, dict[int, pd.DataFrame]]
    shown_seed: int
    scores: dict[str, pd.DataFrame]
    profiles: pd.DataFrame

    @property
    def shown(self) -> list[str]:
        """The variants whose predictions are shown."""
        return [name for name in self.scores if name not in self.others]


def read(name: str, params: Params) -> DatasetResults:
    """Read what the report says about one dataset.

    Raises:
        MissingInputError: an input is missing.
        ReportError: an input does not match the listed variants, seeds and splits, or the protocol.
        FileNotFoundError: there is no prepared dataset.
    """
    further, protocol = params.experiment.evaluate_on, PROTOCOLS[params.evaluation.protocol]
    dataset = scored_on.read(name, further)
    files = _files_to_keep(name, params, dataset)
    histories = _histories(name, params, read_table(files[COMPARISON], layout.comparison(name), COMPARISON), protocol)
    files[LEARNING] = _to_csv(_learning(histories, params.recipes[params.experiment.recipe].training.select_by))
    numbers = dataset_numbers.from_files(name, params, files)
    shown, shown_seed = _shown(numbers)
    scores = {variant: _read_scores(Run(name, variant, shown_seed), further, dataset, protocol) for variant in shown}
    scores |= {other: _read_scores_of_other(name, other, dataset, protocol) for other in numbers.others}
    return DatasetResults(
        **{field.name: getattr(numbers, field.name) for field in fields(DatasetNumbers)},
        files=files,
        dataset=dataset,
        histories=histories,
        shown_seed=shown_seed,
        scores=scores,
        profiles=_read_profiles(name, protocol),
    )


def _files_to_keep(name: str, params: Params, dataset: PreparedDataset) -> dict[str, bytes]:
    """The files that numbers are made of, by the names under which `reports/data/D` keeps them."""
    source = {key: value for key, value in dataset.summary.get("source", {}).items() if key not in PLACES}
    summary = {key: dataset.summary[key] for key in TOLD if key in dataset.summary} | {"source": source}
    summary["splits"] = dataset.evaluation_splits
    content = {SUMMARY: json.dumps(summary, indent=2, ensure_ascii=False).encode() + b"\n"}
    for file, path in tables_of_ablate(params).items():
        content[file] = read_bytes(path(name), f"{name} has no {file.removesuffix('.csv')}", f"ablate@{name}")
    for file in files_of_others(name, params):
        content[file] = read_bytes(layout.about_others(name), f"others on {name} have no scores", f"score@{name}")
    comparison = read_table(content[COMPARISON], layout.comparison(name), COMPARISON)
    runs = _scored(name, params, comparison)
    content[DIAGNOSIS] = _to_csv(_diagnosis(runs))
    if params.evaluation.also:
        further = params.experiment.evaluate_on
        content[UNDER_EACH] = _to_csv(_under_each(runs, further, params.evaluation.protocols))
    return content


def _scored(name: str, params: Params, comparison: pd.DataFrame) -> list[Run]:
    """The listed runs that have scores."""
    gone, experiment = _missing(comparison), params.experiment
    return [
        Run(name, variant, seed)
        for variant in experiment.variants
        for seed in experiment.seeds
        if seed not in gone.get(variant, set())
    ]


def _diagnosis(runs: list[Run]) -> pd.DataFrame:
    """One row for each run, one column for each number of its summary; dots join nested keys."""
    rows = []
    for run in runs:
        who = f"run {run.variant}, seed {run.seed} of {run.dataset} has no diagnosis"
        content = read_bytes(layout.diagnosis(*run) / "summary.json", who, run.stage("diagnose"))
        rows.append({"variant": run.variant, "seed": run.seed, **_flat(json.loads(content))})
    return pd.DataFrame(rows, columns=None if rows else sorted(COLUMNS[DIAGNOSIS]))


def _under_each(runs: list[Run], further: list[str], protocols: list[str]) -> pd.DataFrame:
    """The metrics of each run under each protocol. Raises ReportError where a run is not scored under all of them."""
    tables = []
    for run, on in itertools.product(runs, [None, *further]):
        path, who = layout.protocols(*run, on), f"run {run.variant}, seed {run.seed} of {run.dataset} has no metrics"
        table = pd.read_csv(io.BytesIO(read_bytes(path, who, run.evaluation(on))))
        check_protocols(table, protocols, path, run)
        table.insert(0, "variant", run.variant)
        table.insert(1, "seed", run.seed)
        tables.append(table)
    return pd.concat(tables) if tables else pd.DataFrame(columns=sorted(COLUMNS[UNDER_EACH]))


def _missing(comparison: pd.DataFrame) -> dict[str, set[int]]:
    """Variant -> the seeds without scores."""
    return {
        name: set(map(int, seeds.split())) for name, seeds in comparison.groupby("variant")["missing"].first().items()
    }


def _histories(
    name: str, params: Params, comparison: pd.DataFrame, protocol: Protocol
) -> dict[str, dict[int, pd.DataFrame]]:
    """Variant -> seed -> history, of every run that has scores or a history."""
    gone = _missing(comparison)
    found = {
        variant: {
            seed: _read_history(Run(name, variant, seed), protocol)
            for seed in params.experiment.seeds
            if seed not in gone.get(variant, set()) or layout.history(name, variant, seed).exists()
        }
        for variant in params.experiment.variants
    }
    return {variant: by_seed for variant, by_seed in found.items() if by_seed}


def _learning(histories: dict[str, dict[int, pd.DataFrame]], metric: str) -> pd.DataFrame:
    """The metric that selects the epoch, on val, for each run and epoch."""
    rows = [
        {"variant": variant, "seed": seed, "epoch": epoch, "metric": metric, "val": val}
        for variant, by_seed in histories.items()
        for seed, history in by_seed.items()
        for epoch, val in zip(history["epoch"], history[f"val_{metric}"], strict=True)
    ]
    return pd.DataFrame(rows, columns=["variant", "seed", "epoch", "metric", "val"])


def _to_csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False, lineterminator="\n").encode()


def _flat(value: Mapping, prefix: str = "") -> dict[str, float | int]:
    found = {}
    for key, inner in value.items():
        if isinstance(inner, dict):
            found |= _flat(inner, f"{prefix}{key}.")
        elif isinstance(inner, int | float) and not isinstance(inner, bool):
            found[f"{prefix}{key}"] = inner
    return found


def _shown(numbers: DatasetNumbers) -> tuple[list[str], int]:
    """The variants whose predictions are shown, and the first seed that they have in common."""
    wanted = dict.fromkeys([numbers.reference, numbers.highlight])
    variants = [name for name in wanted if name in numbers.scored]
    if not variants:
        named = " or ".join(dict.fromkeys([numbers.named_highlight, numbers.reference]))
        again = f"Make them with: {experiments.dvc('repro', f'ablate@{numbers.name}')}"
        raise MissingInputError(f"no run of {named} on {numbers.name} has scores. {again}")
    for shown in (variants, variants[-1:]):
        if common := [seed for seed in numbers.seeds if all(seed in numbers.scored_seeds[name] for name in shown)]:
            break
    return shown, common[0]


def _read_history(run: Run, protocol: Protocol) -> pd.DataFrame:
    path, stage = layout.history(*run), run.stage("train")
    content = read_bytes(path, f"run {run.variant}, seed {run.seed} of {run.dataset} has no history", stage)
    history = pd.read_csv(io.BytesIO(content))
    check_protocol(history, protocol, path, f"Make it with: {experiments.dvc('repro', stage)}")
    check_finite(
        history, history.columns.drop("protocol"), path, f"Make it again with: {experiments.dvc('repro -f -s', stage)}"
    )
    return history


def _read_profiles(name: str, protocol: Protocol) -> pd.DataFrame:
    path, stage = layout.profiles(name), f"ablate@{name}"
    table = pd.read_csv(io.BytesIO(read_bytes(path, f"{name} has no profiles", stage)))
    check_protocol(table, protocol, path, f"Make it with: {experiments.dvc('repro', stage)}")
    return table


def _read_scores(run: Run, further: list[str], dataset: PreparedDataset, protocol: Protocol) -> pd.DataFrame:
    """Of all splits, those of further datasets with the ids that `scored_on` gives them, indexed by sent_id."""
    who, tables = f"run {run.variant}, seed {run.seed} of {run.dataset}", []
    own = [split for split in dataset.evaluation_splits if split not in further]
    for place, on in enumerate([None, *further]):
        path, stage, splits = layout.scores(*run, on), run.evaluation(on), [on] if on else own
        found = _checked(path, who, run.dataset, stage, dataset, protocol, splits, place)
        tables.append(found)
    return pd.concat(tables)


def _read_scores_of_other(name: str, other: str, dataset: PreparedDataset, protocol: Protocol) -> pd.DataFrame:
    path = layout.scores_of_other(name, other)
    return _checked(path, f"{other} on {name}", name, f"score@{name}", dataset, protocol, dataset.evaluation_splits)


def _checked(
    path: Path,
    who: str,
    name: str,
    stage: str,
    dataset: PreparedDataset,
    protocol: Protocol,
    splits: list[str],
    place: int = 0,
) -> pd.DataFrame:
    """Scores of some splits that a stage has made, indexed by sent_id; place: that of a further dataset, from 1 on."""
    again = f"Make it with: {experiments.dvc('repro', stage)}"
    content = read_bytes(path, f"{who} has no scores", stage)
    scores = scored_on.moved(pd.read_parquet(io.BytesIO(content)), place).set_index("sent_id")
    check_protocol(scores, protocol, path, again)
    check_finite(
        scores, ["intersection", "union", "iou"], path, f"Make it again with: {experiments.dvc('repro -f -s', stage)}"
    )
    expressions = dataset.expressions
    expected = expressions.loc[expressions["split"].isin(splits), "sent_id"]
    if set(scores.index) != set(expected):
        raise ReportError(
            f"{path} scores {len(scores)} expressions, {name} has {len(expected)} to score ({', '.join(splits)}), and "
            f"they are not the same. {again}"
        )
    return scores
