"""Masks and maps over images."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

LINE = np.array([255, 255, 255])
FLOOR, CONTRAST = 50, 0.5  # of the grey that is outside
DIMMED = 0.6  # brightness of what is outside a thumbnail's mask
LINES_AROUND = ((9, "#000000"), (7, "#ffffff"), (5, "#e6007e"))  # outermost first: width of the filter, colour
HEAT_STRENGTH = 0.65


def overlay(image: Image.Image, mask: np.ndarray) -> Image.Image:
    """An RGB image, grey outside a mask (height, width), bool, with a white line along the inside of its border."""
    grey = FLOOR + CONTRAST * np.asarray(image.convert("L"), dtype=np.float64)[..., None]  # (height, width, 1)
    canvas = np.where(mask[..., None], np.asarray(image), grey)
    canvas[outline(mask)] = LINE
    return Image.fromarray(np.uint8(canvas.round()))


def outline(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask whose left, right, upper or lower neighbour is outside it or outside the image."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def fitted(size: tuple[int, int], bounds: tuple[int, int]) -> tuple[int, int]:
    """The largest (width, height) within bounds that has the proportions of a size, no side below a pixel."""
    scale = min(bound / side for bound, side in zip(bounds, size, strict=True))
    width, height = (max(1, round(scale * side)) for side in size)
    return width, height


def thumbnail(image: Image.Image, mask: np.ndarray, bounds: tuple[int, int]) -> Image.Image:
    """An RGB image scaled to fit, what is outside the mask dimmed, with a pink line around it that shows on any ground.

    Args:
        mask: (height, width) of the image, 0 and 1, with at least one pixel. It stays visible where it gets thinner
            than a pixel.
        bounds: the most (width, height) of the result, pixels.
    """
    size = fitted(image.size, bounds)
    cover = Image.fromarray(255 * mask).resize(size, Image.Resampling.BOX)
    inside = cover.point(lambda value: 255 * (value >= 128))
    if not inside.getbbox():  # thinner than a pixel
        inside = cover.point(lambda value: 255 * (value > 0))
    scaled = image.resize(size, Image.Resampling.LANCZOS)
    drawn = Image.blend(Image.new("RGB", size), scaled, DIMMED)
    for width, colour in LINES_AROUND:
        drawn.paste(Image.new("RGB", size, colour), mask=inside.filter(ImageFilter.MaxFilter(width)))
    drawn.paste(scaled, mask=inside)
    return drawn


def heat_map(image: Image.Image, values: np.ndarray, colours: Callable[[np.ndarray], np.ndarray]) -> Image.Image:
    """A map (h, w) over the grey image, in colours from its least value to its largest.

    Args:
        colours: values between 0 and 1 (h, w) -> RGB or RGBA between 0 and 1 (h, w, 3 or 4), such as a colormap of
            matplotlib.
    """
    spread = values.max() - values.min()
    scaled = (values - values.min()) / (spread or 1)
    cells = Image.fromarray(np.uint8(255 * colours(scaled)[..., :3])).resize(image.size, Image.Resampling.NEAREST)
    return Image.blend(image.convert("L").convert("RGB"), cells, HEAT_STRENGTH)
