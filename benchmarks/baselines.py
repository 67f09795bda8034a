"""What benchmarks on shortcuts share: images and true masks of expressions, and how masks are counted."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from models import images
from stages.data import prepared


def counted(
    dataset: prepared.PreparedDataset, rows: pd.DataFrame, segment: Callable[[np.ndarray, str], np.ndarray]
) -> pd.DataFrame:
    """Intersection and union of `segment(image (height, width, 3), text) -> mask`, one row per expression."""
    masks = [segment(image(dataset, row), row.text) for row in rows.itertuples()]
    return counts(masks, [true_mask(dataset, row) for row in rows.itertuples()])


def counts(masks: list[np.ndarray], truths: list[np.ndarray]) -> pd.DataFrame:
    """Intersection and union of each pair of masks, in pixels."""
    pairs = list(zip(masks, truths, strict=True))
    return pd.DataFrame(
        {
            "intersection": [int((mask & truth).sum()) for mask, truth in pairs],
            "union": [int((mask | truth).sum()) for mask, truth in pairs],
        }
    )


def image(dataset: prepared.PreparedDataset, row) -> np.ndarray:
    """The image of an expression: uint8 (height, width, 3)."""
    return np.asarray(images.read(dataset.instances.at[row.ann_id, "image"]))


def true_mask(dataset: prepared.PreparedDataset, row) -> np.ndarray:
    """The true mask of an expression: bool (height, width)."""
    instance = dataset.instances.loc[row.ann_id]
    return prepared.decode_mask(instance["mask"], instance["height"], instance["width"]).astype(bool)
