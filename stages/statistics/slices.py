"""Slices of the evaluation splits: groups of expressions that share a property that may make them hard."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from stages.data import prepared
from stages.data.prepared import PreparedDataset
from stages.statistics import words

COLUMNS = ["sent_id", "family", "slice"]


@dataclass(frozen=True)
class Family:
    """Slices by one property of an expression.

    Attributes:
        title: what it is, for a heading.
        unit: what the numbers in the names of slices count, for an axis; empty where the names are words.
        explanation: how the property is determined, in a sentence or two.
        slices: their names, in order.
        edges: for slices that are ranges of a number, the lowest number of each slice except the first.
    """

    title: str
    unit: str
    explanation: str
    slices: tuple[str, ...]
    edges: tuple[float, ...] = ()

    def of(self, values: np.ndarray) -> np.ndarray:
        """Name of the slice that each number falls into."""
        return np.array(self.slices, dtype=object)[np.searchsorted(self.edges, values, side="right")]


FAMILIES: dict[str, Family] = {
    "length": Family(
        title="Length of the expression",
        unit="words",
        explanation="Words are separated by spaces.",
        slices=("1 to 2", "3", "4 to 5", "6 to 7", "8 to 10", "11 and more"),
        edges=(3, 4, 6, 8, 11),
    ),
    "words": Family(
        title="Words used",
        unit="",
        explanation=(
            "Attribute: colours, sizes, looks, poses. Position: where in the image, also ordinals and extremes. "
            "Relation: where the thing is relative to another one, or what it does with it. Words are looked up in "
            "lists; an expression with words of several kinds is in several of these slices."
        ),
        slices=(*words.KINDS, "none of these"),
    ),
    "size": Family(
        title="Size of the mask",
        unit="share of the image's area",
        explanation="Area of the true mask as a share of the image.",
        slices=("under 2%", "2 to 5%", "5 to 10%", "10 to 20%", "20% and more"),
        edges=(0.02, 0.05, 0.1, 0.2),
    ),
    "distractors": Family(
        title="Distractors",
        unit="other things of the same category",
        explanation=(
            "Other annotated things of the same category in the image, whether an expression refers to them or not. "
            "Regions of crowds do not count."
        ),
        slices=("0", "1", "2", "3 and more"),
        edges=(1, 2, 3),
    ),
    "distance": Family(
        title="Distance to the nearest distractor",
        unit="share of the image's diagonal",
        explanation=(
            "From the center of the thing's box to that of the nearest other thing of the same category, as a share of "
            "the image's diagonal. Expressions without such a thing are in none of these slices."
        ),
        slices=("under 10%", "10 to 20%", "20 to 30%", "30 to 40%", "40% and more"),
        edges=(0.1, 0.2, 0.3, 0.4),
    ),
}


def labels(dataset: PreparedDataset) -> pd.DataFrame:
    """The slices of every expression of the evaluation splits.

    Returns:
        sent_id (int64), family, slice (strings): one row for each expression and slice, in the order of `FAMILIES` and
        their slices, then of sent_id. An expression is in one slice of `length`, `size` and `distractors`, in one or
        more of `words`, and in at most one of `distance`.

    Raises:
        ValueError: the dataset has no boxes.
    """
    expressions = dataset.expressions[dataset.expressions["split"].isin(dataset.evaluation_splits)]
    ann_ids = expressions["ann_id"]
    instances = dataset.instances.loc[ann_ids.unique()]
    distances = _distances(dataset, instances)
    nearest = ann_ids.map(distances.groupby(level="target").min())
    others = ann_ids.map(distances.groupby(level="target").size()).fillna(0)
    kinds = expressions["text"].map({text: words.kinds(text) or ["none of these"] for text in set(expressions["text"])})
    found = {
        "length": _ranges("length", expressions["text"].str.split().str.len()),
        "words": kinds.explode(),
        "size": _ranges("size", ann_ids.map(prepared.area_shares(instances))),
        "distractors": _ranges("distractors", others),
        "distance": _ranges("distance", nearest.dropna()),
    }
    return _table(expressions["sent_id"], found)


def _distances(dataset: PreparedDataset, instances: pd.DataFrame) -> pd.Series:
    """From the center of each instance's box to each distractor's, as a share of the diagonal; index: `target`."""
    pairs = dataset.distractors(instances.index)
    boxes = dataset.boxes.set_index("ann_id")
    own, images = boxes.loc[pairs["target"]], instances.loc[pairs["target"]]
    across = _center(own, "x", "width") - _center(pairs, "x", "width")
    down = _center(own, "y", "height") - _center(pairs, "y", "height")
    diagonals = np.hypot(images["width"].to_numpy(float), images["height"].to_numpy(float))
    return pd.Series(np.hypot(across, down) / diagonals, index=pd.Index(pairs["target"], name="target"))


def _center(boxes: pd.DataFrame, start: str, extent: str) -> np.ndarray:
    return boxes[start].to_numpy(float) + boxes[extent].to_numpy(float) / 2


def _ranges(family: str, values: pd.Series) -> pd.Series:
    return pd.Series(FAMILIES[family].of(values.to_numpy(float)), index=values.index, dtype=object)


def _table(sent_ids: pd.Series, found: dict[str, pd.Series]) -> pd.DataFrame:
    """The table of `labels`, from the slice of each expression in each family, with the index of `sent_ids`."""
    parts = []
    for family, names in found.items():
        part = pd.DataFrame(
            {"sent_id": sent_ids.loc[names.index].to_numpy(), "family": family, "slice": names.to_numpy()}
        )
        place = part["slice"].map({name: place for place, name in enumerate(FAMILIES[family].slices)})
        parts.append(part.assign(place=place).sort_values(["place", "sent_id"]))
    return pd.concat(parts, ignore_index=True)[COLUMNS].astype({"family": "str", "slice": "str"})
