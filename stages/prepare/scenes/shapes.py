"""The shapes of the rendered images, as the share of every pixel that they cover."""

from collections.abc import Callable

import numpy as np

Grid = np.ndarray  # float32, pixels


def _circle(u: Grid, v: Grid, radius: float) -> Grid:
    return np.hypot(u, v) - radius


def _square(u: Grid, v: Grid, radius: float) -> Grid:
    return np.maximum(np.abs(u), np.abs(v)) - 0.9 * radius


def _triangle(u: Grid, v: Grid, radius: float) -> Grid:
    slope = np.float32(np.sqrt(3) / 2)
    return np.maximum(v, slope * np.abs(u) - 0.5 * v) - 0.72 * radius


def _cross(u: Grid, v: Grid, radius: float) -> Grid:
    long, short = np.maximum(np.abs(u), np.abs(v)), np.minimum(np.abs(u), np.abs(v))
    return np.maximum(long - 1.12 * radius, short - 0.42 * radius)


_DISTANCES: dict[str, Callable[[Grid, Grid, float], Grid]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "cross": _cross,
}

SHAPES = tuple(_DISTANCES)


def distance(shape: str, x: float, y: float, radius: float, angle: float, size: int) -> Grid:
    """The distance of every pixel from the border of a shape, in pixels, negative inside: (size, size).

    All shapes of a radius have about the area of the circle of that radius. The center is the centroid.

    Args:
        shape: one of `SHAPES`.
        x, y: center, pixels from the left and from the top.
        radius: pixels.
        angle: rotation, radians.
        size: height and width of the image, pixels.
    """
    axis = np.arange(size, dtype=np.float32) + np.float32(0.5)
    dx, dy = axis[None, :] - np.float32(x), axis[:, None] - np.float32(y)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return _DISTANCES[shape](cos * dx + sin * dy, cos * dy - sin * dx, np.float32(radius))


def coverage(distances: Grid) -> Grid:
    """The share of every pixel that is inside the border, 0 to 1, from its distance from it."""
    return np.clip(0.5 - distances, 0, 1)
