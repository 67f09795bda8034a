"""The same predictions against two sets of masks: what part of the error was the annotation's."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from stages.data import prepared
from stages.data.prepared import PreparedDataset, decode_mask
from stages.runtime import experiments, layout
from stages.runtime.atomic_write import atomic_write
from stages.runtime.errors import UserError
from stages.runtime.params import Params
from stages.runtime.run import Run
from stages.scoring.metrics import iou
from stages.scoring.protocols import PROTOCOLS, Protocol
from stages.scoring.score import frame
from stages.second_truth.matching import match
from stages.statistics import bootstrap
from stages.statistics.bootstrap import VariantSeed

ANNOTATION = "the masks themselves"  # in place of a variant: the old masks as predictions
OLD, NEW = "old", "new"
ENDS = ("", "_low", "_high")

Counts = dict[str, np.ndarray]  # OLD and NEW -> intersection and union of each of E expressions, (E, 2) int64


class OtherScoresError(UserError):
    """Scores are not of this dataset or this protocol; the message has the command that makes them."""


def compare(name: str, truth: str, settings: Params) -> None:
    """Score all predictions on a dataset, of runs and of others, against its masks and another's; print and write it.

    Raises:
        FileNotFoundError: a dataset is not prepared, or a run or one of the others has no scores.
        NothingInCommonError: the datasets share no expression.
        OtherScoresError: scores are of another protocol, or of other masks.
    """
    experiment, protocol = settings.experiment, PROTOCOLS[settings.evaluation.protocol]
    old, new = (prepared.read(layout.prepared(each)) for each in (name, truth))
    matching = match(old, new)
    truths, images = Truths(old, new, matching.pairs, protocol), matching.pairs["image_id"].to_numpy()

    def counts(path: Path, who: str, stage: str) -> Counts:
        return truths.counts(_predictions(path, who, stage, protocol), who)

    annotation = {VariantSeed(ANNOTATION, 0): truths.counts(truths.as_predictions(), ANNOTATION)}
    runs = [Run(name, variant, seed) for variant in experiment.variants for seed in experiment.seeds]
    variants = {
        VariantSeed(run.variant, run.seed): counts(layout.scores(*run), run.name, run.stage("evaluate")) for run in runs
    }
    others = [
        {VariantSeed(other, 0): counts(layout.scores_of_other(name, other), f"{other} on {name}", f"score@{name}")}
        for other in experiment.predictions(name)
    ]
    table = pd.concat([measured(each, images, protocol) for each in (annotation, variants, *others)], ignore_index=True)
    of = {"dataset": name, "truth": truth, "protocol": protocol.name}
    table = pd.DataFrame(of, index=table.index).join(table)
    with atomic_write(layout.second_truth(name)) as path:
        table.to_csv(path, index=False, lineterminator="\n")
    print(f"{name} against {truth}, protocol {protocol.name}, in percent [95 % interval]: {matching}.")
    print(shown(table, name, truth).to_string())
    print(layout.from_root(layout.second_truth(name)))


class Truths:
    """Two masks for each expression, on the grid on which a protocol counts.

    Args:
        pairs: `Matching.pairs` of the two datasets.
    """

    def __init__(self, old: PreparedDataset, new: PreparedDataset, pairs: pd.DataFrame, protocol: Protocol):
        self._instances = {OLD: old.instances, NEW: new.instances}
        self._pairs = pairs.rename(columns={"first": OLD, "second": NEW}).set_index("sent_id")
        self._protocol = protocol

    def as_predictions(self) -> pd.DataFrame:
        """The old masks in place of predictions: sent_id, mask (bool, (height, width))."""
        masks = [self._mask(OLD, ann_id) for ann_id in self._pairs[OLD]]
        return pd.DataFrame({"sent_id": self._pairs.index, "mask": masks})

    def counts(self, predictions: pd.DataFrame, who: str) -> Counts:
        """I and U of predictions with both masks of each expression, in the order of the pairs.

        Args:
            predictions: sent_id, and either mask, or height, width and prediction as in scores; more expressions than
                the pairs may be there. With intersection and union, those to the old masks are checked.
            who: named in errors.

        Raises:
            OtherScoresError: an expression of the pairs is not among the predictions, or I and U are not those of the
                old mask.
        """
        given = predictions.set_index("sent_id")
        if len(absent := self._pairs.index.difference(given.index)):
            raise OtherScoresError(f"{who}: {len(absent):,} expressions have no score, such as {absent[0]}")
        found = {OLD: [], NEW: []}
        for sent_id, pair in self._pairs.iterrows():
            row = given.loc[sent_id]
            mask = row["mask"] if "mask" in given else _decoded(row["prediction"], row["height"], row["width"])
            for which, counts in found.items():
                true = self._mask(which, pair[which])
                if true.shape != mask.shape:
                    raise OtherScoresError(
                        f"{who}, expression {sent_id}: the {which} mask has {true.shape} pixels (height, width), the "
                        f"prediction {mask.shape}"
                    )
                counts.append((np.count_nonzero(mask & true), np.count_nonzero(mask | true)))
            if "union" in given and found[OLD][-1] != (row["intersection"], row["union"]):
                raise OtherScoresError(f"{who}, expression {sent_id}: I and U are of another mask than the dataset's")
        return {which: np.array(counts) for which, counts in found.items()}

    def _mask(self, which: str, ann_id: int) -> np.ndarray:
        row = self._instances[which].loc[ann_id]
        mask = _decoded(row["mask"], row["height"], row["width"])
        of_input = frame(self._protocol) if self._protocol.grid == "input" else None
        return of_input.mask(mask) if of_input else mask


def measured(counts: Mapping[VariantSeed, Counts], images: np.ndarray, protocol: Protocol) -> pd.DataFrame:
    """Metrics against both truths, with intervals over images and, where there are several, seeds.

    Args:
        counts: of each run.
        images: which image each expression is about, (E,).

    Returns:
        One row for each metric and variant: metric, variant, seeds, expressions, images; old, new and difference, each
        with `_low` and `_high`; share. All are fractions. share is (new - old) / (1 - old): of what is missing to 1
        against the old masks, how much is not missing against the new ones.
    """
    codes, different = pd.factorize(images)
    runs = [VariantSeed(f"{variant}/{which}", seed) for variant, seed in counts for which in (OLD, NEW)]
    pixels = [counts[run][which] for run in counts for which in (OLD, NEW)]

    def by_image(values: list[np.ndarray]) -> np.ndarray:
        return np.stack([np.bincount(codes, each, len(different)) for each in values])

    ious = [iou(table[:, 0], table[:, 1], protocol) for table in pixels]
    sums = {
        "mIoU": (by_image(ious), by_image([np.ones(len(codes))])),
        "oIoU": (by_image([table[:, 0] for table in pixels]), by_image([table[:, 1] for table in pixels])),
    }
    rows = []
    for metric, estimates in bootstrap.estimates(runs, sums, protocol.both_empty).items():
        for variant in dict.fromkeys(run.variant for run in counts):
            old, new = f"{variant}/{OLD}", f"{variant}/{NEW}"
            found = {OLD: estimates.mean(old), NEW: estimates.mean(new), "difference": estimates.difference(new, old)}
            value, change = (found[key].value for key in (OLD, "difference"))
            sizes = {"seeds": len(estimates.of(old)), "expressions": len(codes), "images": len(different)}
            rows.append(
                {"metric": metric, "variant": variant, **sizes}
                | {f"{key}{end}": getattr(each, end[1:] or "value") for key, each in found.items() for end in ENDS}
                | {"share": change / (1 - value) if value < 1 else np.nan}
            )
    return pd.DataFrame(rows)


def shown(table: pd.DataFrame, name: str, truth: str) -> pd.DataFrame:
    """The rows of `measured` in percent, as text: against each truth, the difference, and its share of the error."""

    def column(key: str) -> list[str]:
        return [_text(*(row[f"{key}{end}"] for end in ENDS)) for _, row in table.iterrows()]

    share = ["" if np.isnan(value) else f"{100 * value:.1f}" for value in table["share"]]
    columns = {name: column(OLD), truth: column(NEW), "difference": column("difference"), "share of the error": share}
    return pd.DataFrame(columns, index=pd.MultiIndex.from_frame(table[["metric", "variant"]])).sort_index(
        level="metric", sort_remaining=False
    )


def _text(value: float, low: float, high: float) -> str:
    ends = "" if np.isnan(low) else f" [{100 * low:.1f}, {100 * high:.1f}]"
    return f"{100 * value:.1f}{ends}"


def _decoded(counts: str, height: int, width: int) -> np.ndarray:
    return decode_mask(counts, int(height), int(width)).view(bool)


def _predictions(path: Path, who: str, stage: str, protocol: Protocol) -> pd.DataFrame:
    """The scores of one system, which a stage has made. Raises FileNotFoundError, OtherScoresError."""
    again = f"Make it with: {experiments.dvc('repro', stage)}"
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: {who} has no scores. {again}")
    scores = pd.read_parquet(path)
    if (found := scores["protocol"].unique().tolist()) != [protocol.name]:
        raise OtherScoresError(f"{path} is of protocol {', '.join(found)}, not {protocol.name}. {again}")
    return scores
