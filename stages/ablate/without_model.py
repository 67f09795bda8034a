"""Masks that need no model: what every image gives away, whatever the words say."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pandas as pd

from models.frames import Stretch
from stages.data.prepared import PreparedDataset, decode_mask
from stages.scoring.protocols import Protocol


def whole_image(height: int, width: int) -> np.ndarray:
    """The whole image: bool (height, width)."""
    return np.ones((height, width), bool)


def center_box(height: int, width: int) -> np.ndarray:
    """A box in the middle with half the image's sides: bool (height, width)."""
    top, left = (height - round(height / 2)) // 2, (width - round(width / 2)) // 2
    mask = np.zeros((height, width), bool)
    mask[top : top + round(height / 2), left : left + round(width / 2)] = True
    return mask


MASKS: dict[str, Callable[[int, int], np.ndarray]] = {"whole image": whole_image, "center box": center_box}


def counted(dataset: PreparedDataset, expressions: pd.DataFrame, protocol: Protocol) -> dict[str, pd.DataFrame]:
    """Name of a mask -> intersection and union (int64, pixels) with the true mask of each expression, in their order.

    Masks are drawn on the grid on which the protocol counts: the image, or the input that the image is stretched to.

    Args:
        expressions: with the column sent_id; each is in the dataset.
    """
    ann_ids = dataset.expressions.set_index("sent_id")["ann_id"].loc[expressions["sent_id"]].to_numpy()
    places, instances = pd.factorize(ann_ids)
    frame = Stretch(protocol.size) if protocol.grid == "input" and protocol.size else None

    def truths() -> Iterator[np.ndarray]:
        for _, row in dataset.instances.loc[instances].iterrows():
            truth = decode_mask(row["mask"], int(row["height"]), int(row["width"])).view(bool)
            yield frame.mask(truth) if frame else truth

    pairs = ((draw(*truth.shape), truth) for truth in truths() for draw in MASKS.values())
    found = counts(pairs)  # of an instance, the rows of all masks follow each other
    return {name: found.iloc[places * len(MASKS) + number].reset_index(drop=True) for number, name in enumerate(MASKS)}


def counts(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> pd.DataFrame:
    """Intersection and union (int64, pixels) of pairs of masks of one size, bool."""
    pixels = [(int((mask & truth).sum()), int((mask | truth).sum())) for mask, truth in pairs]
    return pd.DataFrame(pixels, columns=["intersection", "union"], dtype="int64")
