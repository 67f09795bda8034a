"""Masks and maps over pictures."""

import numpy as np
from PIL import Image

INSIDE = np.array([213, 94, 0])  # Okabe and Ito's vermilion
STRENGTH = 0.5


def overlay(picture: Image.Image, mask: np.ndarray) -> Image.Image:
    """An RGB picture with a mask (height, width), bool, coloured, and a white line inside its border."""
    canvas = np.asarray(picture, dtype=np.float64).copy()  # (height, width, 3)
    canvas[mask] = (1 - STRENGTH) * canvas[mask] + STRENGTH * INSIDE
    canvas[outline(mask)] = 255
    return Image.fromarray(np.uint8(canvas.round()))


def outline(mask: np.ndarray) -> np.ndarray:
    """Pixels of a mask that have a neighbour, to the side or above or below, outside it or outside the picture."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner
