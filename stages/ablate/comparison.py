"""All scores of one dataset -> the comparison of its variants, over seeds."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from stages import layout
from stages.evaluate.metrics import METRICS, summarise
from stages.evaluate.protocols import Protocol

COLUMNS = ["dataset", "protocol", "variant", "split", "metric", "seeds", "mean", "std", "min", "max", "difference"]
SCORE_COLUMNS = ["sent_id", "split", "protocol", "intersection", "union"]

Run = tuple[str, int]  # variant, seed


class ComparisonError(Exception):
    """The scores cannot be compared; the message names the run and the way out."""


def read_runs(
    dataset: str, variants: Sequence[str], seeds: Sequence[int], protocol: Protocol
) -> dict[Run, pd.DataFrame]:
    """Scores of every listed run, in the listed order.

    Raises:
        ComparisonError: a listed run has no scores or scores of another protocol, its file lacks a column, or it scored
            an expression twice.
    """
    return {(variant, seed): _read_run(dataset, variant, seed, protocol) for variant in variants for seed in seeds}


def check_paired(dataset: str, runs: dict[Run, pd.DataFrame]) -> None:
    """Check that every run scored exactly the expressions of the first run, split by split.

    Raises:
        ComparisonError: names the run, the split, and how many expressions are missing or too many.
    """
    (first, first_scores), *others = runs.items()
    expected = _expressions_by_split(first_scores)
    for run, scores in others:
        found = _expressions_by_split(scores)
        for split in dict.fromkeys([*expected, *found]):
            missing = expected.get(split, set()) - found.get(split, set())
            surplus = found.get(split, set()) - expected.get(split, set())
            if missing or surplus:
                raise ComparisonError(
                    f"{dataset}: run {_describe(run)} and run {_describe(first)} scored different expressions "
                    f"of {split}: {len(found.get(split, ()))} and {len(expected.get(split, ()))}, "
                    f"{len(missing)} missing, {len(surplus)} too many (such as sent_id {min(missing or surplus)}). "
                    f"Score both again with: dvc repro -f -s {_stage(dataset, run)} {_stage(dataset, first)}"
                )


def compare(dataset: str, protocol: Protocol, reference: str, runs: dict[Run, pd.DataFrame]) -> pd.DataFrame:
    """Every metric of every variant on every split, over seeds.

    Args:
        dataset: name of the dataset.
        protocol: that the scores were computed under.
        reference: the variant that differences are taken to; one of the runs' variants.
        runs: (variant, seed) -> scores with the columns split, intersection, union.

    Returns:
        One row a variant, split and metric, columns `COLUMNS`. Metrics are fractions between 0 and 1; `seeds` is their
        number n; `std` divides by n - 1 and is missing for n = 1; `difference` is the mean minus the mean of the
        reference on the same split and metric.
    """
    by_run = pd.DataFrame(
        [
            {"variant": variant, "seed": seed, "split": split, "metric": metric, "value": metrics[metric]}
            for (variant, seed), scores in runs.items()
            for split, rows in scores.groupby("split", sort=False)
            for metrics in [summarise(rows, protocol)]
            for metric in METRICS
        ]
    )
    over_seeds = by_run.groupby(["variant", "split", "metric"], sort=False)["value"]
    table = over_seeds.agg(seeds="count", mean="mean", std="std", min="min", max="max").reset_index()
    of_reference = table[table["variant"] == reference].set_index(["split", "metric"])["mean"]
    keys = pd.MultiIndex.from_frame(table[["split", "metric"]])
    table["difference"] = table["mean"].to_numpy() - of_reference.loc[keys].to_numpy()
    return table.assign(dataset=dataset, protocol=protocol.name)[COLUMNS]


def write(table: pd.DataFrame, path: Path) -> None:
    """Write the comparison as CSV, floats with all their digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False, lineterminator="\n")


def _read_run(dataset: str, variant: str, seed: int, protocol: Protocol) -> pd.DataFrame:
    path, run = layout.scores(dataset, variant, seed), (variant, seed)
    if not path.exists():
        raise ComparisonError(
            f"run {_describe(run)} of {dataset} has no scores: {path} is missing. "
            f"Make it with: dvc repro {_stage(dataset, run)}"
        )
    try:
        scores = pd.read_parquet(path, columns=SCORE_COLUMNS)
    except (ValueError, OSError) as error:
        raise ComparisonError(
            f"{path} is not a table of scores with the columns {SCORE_COLUMNS}: {error}. "
            f"Make it again with: dvc repro -f -s {_stage(dataset, run)}"
        ) from error
    others = sorted(set(scores["protocol"]) - {protocol.name})
    if others:
        raise ComparisonError(
            f"{path} was scored under protocol {', '.join(others)}, params.yaml says {protocol.name}: "
            f"numbers of two protocols cannot be compared. Score it again with: dvc repro {_stage(dataset, run)}"
        )
    twice = scores.loc[scores["sent_id"].duplicated(), "sent_id"]
    if not twice.empty:
        raise ComparisonError(
            f"{path} scores {len(twice)} expressions more than once, such as sent_id {twice.iloc[0]}. "
            f"Make it again with: dvc repro -f -s {_stage(dataset, run)}"
        )
    return scores


def _expressions_by_split(scores: pd.DataFrame) -> dict[str, set[int]]:
    return {split: set(rows.tolist()) for split, rows in scores.groupby("split", sort=False)["sent_id"]}


def _describe(run: Run) -> str:
    variant, seed = run
    return f"{variant}, seed {seed}"


def _stage(dataset: str, run: Run) -> str:
    variant, seed = run
    return f"evaluate@{dataset}-{variant}-{seed}"
