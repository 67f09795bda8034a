"""Scenes: which objects lie where. Expressions are judged by a scene, and its image is painted from it."""

import math
from dataclasses import dataclass

import numpy as np

from stages.prepare.scenes import shapes

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple")
RADII = {"small": (7.8, 8.6), "large": (11.6, 12.8)}  # pixels of an image of 64 pixels
VISIBLE = 0.65  # of every object, the least share that is visible

_COLOUR_GROUPS = {4: [(3, 1), (2, 2)], 5: [(3, 2), (3, 2), (4, 1), (2, 2, 1), (3, 1, 1)]}
_SHAPE_GROUPS = {4: [(2, 2), (2, 1, 1), (3, 1)], 5: [(2, 2, 1), (2, 2, 1), (3, 2), (3, 1, 1)]}


@dataclass(frozen=True, eq=False)
class Thing:
    """One object of a scene.

    Attributes:
        shape, colour, size: one of `shapes.SHAPES`, `COLOURS`, `RADII`.
        x, y: center, pixels from the left and from the top.
        radius: radius of the circle of about the same area, pixels.
        angle: rotation, radians.
        mask: where it is visible, bool (height, width).
    """

    shape: str
    colour: str
    size: str
    x: float
    y: float
    radius: float
    angle: float
    mask: np.ndarray


@dataclass(frozen=True, eq=False)
class Scene:
    """A square image of `size` pixels; its things are in painting order, so that the last lies on top."""

    size: int
    things: tuple[Thing, ...]

    def distractors(self, target: int) -> bool:
        """Whether another thing shares the target's colour and another, or the same, shares its shape."""
        own = self.things[target]
        others = [thing for index, thing in enumerate(self.things) if index != target]
        return any(o.colour == own.colour for o in others) and any(o.shape == own.shape for o in others)


def sample(generator: np.random.Generator, size: int) -> Scene | None:
    """Draw a scene with four or five things on an image of `size` pixels; None where they do not fit."""
    count = 4 if generator.random() < 0.4 else 5
    colours = _grouped(generator, COLOURS, _COLOUR_GROUPS[count])
    kinds = _grouped(generator, shapes.SHAPES, _SHAPE_GROUPS[count])
    sizes = generator.choice(list(RADII), size=count).tolist()
    radii = [generator.uniform(*RADII[name]) * size / 64 for name in sizes]
    centers = _placed(generator, radii, size)
    if centers is None:
        return None
    angles = generator.uniform(-0.2, 0.2, size=count).tolist()
    layers = [
        shapes.coverage(shapes.distance(kind, x, y, radius, angle, size))
        for kind, (x, y), radius, angle in zip(kinds, centers, radii, angles, strict=True)
    ]
    masks = visible(layers)
    if any(mask.sum() < VISIBLE * layer.sum() for mask, layer in zip(masks, layers, strict=True)):
        return None
    return Scene(
        size=size,
        things=tuple(
            Thing(kind, colour, name, x, y, radius, angle, mask)
            for kind, colour, name, (x, y), radius, angle, mask in zip(
                kinds, colours, sizes, centers, radii, angles, masks, strict=True
            )
        ),
    )


def visible(layers: list[np.ndarray]) -> list[np.ndarray]:
    """Coverages (size, size) in painting order -> for each, the pixels of which it is more than half, bool."""
    masks, free = [], np.ones_like(layers[0])
    for layer in reversed(layers):
        masks.append(layer * free > 0.5)
        free = free * (1 - layer)
    return masks[::-1]


def _grouped(generator: np.random.Generator, names: tuple[str, ...], groups: list[tuple[int, ...]]) -> list[str]:
    """Different names in random order, repeated as often as one of the groups says."""
    counts = groups[generator.integers(len(groups))]
    drawn = generator.permutation(len(names))[: len(counts)]
    repeated = [names[index] for index, count in zip(drawn, counts, strict=True) for _ in range(count)]
    return [repeated[index] for index in generator.permutation(len(repeated))]


def _placed(generator: np.random.Generator, radii: list[float], size: int) -> list[tuple[float, float]] | None:
    """A center for every radius, inside the image and far enough apart that things overlap only in part."""
    centers: list[tuple[float, float]] = []
    for radius in radii:
        border = 1.25 * radius
        for x, y in generator.uniform(border, size - border, size=(30, 2)).tolist():
            if all(
                math.hypot(x - u, y - v) > 0.78 * (radius + other)
                for (u, v), other in zip(centers, radii, strict=False)
            ):
                centers.append((x, y))
                break
        else:
            return None
    return centers
