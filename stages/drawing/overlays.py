"""Masks and maps over images."""

import numpy as np
from PIL import Image

LINE = np.array([255, 255, 255])
FLOOR, CONTRAST = 50, 0.5  # of the grey that is outside


def overlay(image: Image.Image, mask: np.ndarray) -> Image.Image:
    """An RGB image in which a mask (height, width), bool, keeps its colours, with a white line inside its border."""
    grey = FLOOR + CONTRAST * np.asarray(image.convert("L"), dtype=np.float64)[..., None]  # (height, width, 1)
    canvas = np.where(mask[..., None], np.asarray(image), grey)
    canvas[outline(mask)] = LINE
    return Image.fromarray(np.uint8(canvas.round()))


def outline(mask: np.ndarray) -> np.ndarray:
    """Pixels of a mask that have a neighbour, to the side or above or below, outside it or outside the image."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner
