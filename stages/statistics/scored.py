"""The scores of the listed runs of one dataset, checked and aligned by expression."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from stages.runtime import experiments, layout
from stages.runtime.errors import UserError
from stages.runtime.run import Run
from stages.scoring.metrics import iou, summarise
from stages.scoring.protocols import Protocol
from stages.statistics import scored_on
from stages.statistics.bootstrap import VariantSeed

SCORE_COLUMNS = ["sent_id", "image_id", "split", "protocol", "intersection", "union"]
CONTROL = [*SCORE_COLUMNS, "given"]

log = logging.getLogger(__name__)


class ComparisonError(UserError):
    """The scores cannot be compared; the message names the run and the way out."""


@dataclass(frozen=True)
class Scored:
    """R runs that scored the same E expressions.

    Attributes:
        dataset: its name.
        protocol: the protocol that the scores were computed under.
        variants, seeds: the listed ones, in the listed order.
        runs: those that have scores.
        expressions: sent_id, image_id and split of each.
        intersection, union: (R, E) int64, pixels.
        others: systems that others made, each known by one file of predictions: a run with seed 0.
        further: further datasets that the runs are scored on, each a split of its name.
    """

    dataset: str
    protocol: Protocol
    variants: list[str]
    seeds: list[int]
    runs: list[VariantSeed]
    expressions: pd.DataFrame
    intersection: np.ndarray
    union: np.ndarray
    others: list[str] = field(default_factory=list)
    further: list[str] = field(default_factory=list)

    @property
    def systems(self) -> list[str]:
        """All that is compared: the listed variants, then the others."""
        return [*self.variants, *self.others]

    @property
    def files(self) -> frozenset[str]:
        """The names of the others, as `bootstrap.estimates` takes them."""
        return frozenset(self.others)

    @property
    def splits(self) -> list[str]:
        return list(self.expressions["split"].unique())

    def rows(self, split: str) -> np.ndarray:
        """Which expressions belong to a split: (E,) bool."""
        return (self.expressions["split"] == split).to_numpy()

    def images(self, rows: np.ndarray) -> int:
        """Number of images of the chosen expressions; rows (E,) bool."""
        return self.expressions["image_id"][rows].nunique()

    def seeds_of(self, variant: str) -> list[int]:
        return [seed for name, seed in self.runs if name == variant]

    def ious(self, rows: np.ndarray) -> np.ndarray:
        """IoU of every run on the n chosen expressions; rows (E,) bool -> (R, n)."""
        pairs = zip(self.intersection[:, rows], self.union[:, rows], strict=True)
        return np.stack([iou(intersection, union, self.protocol) for intersection, union in pairs])

    def by_image(self, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Sums over the expressions of each of N images; rows (E,) bool choose n expressions: (K, n) -> (K, N)."""
        codes, images = pd.factorize(self.expressions["image_id"][rows])
        return np.stack([np.bincount(codes, row, len(images)) for row in values])


def read(
    dataset: str,
    protocol: Protocol,
    variants: Sequence[str],
    seeds: Sequence[int],
    reference: str,
    others: Mapping[str, Path] | None = None,
    further: Sequence[str] = (),
) -> Scored:
    """Scores of the listed runs. A run without scores is left out with a warning; the comparison says which.

    Args:
        others: the scores of systems that others made, by their names.
        further: further datasets that the runs are scored on; the scores of a run are there if they are all there.

    Raises:
        ComparisonError: no run of the reference has scores; the scores of one of the others are missing; a run has
            scores of another protocol or of other expressions than the first; or `read_run` refuses one.
    """
    others = others or {}
    listed = [VariantSeed(variant, seed) for variant in variants for seed in seeds]
    missing = {run: found for run in listed if (found := _missing(dataset, run, further))}
    there = [run for run in listed if run not in missing]
    for found in missing.values():
        log.warning("%s, so the comparison is without it. %s", *found)
    if not any(variant == reference for variant, _ in there):
        raise ComparisonError(
            f"no run of the reference {reference} has scores. " + ". ".join(missing[VariantSeed(reference, seeds[0])])
        )
    tables = {run: read_run(dataset, run, protocol, further) for run in there}
    for name, path in others.items():
        if not path.exists():
            raise ComparisonError(f"{path} is missing. Make it with: {experiments.dvc('repro', f'score@{dataset}')}")
        tables[VariantSeed(name, 0)] = _checked(path, dataset, VariantSeed(name, 0), protocol, f"score@{dataset}")
    _check_paired(dataset, tables, others)
    first, *_ = tables.values()
    aligned = [table.set_index("sent_id").loc[first["sent_id"]] for table in tables.values()]
    return Scored(
        dataset=dataset,
        protocol=protocol,
        variants=list(variants),
        seeds=list(seeds),
        runs=list(tables),
        expressions=first[["sent_id", "image_id", "split"]],
        intersection=np.stack([table["intersection"] for table in aligned]),
        union=np.stack([table["union"] for table in aligned]),
        others=list(others),
        further=list(further),
    )


