"""Which expressions of two datasets are the same: of one image, and the same words."""

from dataclasses import dataclass

import pandas as pd

from stages.data.prepared import PreparedDataset
from stages.runtime.errors import UserError

SPLIT = "val"


class NothingInCommonError(UserError):
    """Two datasets share no expression; the message names both."""


@dataclass(frozen=True)
class Matching:
    """The expressions that two datasets share.

    Attributes:
        pairs: one row for each expression of the first dataset that the second has: sent_id (of the first), image_id,
            first, second (ann_id of what it means in each).
        unknown: how many expressions of the second dataset the first does not have on that image.
        ambiguous: how many mean several things of their image in one of the datasets, and so are left out.
        expressions: how many the second dataset has.
    """

    pairs: pd.DataFrame
    unknown: int
    ambiguous: int
    expressions: int

    def __str__(self) -> str:
        images = self.pairs["image_id"].nunique()
        return (
            f"{len(self.pairs):,} expressions about {images:,} images are in both; of the {self.expressions:,} with "
            f"new masks, {self.unknown:,} are not in the dataset, and {self.ambiguous:,} are left out, as their words "
            "mean several things of the image"
        )


def match(first: PreparedDataset, second: PreparedDataset) -> Matching:
    """Match the expressions of val by image and words; capitals, spaces and punctuation do not count.

    Raises:
        NothingInCommonError: there is no such expression.
        MissingSplitError: one of the datasets has no val.
    """
    rows = {name: _with_key(dataset.split(SPLIT)) for name, dataset in {"first": first, "second": second}.items()}
    meant = {name: _meant(table, name) for name, table in rows.items()}
    both = meant["first"].join(meant["second"], how="inner")
    clear = both[(both["first_things"] == 1) & (both["second_things"] == 1)]
    of_second = rows["second"].set_index(["image_id", "key"]).index
    pairs = rows["first"].merge(clear[["first", "second"]], left_on=["image_id", "key"], right_index=True)
    if pairs.empty:
        raise NothingInCommonError(
            f"no expression of val is in both datasets, {first.summary['name']} and {second.summary['name']}, with the "
            "same image_id and the same words: they are not of the same images, or one is not of RefCOCO's val"
        )
    return Matching(
        pairs=pairs.sort_values("sent_id")[["sent_id", "image_id", "first", "second"]].reset_index(drop=True),
        unknown=int((~of_second.isin(both.index)).sum()),
        ambiguous=int((of_second.isin(both.index) & ~of_second.isin(clear.index)).sum()),
        expressions=len(of_second),
    )


def _with_key(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(key=["".join(filter(str.isalnum, text.casefold())) for text in rows["text"]])


def _meant(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """(image_id, key) -> the ann_id that is meant, and how many things are."""
    by_key = rows.groupby(["image_id", "key"])["ann_id"]
    return pd.DataFrame({name: by_key.first(), f"{name}_things": by_key.nunique()})
