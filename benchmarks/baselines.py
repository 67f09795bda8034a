"""What benchmarks on shortcuts share: images, true masks and scores of expressions."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from models import images
from stages.ablate import without_model
from stages.data import prepared


def counted(
    dataset: prepared.PreparedDataset, rows: pd.DataFrame, segment: Callable[[np.ndarray, str], np.ndarray]
) -> pd.DataFrame:
    """Intersection and union of `segment(image (height, width, 3), text) -> mask`, one row per expression."""
    pairs = ((segment(image(dataset, row), row.text), true_mask(dataset, row)) for row in rows.itertuples())
    return without_model.counts(pairs)


def image(dataset: prepared.PreparedDataset, row) -> np.ndarray:
    """The image of an expression: uint8 (height, width, 3)."""
    return np.asarray(images.read(dataset.instances.at[row.ann_id, "image"]))


def true_mask(dataset: prepared.PreparedDataset, row) -> np.ndarray:
    """The true mask of an expression: bool (height, width)."""
    instance = dataset.instances.loc[row.ann_id]
    return prepared.decode_mask(instance["mask"], instance["height"], instance["width"]).astype(bool)
