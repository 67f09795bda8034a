"""Baselines that a trained model must beat: masks without a model, and expressions of other images."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from models import images
from stages.data import prepared


def everything(image: np.ndarray, text: str) -> np.ndarray:
    """The whole image: (height, width, 3) -> bool (height, width)."""
    return np.ones(image.shape[:2], bool)


def center_box(image: np.ndarray, text: str) -> np.ndarray:
    """A box in the middle with half the image's sides: (height, width, 3) -> bool (height, width)."""
    height, width = image.shape[:2]
    top, left = (height - round(height / 2)) // 2, (width - round(width / 2)) // 2
    mask = np.zeros((height, width), bool)
    mask[top : top + round(height / 2), left : left + round(width / 2)] = True
    return mask


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


def shuffled(rows: pd.DataFrame, seed: int) -> list[str]:
    """Texts in which every expression comes from another image: all are shifted by a random number of images."""
    images = rows["image_id"].drop_duplicates().to_numpy()
    step = int(np.random.default_rng(seed).integers(1, len(images)))
    source = dict(zip(images, np.roll(images, step), strict=True))
    texts = {image: group["text"].tolist() for image, group in rows.groupby("image_id")}
    place = rows.groupby("image_id").cumcount()
    return [
        texts[source[image]][index % len(texts[source[image]])]
        for image, index in zip(rows["image_id"], place, strict=True)
    ]


def image(dataset: prepared.PreparedDataset, row) -> np.ndarray:
    """The image of an expression: uint8 (height, width, 3)."""
    return np.asarray(images.read(dataset.instances.at[row.ann_id, "image"]))


def true_mask(dataset: prepared.PreparedDataset, row) -> np.ndarray:
    """The true mask of an expression: bool (height, width)."""
    instance = dataset.instances.loc[row.ann_id]
    return prepared.decode_mask(instance["mask"], instance["height"], instance["width"]).astype(bool)