def read_controls(runs: Scored) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The runs, but given expressions of other images.

    Returns:
        intersection, union: (R, E) int64, pixels, in the runs' order and the expressions', 0 where there is none, as
        for systems that others made;
        given: (E,) bool, where there is one: not on a split of a single image.

    Raises:
        ComparisonError: they are missing, of other expressions than the scores, or not alike for all runs.
    """
    ids = pd.Index(runs.expressions["sent_id"])
    counts, first = [], None
    for run in runs.runs:
        if run.variant in runs.others:
            counts.append(np.zeros((len(ids), 2), np.int64))
            continue
        tables = []
        for place, on in enumerate([None, *runs.further]):
            path, stage = layout.controls(runs.dataset, *run, on), Run(runs.dataset, *run).evaluation(on)
            if not path.exists():
                raise ComparisonError(f"{path} is missing. Make it with: {experiments.dvc('repro', stage)}")
            tables.append(scored_on.moved(_checked(path, runs.dataset, run, runs.protocol, stage, CONTROL), place))
        table = pd.concat([part for part in tables if len(part)] or tables[:1]).set_index("sent_id")
        first = table if first is None else first
        if not table["given"].sort_index().equals(first["given"].sort_index()) or not table.index.isin(ids).all():
            again = experiments.dvc("repro -f -s", Run(runs.dataset, *run).stage("evaluate"))
            raise ComparisonError(
                f"{layout.controls(runs.dataset, *run)}: run {_describe(run)} was not given the expressions of run "
                f"{_describe(runs.runs[0])}. Make it again with: {again}"
            )
        counts.append(table[["intersection", "union"]].reindex(ids, fill_value=0).to_numpy(np.int64))
    both = np.stack(counts)  # (R, E, 2)
    return both[..., 0], both[..., 1], ids.isin(first.index)


def read_run(dataset: str, run: VariantSeed, protocol: Protocol, further: Sequence[str] = ()) -> pd.DataFrame:
    """`SCORE_COLUMNS` of one run, whose scores exist, on its own splits and on further datasets.

    Raises:
        ComparisonError: the file lacks a column or a value; its protocol is another; it scored an expression twice; or
            its intersections and unions are no counts of pixels.
    """
    tables = [
        _checked(layout.scores(dataset, *run, on), dataset, run, protocol, Run(dataset, *run).evaluation(on))
        for on in (None, *further)
    ]
    return pd.concat([scored_on.moved(table, place) for place, table in enumerate(tables)], ignore_index=True)


def _checked(
    path: Path, dataset: str, run: VariantSeed, protocol: Protocol, stage: str, columns: Sequence[str] = SCORE_COLUMNS
) -> pd.DataFrame:
    """Some columns of a table of scores that a stage makes, as `read_run` says."""
    again = f"Make it again with: {experiments.dvc('repro -f -s', stage)}"
    try:
        scores = pd.read_parquet(path, columns=list(columns))
    except (ValueError, OSError) as error:
        raise ComparisonError(
            f"{path} is not a table of scores with the columns {[*columns]}: {error}. {again}"
        ) from error
    gaps = scores[scores.isna().any(axis="columns")]
    if not gaps.empty:
        lacking = ", ".join(gaps.columns[gaps.isna().any()])
        raise ComparisonError(
            f"{path}: run {_describe(run)} has no {lacking} in {len(gaps)} of {len(scores)} rows, such as sent_id "
            f"{gaps['sent_id'].iloc[0]}. {again}"
        )
    others = sorted(set(scores["protocol"]) - {protocol.name})
    if others:
        raise ComparisonError(
            f"{path} was scored under protocol {', '.join(others)}, params.yaml says {protocol.name}: "
            f"numbers of two protocols cannot be compared. Score it again with: {experiments.dvc('repro', stage)}"
        )
    twice = scores.loc[scores["sent_id"].duplicated(), "sent_id"]
    if not twice.empty:
        raise ComparisonError(
            f"{path} scores {len(twice)} expressions more than once, such as sent_id {twice.iloc[0]}. {again}"
        )
    try:
        if len(scores) or columns is SCORE_COLUMNS:  # a control is empty where every split has one image
            summarise(scores, protocol)
    except ValueError as error:
        raise ComparisonError(f"{path}: {error}. {again}") from error
    return scores


def _check_paired(dataset: str, runs: dict[VariantSeed, pd.DataFrame], of_others: Collection[str]) -> None:
    """Every run scored exactly the expressions of the first run, split by split."""
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
                    f"Score both again with: {_dvc('repro -f -s', dataset, run, first, others=of_others)}"
                )


def _expressions_by_split(scores: pd.DataFrame) -> dict[str, set[int]]:
    return {split: set(rows.tolist()) for split, rows in scores.groupby("split", sort=False)["sent_id"]}


def _missing(dataset: str, run: VariantSeed, further: Sequence[str]) -> tuple[str, str] | None:
    """What is missing first of the scores of a run, and how to make it; None where all are there."""
    for on in (None, *further):
        if not (path := layout.scores(dataset, *run, on)).exists():
            what = f"run {_describe(run)} of {dataset} has no scores: {path} is missing"
            return what, f"Make it with: {experiments.dvc('repro', Run(dataset, *run).evaluation(on))}"
    return None


def _describe(run: VariantSeed) -> str:
    return f"{run.variant}, seed {run.seed}"


def _dvc(command: str, dataset: str, *runs: VariantSeed, others: Collection[str] = ()) -> str:
    stages = (f"score@{dataset}" if run.variant in others else Run(dataset, *run).stage("evaluate") for run in runs)
    return experiments.dvc(command, *stages)
