"""What the report is made of, read and checked: every listed dataset, its comparison, histories and scores."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from stages import layout, prepared
from stages.evaluate.protocols import PROTOCOLS, Protocol
from stages.params import Params
from stages.prepared import PreparedDataset


class ReportError(Exception):
    """An input of the report is missing or belongs to another experiment; the message names the command to run."""


@dataclass(frozen=True)
class DatasetResults:
    """Everything the report says about one dataset.

    Attributes:
        name: name of the dataset.
        protocol: that every number was computed under.
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
    protocol: Protocol
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
    def partial(self) -> bool:
        """Whether the data are a part of what was published."""
        return self.dataset.summary.get("partial", False)

    @property
    def warnings(self) -> list[str]:
        """What a reader must know of the data before comparing numbers."""
        return self.dataset.summary.get("warnings", [])

    @property
    def richest(self) -> str:
        """The last listed variant that is not the reference; the reference where it is alone."""
        return _richest(self.variants, self.reference)


def read(name: str, params: Params) -> DatasetResults:
    """Read what the report says about one dataset.

    Raises:
        ReportError: an input is missing, or does not match the listed variants, seeds and splits, or the protocol.
        FileNotFoundError: there is no prepared dataset.
    """
    experiment, protocol = params.experiment, PROTOCOLS[params.evaluation.protocol]
    dataset = prepared.read(layout.prepared(name))
    return DatasetResults(
        name=name,
        protocol=protocol,
        reference=experiment.reference,
        variants=experiment.variants,
        seeds=experiment.seeds,
        splits=dataset.evaluation_splits,
        dataset=dataset,
        comparison=_read_comparison(name, params, dataset.evaluation_splits),
        histories={
            variant: {seed: _read_history(name, variant, seed, protocol) for seed in experiment.seeds}
            for variant in experiment.variants
        },
        scores={
            variant: _read_scores(name, variant, experiment.seeds[0], dataset, protocol)
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


def _read_history(name: str, variant: str, seed: int, protocol: Protocol) -> pd.DataFrame:
    path, again = layout.history(name, variant, seed), f"Make it with: dvc repro train@{name}-{variant}-{seed}"
    if not path.exists():
        raise ReportError(f"run {variant}, seed {seed} of {name} has no history: {path} is missing. {again}")
    history = pd.read_csv(path)
    _check_protocol(history, protocol, path, again)
    return history


def _read_scores(name: str, variant: str, seed: int, dataset: PreparedDataset, protocol: Protocol) -> pd.DataFrame:
    path, again = layout.scores(name, variant, seed), f"Make it with: dvc repro evaluate@{name}-{variant}-{seed}"
    if not path.exists():
        raise ReportError(f"run {variant}, seed {seed} of {name} has no scores: {path} is missing. {again}")
    scores = pd.read_parquet(path).set_index("sent_id")
    _check_protocol(scores, protocol, path, again)
    expressions = dataset.expressions
    expected = expressions.loc[expressions["split"].isin(dataset.evaluation_splits), "sent_id"]
    if set(scores.index) != set(expected):
        raise ReportError(
            f"{path} scores {len(scores)} expressions, the evaluation splits of {layout.prepared(name)} hold "
            f"{len(expected)}, and they are not the same. {again}"
        )
    return scores


def _check_protocol(table: pd.DataFrame, protocol: Protocol, path: Path, again: str) -> None:
    found = list(table["protocol"].unique()) if "protocol" in table else "not named"
    if found != [protocol.name]:
        raise ReportError(f"{path} is of another experiment: its protocols are {found}, not {[protocol.name]}. {again}")
