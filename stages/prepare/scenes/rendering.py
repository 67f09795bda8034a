"""Paints a scene: textured things on a tinted, noisy ground with strokes in the colours of the things."""

import colorsys

import numpy as np
from PIL import Image, ImageDraw

from stages.prepare.scenes import shapes
from stages.prepare.scenes.arrangement import Scene, Thing

_HUES = {"red": 0, "orange": 28, "yellow": 54, "green": 122, "blue": 218, "purple": 285}  # degrees
_TEXTURES = ("shaded", "striped", "checked", "blotched")


def paint(scene: Scene, generator: np.random.Generator) -> Image.Image:
    """The image of a scene: RGB, (size, size)."""
    image = _ground(scene, generator)  # (size, size, 3)
    for thing in scene.things:
        distances = shapes.distance(thing.shape, thing.x, thing.y, thing.radius, thing.angle, scene.size)
        alpha = shapes.coverage(distances)[..., None]
        image += alpha * (_surface(thing, distances, scene.size, generator) - image)
    image += generator.normal(0, 0.025, size=image.shape).astype(np.float32)
    return Image.fromarray((np.clip(image, 0, 1) * 255).round().astype(np.uint8))


def _ground(scene: Scene, generator: np.random.Generator) -> np.ndarray:
    """The ground: a pale tint near the colour of a thing, clouds, and strokes in the colours of the scene."""
    size = scene.size
    colours = [thing.colour for thing in scene.things]
    hue = _HUES[colours[generator.integers(len(colours))]] + generator.normal(0, 15)
    tint = _rgb(hue, generator.uniform(0.15, 0.4), generator.uniform(0.55, 0.8))
    light = 1 + 0.1 * _clouds(generator, size, 5) + 0.05 * _clouds(generator, size, 17)
    ground = (tint * light[..., None] * 255).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(ground)
    draw = ImageDraw.Draw(image)
    for _ in range(generator.integers(5, 10)):
        colour = _jittered(colours[generator.integers(len(colours))], generator)
        x, y, dx, dy = (generator.uniform((0, 0, -0.12, -0.12), (1, 1, 0.12, 0.12)) * size).tolist()
        fill = tuple((colour * 255).astype(int).tolist())
        draw.line((x, y, x + dx, y + dy), fill=fill, width=max(1, round(size / 40)))
    return np.asarray(image, dtype=np.float32) / 255


def _surface(thing: Thing, distances: np.ndarray, size: int, generator: np.random.Generator) -> np.ndarray:
    """The colour of a thing at every pixel, (size, size, 3), with a texture and a darker rim."""
    scale = np.float32(64 / size)
    texture = _TEXTURES[generator.integers(len(_TEXTURES))]
    angle, phase = generator.uniform(0, 2 * np.pi, size=2)
    axis = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * scale
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u = cos * axis[None, :] + sin * axis[:, None] + np.float32(phase)
    v = cos * axis[:, None] - sin * axis[None, :]
    if texture == "shaded":
        pattern = (u - u[int(thing.y), int(thing.x)]) / 12
    elif texture == "striped":
        pattern = np.sin(1.3 * u)
    elif texture == "checked":
        pattern = np.sign(np.sin(0.9 * u) * np.sin(0.9 * v))
    else:
        pattern = _clouds(generator, size, 13)
    light = 1 + 0.09 * pattern.clip(-1.5, 1.5)
    light = np.where(distances * scale > -1.3, 0.72, light)
    return (_jittered(thing.colour, generator) * light[..., None]).clip(0, 1).astype(np.float32)


def _clouds(generator: np.random.Generator, size: int, cells: int) -> np.ndarray:
    """Smooth noise of about unit scale, (size, size)."""
    noise = Image.fromarray(generator.normal(0, 1, size=(cells, cells)).astype(np.float32))
    return np.asarray(noise.resize((size, size), Image.Resampling.BICUBIC))


def _jittered(colour: str, generator: np.random.Generator) -> np.ndarray:
    hue, saturation, value = generator.uniform((-5, 0.76, 0.84), (5, 0.97, 1.0)).tolist()
    return _rgb(_HUES[colour] + hue, saturation, value)


def _rgb(hue: float, saturation: float, value: float) -> np.ndarray:
    return np.array(colorsys.hsv_to_rgb(hue / 360 % 1, saturation, value), dtype=np.float32)
