"""A predicted mask compared with the true one, over their image."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageColor

FLOOR, CONTRAST = 70, 0.7  # of the grey under the colours
STRENGTH = 0.7  # of the colours


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


def draw(image: Image.Image, truth: np.ndarray, predicted: np.ndarray) -> Image.Image:
    """The image in grey, its correct, wrong and missed pixels coloured as `REGIONS` says.

    Args:
        image: RGB, (width, height) pixels.
        truth: true mask, (height, width) of the image, boolean.
        predicted: predicted mask, same shape.
    """
    grey = np.asarray(image.convert("L"), dtype=np.float64)[..., None].repeat(3, axis=2)  # (height, width, 3)
    row, column = np.indices(truth.shape)
    stripes = (row + column) // max(2, truth.shape[1] // 64) % 2 == 0
    canvas = FLOOR + CONTRAST * grey
    for where, region, strength in (
        (truth & predicted, CORRECT, STRENGTH),
        (~truth & predicted, WRONG, STRENGTH),
        (truth & ~predicted & stripes, MISSED, 1.0),
        (truth & ~predicted & ~stripes, MISSED, STRENGTH / 2),
    ):
        canvas[where] = (1 - strength) * canvas[where] + strength * np.array(ImageColor.getrgb(region.colour))
    return Image.fromarray(canvas.round().clip(0, 255).astype(np.uint8))
