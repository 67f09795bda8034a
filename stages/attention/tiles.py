"""VLBA's attention word by word, laid over the image: which pixels a word gathers, which words a pixel reads."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from stages.drawing import overlays

TIMES = "\N{MULTIPLICATION SIGN}"
TILE = (72, 216)  # the most (width, height) of a tile, pixels
HEAT = np.array([240, 228, 66])  # Okabe and Ito's yellow
OUTLINE = np.array([255, 255, 255])


class Direction(NamedTuple):
    """How a direction of VLBA is presented: its title, and what the number of a tile is."""

    title: str
    number: str


DIRECTIONS = {
    "pixel_to_text": Direction(
        "Which pixels a word gathers", "largest share of a pixel, in multiples of an even share"
    ),
    "text_to_pixel": Direction("Which words a pixel reads", "mean share of the word over all pixels, in percent"),
}


class Tile(NamedTuple):
    """A word's shares over the image, and the number that belongs to it."""

    image: Image.Image
    number: str


@dataclass(frozen=True)
class AttentionTiles:
    """The tiles of one expression in one direction: one row for each vision level, one column for each word.

    Attributes:
        direction: key of `DIRECTIONS`.
        text: the expression.
        sent_id: its id.
        words: its tokens.
        levels: number of each vision level, counted from 1.
        tiles: (levels, words).
    """

    direction: str
    text: str
    sent_id: int
    words: list[str]
    levels: list[int]
    tiles: list[list[Tile]]

    @property
    def title(self) -> str:
        return DIRECTIONS[self.direction].title

    @property
    def number(self) -> str:
        return DIRECTIONS[self.direction].number


class Filled(NamedTuple):
    """The part of the model's square input that an image fills, as shares of its side."""

    left: float
    top: float
    right: float
    bottom: float


def tiles(
    attention: pd.DataFrame, text: str, sent_id: int, image: Image.Image, mask: np.ndarray, fit: str | None
) -> list[AttentionTiles]:
    """The tiles of one expression, in every direction that the variant has.

    Args:
        attention: of one variant: sent_id, and the columns of `shares.COLUMNS`.
        text: the expression.
        sent_id: its id.
        image: its image, RGB.
        mask: whose outline is drawn, (height, width) of the image, bool.
        fit: how the protocol brings an image into the model's square input: stretch, letterbox or None.
    """
    filled = _filled(image, fit)
    own = attention[attention["sent_id"] == sent_id]
    size = overlays.fitted(image.size, TILE)
    grey = _grey(image.resize(size, Image.Resampling.BICUBIC))
    outline = overlays.outline(np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)))
    found = []
    for direction in DIRECTIONS:
        rows = own[own["direction"] == direction]
        if rows.empty:
            continue
        shares = {level: _shares(part) for level, part in rows.groupby("level")}  # level -> (words, rows, columns)
        found.append(
            AttentionTiles(
                direction=direction,
                text=text,
                sent_id=sent_id,
                words=rows.drop_duplicates("word_index").sort_values("word_index")["word"].tolist(),
                levels=[level + 1 for level in shares],
                tiles=[_row(direction, of_level, grey, outline, filled) for of_level in shares.values()],
            )
        )
    return found


def _grey(image: Image.Image) -> np.ndarray:
    """(height, width, 3), dimmed so that yellow stands out."""
    return 25 + 0.5 * np.asarray(image.convert("L"), dtype=np.float64)[..., None].repeat(3, axis=2)


def _shares(part: pd.DataFrame) -> np.ndarray:
    """The rows of one level and direction as (words, rows, columns)."""
    ordered = part.sort_values(["word_index", "row", "column"])
    shape = (ordered["word_index"].nunique(), int(ordered["row"].max()) + 1, int(ordered["column"].max()) + 1)
    return ordered["share"].to_numpy(float).reshape(shape)


def _filled(image: Image.Image, fit: str | None) -> Filled:
    if fit != "letterbox":
        return Filled(0.0, 0.0, 1.0, 1.0)
    left, top = (0.5 - side / max(image.size) / 2 for side in image.size)
    return Filled(left, top, 1 - left, 1 - top)


def _row(direction: str, shares: np.ndarray, grey: np.ndarray, outline: np.ndarray, filled: Filled) -> list[Tile]:
    """The tiles of one level, one for each word; shares (words, rows, columns)."""
    if direction == "pixel_to_text":
        numbers = [f"{TIMES}{float(share.max() * share.size):.1f}" for share in shares]
        scales = [share.max() for share in shares]
    else:
        numbers = [f"{100 * float(share.mean()):.0f} %" for share in shares]
        scales = [shares.max()] * len(shares)
    return [
        Tile(_lay_over(grey, share / scale if scale else share, outline, filled), number)
        for share, scale, number in zip(shares, scales, numbers, strict=True)
    ]


def _lay_over(grey: np.ndarray, heat: np.ndarray, outline: np.ndarray, filled: Filled) -> Image.Image:
    """Heat between 0 and 1 on the grid of the model's input, over the image, which fills a part of it."""
    height, width = outline.shape
    box = tuple(share * side for share, side in zip(filled, (*heat.shape[::-1], *heat.shape[::-1]), strict=True))
    grid = Image.fromarray(np.uint8(np.round(255 * heat))).resize((width, height), Image.Resampling.NEAREST, box=box)
    strength = 0.85 * np.asarray(grid, dtype=np.float64)[..., None] / 255
    canvas = (1 - strength) * grey + strength * HEAT
    canvas[outline] = 0.3 * canvas[outline] + 0.7 * OUTLINE
    return Image.fromarray(np.uint8(np.round(canvas)))
