"""One predicted mask, as a COCO segmentation or as pixels -> COCO's compressed RLE, checked."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

from stages.data.prepared import decode_mask, encode_mask

BEYOND = 1  # pixels that a polygon may reach out of its image, since coordinates are rounded
LONGEST_RUN = 35  # bits
LONGEST = 80  # characters of a value that a message shows


class Wrong(Exception):
    """A segmentation is wrong: carries the kind of problem, and what was found."""

    def __init__(self, kind: str, found: str = ""):
        super().__init__(kind, found)
        self.kind, self.found = kind, found


class Mask(NamedTuple):
    """A mask of height x width pixels as the `counts` of a COCO compressed RLE."""

    height: int
    width: int
    counts: str

    def pixels(self) -> np.ndarray:
        """Bool, (height, width)."""
        return decode_mask(self.counts, self.height, self.width).view(bool)


def empty(height: int, width: int) -> Mask:
    """A mask without a pixel."""
    return Mask(height, width, encode_mask(np.zeros((height, width), dtype=bool)))


def encode(segmentation: object, sizes: Sequence[tuple[int, int]]) -> Mask:
    """A segmentation as it stands in a file, checked.

    Args:
        segmentation: an RLE, whose counts are text or a list; polygons, of which the union is taken, none for an empty
            mask; or the pixels themselves, bool (height, width).
        sizes: (height, width) that the mask may have; polygons have the first.

    Raises:
        Wrong: it is none of these, or does not fit.
    """
    if isinstance(segmentation, np.ndarray):
        height, width = _size(list(segmentation.shape), sizes)
        return Mask(height, width, encode_mask(segmentation))
    if isinstance(segmentation, dict):
        height, width = _size(segmentation.get("size"), sizes)
        runs = _runs(segmentation.get("counts"))
        if min(runs, default=0) < 0 or sum(runs) != height * width:
            raise Wrong(
                "RLE whose counts do not add up to its size", f"{height} x {width} pixels, {sum(runs):,} counted"
            )
        rle = coco_mask.frPyObjects({"size": [height, width], "counts": runs}, height, width)
        return Mask(height, width, rle["counts"].decode("ascii"))
    if isinstance(segmentation, list):
        height, width = sizes[0]
        polygons = [_polygon(polygon, height, width) for polygon in segmentation]
        if not polygons:
            return empty(height, width)
        merged = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
        return Mask(height, width, merged["counts"].decode("ascii"))
    raise Wrong("segmentation is neither an RLE nor a list of polygons", shown(segmentation))


def shown(value: object) -> str:
    """A value as a message has it: the beginning of a long one."""
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _size(size: object, sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The one of `sizes` that is stated. Raises Wrong."""
    for height, width in sizes:
        if isinstance(size, list) and size == [height, width] and bool not in map(type, size):
            return height, width
    wanted = " or ".join(f"{height} x {width}" for height, width in sizes)
    raise Wrong("mask of another size than its image (height x width)", f"{shown(size)}, not {wanted}")


def _runs(counts: object) -> list[int]:
    """Run lengths of an RLE, from a list or from text as `rleToString` of the COCO API writes it. Raises Wrong.

    Each number is written as characters of 5 bits each, lowest first, plus 48, plus 32 where another character follows;
    bit 16 of the last one is the sign. From the fourth on, a number is the difference to the one two places before it.
    """
    if isinstance(counts, list) and set(map(type, counts)) <= {int}:
        return counts
    kind = "RLE whose counts are neither a list of whole numbers nor COCO's text"
    try:
        codes = counts if isinstance(counts, bytes) else counts.encode("ascii")
    except (AttributeError, UnicodeEncodeError):
        raise Wrong(kind, shown(counts)) from None
    runs, number, bits = [], 0, 0
    for code in codes:
        code -= 48
        if not 0 <= code < 64 or bits > LONGEST_RUN:
            raise Wrong(kind, shown(counts))
        number |= (code & 31) << bits
        bits += 5
        if not code & 32:
            number -= (code >> 4 & 1) << bits
            runs.append(number + runs[-2] if len(runs) > 2 else number)
            number = bits = 0
    if bits:
        raise Wrong(kind, shown(counts))
    return runs


def _polygon(polygon: object, height: int, width: int) -> list[float]:
    """The polygon x0, y0, x1, y1, ... unchanged. Raises Wrong."""
    if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
        raise Wrong("polygon that is not a list of 6 or more numbers x, y, x, y, ...", shown(polygon))
    if not set(map(type, polygon)) <= {int, float} or not all(map(math.isfinite, polygon)):
        raise Wrong("polygon with a coordinate that is not a number", shown(polygon))
    xs, ys = polygon[0::2], polygon[1::2]
    if min(*xs, *ys) < -BEYOND or max(xs) > width + BEYOND or max(ys) > height + BEYOND:
        raise Wrong("polygon outside its image", f"{shown(polygon)}, image {height} x {width} (height x width)")
    return polygon
