"""Masks over images: one mask, its outline, and a predicted mask compared with the true one."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageColor

LINE = np.array([255, 255, 255])
FLOOR, CONTRAST = 50, 0.5  # of the grey that is outside
COMPARED_FLOOR, COMPARED_CONTRAST = 70, 0.7  # of the grey under the colours of a comparison
STRENGTH = 0.7  # of those colours


@dataclass(frozen=True)
class Region:
    """One of the regions that a predicted and a true mask make together."""

    name: str
    meaning: str
    colour: str


CORRECT = Region("green", "correct", "#009e73")
WRONG = Region("orange", "predicted, but wrong", "#d55e00")
MISSED = Region("blue, striped", "missed", "#56b4e9")
REGIONS = (CORRECT, WRONG, MISSED)


def overlay(image: Image.Image, mask: np.ndarray) -> Image.Image:
    """The image in grey, except inside a mask, which keeps its colours and has a white line inside its border.

    Args:
        image: RGB, (width, height) pixels.
        mask: (height, width) of the image, boolean.
    """
    grey = FLOOR + CONTRAST * np.asarray(image.convert("L"), dtype=np.float64)[..., None]  # (height, width, 1)
    canvas = np.where(mask[..., None], np.asarray(image), grey)
    canvas[outline(mask)] = LINE
    return Image.fromarray(np.uint8(canvas.round()))


def comparison(image: Image.Image, truth: np.ndarray, predicted: np.ndarray) -> Image.Image:
    """The image in grey, its correct, wrong and missed pixels coloured as `REGIONS` says.

    Args:
        image: RGB, (width, height) pixels.
        truth: true mask, (height, width) of the image, boolean.
        predicted: predicted mask, same shape.
    """
    grey = np.asarray(image.convert("L"), dtype=np.float64)[..., None].repeat(3, axis=2)  # (height, width, 3)
    row, column = np.indices(truth.shape)
    stripes = (row + column) // max(2, truth.shape[1] // 64) % 2 == 0
    canvas = COMPARED_FLOOR + COMPARED_CONTRAST * grey
    for where, region, strength in (
        (truth & predicted, CORRECT, STRENGTH),
        (~truth & predicted, WRONG, STRENGTH),
        (truth & ~predicted & stripes, MISSED, 1.0),
        (truth & ~predicted & ~stripes, MISSED, STRENGTH / 2),
    ):
        canvas[where] = (1 - strength) * canvas[where] + strength * np.array(ImageColor.getrgb(region.colour))
    return Image.fromarray(canvas.round().clip(0, 255).astype(np.uint8))


def outline(mask: np.ndarray) -> np.ndarray:
    """Pixels of a mask that have a neighbour, to the side or above or below, outside it or outside the image."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner
