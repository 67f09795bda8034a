"""What the report is made of, read and checked: every listed dataset, its comparison, histories and scores."""

from dataclasses import dataclass

import pandas as pd

from stages import layout, prepared
from stages.params import Params
from stages.prepared import PreparedDataset


class ReportError(Exception):
    """An input of the report is missing or belongs to another experiment; the message names the command to run."""


@dataclass(frozen=True)
class DatasetResults:
    """Everything the report says about one dataset.

    Attributes:
        name: name of the dataset.
        protocol: name of the evaluation protocol.
        reference: the variant that differences are taken to.
        variants: listed variants, in the listed order.
        seeds: listed seeds, in the listed order.
        splits: evaluation splits, in the order of the prepared dataset.
        dataset: the prepared dataset.
        comparison: means over seeds as fractions, indexed by (variant, split, metric).
        histories: variant -> seed -> one row an epoch.
        scores: variant -> scores of the first listed seed, indexed by sent_id, for the variants that the gallery shows.
    """

    name: str
    protocol: str
    reference: str
    variants: list[str]
    seeds: list[int]
    splits: list[str]
    dataset: PreparedDataset
    comparison: pd.DataFrame
    histories: dict[str, dict[int, pd.DataFrame]]
    scores: dict[str, pd.DataFrame]

    @property
    def counts(self) -> dict[str, int]:
        """Expressions of each evaluation split."""
        sizes = self.dataset.expressions["split"].value_counts()
        return {split: int(sizes[split]) for split in self.splits}

    @property
    def richest(self) -> str:
        """The last listed variant that is not the reference; the reference where it is alone."""
        return _richest(self.variants, self.reference)


def read(name: str, params: Params) -> DatasetResults:
    """Read what the report says about one dataset.

    Raises:
        ReportError: an input is missing, or does not match the listed variants, seeds and splits.
        FileNotFoundError: there is no prepared dataset.
    """
    experiment = params.experiment
    dataset = prepared.read(layout.prepared(name))
    return DatasetResults(
        name=name,
        protocol=params.evaluation.protocol,
        reference=experiment.reference,
        variants=experiment.variants,
        seeds=experiment.seeds,
        splits=dataset.evaluation_splits,
        dataset=dataset,
        comparison=_read_comparison(name, params, dataset.evaluation_splits),
        histories={
            variant: {seed: _read_history(name, variant, seed) for seed in experiment.seeds}
            for variant in experiment.variants
        },
        scores={
            variant: _read_scores(name, variant, experiment.seeds[0], dataset)
            for variant in dict.fromkeys([experiment.reference, _richest(experiment.variants, experiment.reference)])
        },
    )


def _richest(variants: list[str], reference: str) -> str:
    return [reference, *(variant for variant in variants if variant != reference)][-1]


def _read_comparison(name: str, params: Params, splits: list[str]) -> pd.DataFrame:
    path, again = layout.comparison(name), f"Make it with: dvc repro ablate@{name}"
    if not path.exists():
        raise ReportError(f"{name} has no comparison: {path} is missing. {again}")
    table = pd.read_csv(path)
    expected = {
        "variants": (params.experiment.variants, list(table["variant"].unique())),
        "splits": (splits, list(table["split"].unique())),
        "numbers of seeds": ([len(params.experiment.seeds)], list(table["seeds"].unique())),
        "protocols": ([params.evaluation.protocol], list(table["protocol"].unique())),
    }
    for what, (wanted, found) in expected.items():
        if set(wanted) != set(found):
            raise ReportError(f"{path} is of another experiment: its {what} are {found}, not {wanted}. {again}")
    return table.set_index(["variant", "split", "metric"]).sort_index()


def _read_history(name: str, variant: str, seed: int) -> pd.DataFrame:
    path = layout.history(name, variant, seed)
    if not path.exists():
        raise ReportError(
            f"run {variant}, seed {seed} of {name} has no history: {path} is missing. "
            f"Make it with: dvc repro train@{name}-{variant}-{seed}"
        )
    return pd.read_csv(path)


def _read_scores(name: str, variant: str, seed: int, dataset: PreparedDataset) -> pd.DataFrame:
    path, again = layout.scores(name, variant, seed), f"Make it with: dvc repro evaluate@{name}-{variant}-{seed}"
    if not path.exists():
        raise ReportError(f"run {variant}, seed {seed} of {name} has no scores: {path} is missing. {again}")
    scores = pd.read_parquet(path).set_index("sent_id")
    expressions = dataset.expressions
    expected = expressions.loc[expressions["split"].isin(dataset.evaluation_splits), "sent_id"]
    if set(scores.index) != set(expected):
        raise ReportError(
            f"{path} scores {len(scores)} expressions, the evaluation splits of {layout.prepared(name)} hold "
            f"{len(expected)}, and they are not the same. {again}"
        )
    return scores
