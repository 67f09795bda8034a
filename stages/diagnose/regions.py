"""Where alignment is measured: regions of the decoder's grid around the true mask of an instance."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch.nn import functional as F

from models.frames import Frame
from stages.data.prepared import PreparedDataset
from stages.data.samples import Expressions

INSIDE = 0.5  # share of a cell's area from which it counts as covered, as in the pixel contrast
RING = 0.02  # of the grid's diagonal, on each side of the border: the width of Boundary IoU (Cheng et al., CVPR 2021)
REGIONS = ("", "_ring", "_distractors")  # what the name of a measure ends with, by the region that it is taken in


@dataclass(frozen=True)
class Regions:
    """Cells of the decoder's grid, bool (h, w) each.

    Attributes:
        inside: covered by the true mask.
        image: covered by the image: all, unless the frame adds a border to it.
        ring: `ring_width` cells on each side of the border between inside and outside. The image's edge is no border.
        distractors: outside, and covered by the boxes of the image's other things of the same category.
    """

    inside: np.ndarray
    image: np.ndarray
    ring: np.ndarray
    distractors: np.ndarray

    @property
    def compared(self) -> dict[str, np.ndarray]:
        """The cells that are scored, by `REGIONS`: those inside ought to rank above the others."""
        return dict(zip(REGIONS, (self.image, self.ring, self.inside | self.distractors), strict=True))


def regions_by_row(dataset: PreparedDataset, expressions: Expressions) -> Callable[[int, tuple[int, int]], Regions]:
    """A function from an expression's row and the decoder's grid (h, w) to its regions, found once for an instance."""
    ann_ids = expressions.rows["ann_id"].to_numpy()
    first_row = {ann_ids[row]: row for row in reversed(range(len(ann_ids)))}
    others = dataset.distractors(ann_ids)
    others_of, corners = others.groupby("target").indices, others[["x", "y", "width", "height"]].to_numpy()

    @lru_cache(maxsize=256)
    def of_instance(ann_id: int, grid: tuple[int, int]) -> Regions:
        truth = expressions.true_mask(first_row[ann_id])
        boxes = corners[others_of.get(ann_id, [])]
        return regions(truth, drawn(boxes, truth.shape), expressions.frame, grid)

    return lambda row, grid: of_instance(ann_ids[row], grid)


def regions(truth: np.ndarray, boxes: np.ndarray, frame: Frame, grid: tuple[int, int]) -> Regions:
    """The regions for a true mask and the area of the distractors' boxes: bool, (height, width) of the image."""
    inside, image = cells(truth, frame, grid), cells_of_image(truth.shape, frame, grid)
    outside = image & ~inside
    width = ring_width(grid)
    ring = (inside & near(outside, width)) | (outside & near(inside, width))
    return Regions(inside, image, ring, outside & cells(boxes & ~truth, frame, grid))


def cells(area: np.ndarray, frame: Frame, grid: tuple[int, int]) -> np.ndarray:
    """An area of the image, bool (height, width) -> the cells of the grid that it covers, bool (h, w)."""
    at_input = torch.from_numpy(frame.mask(area)).float()  # (S, S)
    return (F.adaptive_avg_pool2d(at_input[None], grid)[0] >= INSIDE).numpy()


@lru_cache(maxsize=256)
def cells_of_image(size: tuple[int, int], frame: Frame, grid: tuple[int, int]) -> np.ndarray:
    """The cells of the grid that an image of a size (height, width) covers, bool (h, w)."""
    return cells(np.ones(size, dtype=bool), frame, grid)


def ring_width(grid: tuple[int, int]) -> int:
    """Cells on each side of the border: `RING` of the diagonal, and at least one."""
    return max(1, round(RING * math.hypot(*grid)))


def near(area: np.ndarray, distance: int) -> np.ndarray:
    """The cells within a distance of an area, counted in rows and in columns: bool (h, w) -> bool (h, w)."""
    padded = F.max_pool2d(torch.from_numpy(area).float()[None], 2 * distance + 1, stride=1, padding=distance)
    return padded[0].bool().numpy()


def drawn(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Boxes (N, 4) as x, y, width, height in pixels -> the area that they cover, bool, of a size (height, width)."""
    area = np.zeros(size, dtype=bool)
    for x, y, width, height in boxes.clip(min=0):
        area[round(y) : round(y + height), round(x) : round(x + width)] = True
    return area
