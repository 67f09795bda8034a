"""VLBA word by word: which pixels a word gathers and which words a pixel reads, laid over the image."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from PIL import Image

from stages.drawing import overlays
from stages.report.figures.figure import SOFT, Figure, Panel

TIMES = "\N{MULTIPLICATION SIGN}"
TILE = 72  # pixels of a tile's width
HEAT = np.array([240, 228, 66])  # Okabe and Ito's yellow
OUTLINE = np.array([255, 255, 255])
TILE_INCHES, NUMBER_ROOM = 0.62, 0.24  # of a file for a paper; room below a tile in tiles' heights
TITLE_LETTERS = 70
DIRECTIONS = {  # direction: (title, what a tile's number is)
    "pixel_to_text": ("Which pixels a word gathers", "largest share of a pixel, in multiples of an even share"),
    "text_to_pixel": ("Which words a pixel reads", "mean share of the word over all pixels, in percent"),
}


@dataclass(frozen=True)
class Tile:
    """A word's shares over the image, and the number that belongs to it."""

    image: Image.Image
    number: str


@dataclass(frozen=True)
class Words:
    """One direction for one expression: a row a vision level, a column a word.

    Attributes:
        direction: key of `DIRECTIONS`.
        text: the expression.
        sent_id: its id.
        words: as the model's tokenizer splits it.
        stages: number of each vision level, counted from 1.
        tiles: (stages, words).
    """

    direction: str
    text: str
    sent_id: int
    words: list[str]
    stages: list[int]
    tiles: list[list[Tile]]

    @property
    def title(self) -> str:
        return DIRECTIONS[self.direction][0]

    @property
    def number(self) -> str:
        return DIRECTIONS[self.direction][1]


def tiles(
    attention: pd.DataFrame, text: str, sent_id: int, image: Image.Image, truth: np.ndarray, fit: str | None
) -> list[Words]:
    """Every direction that the variant has, for one expression.

    Args:
        attention: of one variant: sent_id, stage, direction, word_index, word, row, column, share.
        text: the expression.
        sent_id: its id.
        image: its image, RGB.
        truth: its true mask over the image, (height, width), boolean.
        fit: how the protocol brings an image into the model's square input: stretch, letterbox or None.
    """
    part = _filled(image, fit)
    own = attention[attention["sent_id"] == sent_id]
    height = max(1, round(TILE * image.height / image.width))
    grey = _grey(image.resize((TILE, height), Image.Resampling.BICUBIC))
    outline = overlays.outline(np.asarray(Image.fromarray(truth).resize((TILE, height), Image.Resampling.NEAREST)))
    found = []
    for direction in DIRECTIONS:
        rows = own[own["direction"] == direction]
        if rows.empty:
            continue
        shares = {stage: _shares(part) for stage, part in rows.groupby("stage")}  # stage -> (words, rows, columns)
        words = rows.drop_duplicates("word_index").sort_values("word_index")["word"].tolist()
        found.append(
            Words(
                direction=direction,
                text=text,
                sent_id=sent_id,
                words=words,
                stages=[stage + 1 for stage in shares],
                tiles=[_row(direction, of_stage, grey, outline, part) for of_stage in shares.values()],
            )
        )
    return found


def figure(shown: list[Words], variant: str) -> Figure:
    """A file for papers: one panel for each expression and direction."""
    panels = [
        Panel(
            partial(_draw, words=words),
            f"{words.title}: “{words.text}”",
            width=1.2 + TILE_INCHES * max(len(other.words) for other in shown),
            height=0.75 + TILE_INCHES * len(words.stages) * (_shape(words) + NUMBER_ROOM),
        )
        for words in shown
    ]
    return Figure(
        key="attention",
        title=f"What words gather and pixels read, {variant}",
        caption=caption(variant),
        panels=panels,
        columns=1,
    )


def caption(variant: str) -> str:
    """What the tiles show."""
    return (
        f"Attention of {variant} between words and pixels, one seed, at each level of the vision encoder that has it. "
        "Yellow marks a large share, white the outline of the true mask. Where a word gathers pixels, each tile has a "
        "scale of its own, and the number below it is the largest share of one pixel, in multiples of an even share. "
        "Where pixels read words, the tiles of a row have a common scale, and the number is the mean share of the word "
        "in percent. Look for words of place, colour and kind that gather other pixels than the words between them, "
        "and for pixels of the meant thing that read the words that tell it apart."
    )


def _grey(image: Image.Image) -> np.ndarray:
    """(height, width, 3), dimmed so that yellow stands out."""
    return 25 + 0.5 * np.asarray(image.convert("L"), dtype=np.float64)[..., None].repeat(3, axis=2)


def _shares(part: pd.DataFrame) -> np.ndarray:
    """One stage and direction as (words, rows, columns)."""
    ordered = part.sort_values(["word_index", "row", "column"])
    shape = (ordered["word_index"].nunique(), int(ordered["row"].max()) + 1, int(ordered["column"].max()) + 1)
    return ordered["share"].to_numpy(float).reshape(shape)


def _filled(image: Image.Image, fit: str | None) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the part of the model's input that the image fills, as shares of its side."""
    if fit != "letterbox":
        return 0.0, 0.0, 1.0, 1.0
    left, top = (0.5 - side / max(image.size) / 2 for side in image.size)
    return left, top, 1 - left, 1 - top


def _row(
    direction: str, shares: np.ndarray, grey: np.ndarray, outline: np.ndarray, part: tuple[float, float, float, float]
) -> list[Tile]:
    if direction == "pixel_to_text":
        numbers = [f"{TIMES}{float(share.max() * share.size):.1f}" for share in shares]
        scales = [share.max() for share in shares]
    else:
        numbers = [f"{100 * float(share.mean()):.0f} %" for share in shares]
        scales = [shares.max()] * len(shares)
    return [
        Tile(_lay_over(grey, share / scale if scale else share, outline, part), number)
        for share, scale, number in zip(shares, scales, numbers, strict=True)
    ]


def _lay_over(
    grey: np.ndarray, heat: np.ndarray, outline: np.ndarray, part: tuple[float, float, float, float]
) -> Image.Image:
    """Heat between 0 and 1 on the grid of the model's input, over the image, which fills a part of it."""
    height, width = outline.shape
    box = tuple(share * side for share, side in zip(part, (*heat.shape[::-1], *heat.shape[::-1]), strict=True))
    grid = Image.fromarray(np.uint8(np.round(255 * heat))).resize((width, height), Image.Resampling.NEAREST, box=box)
    strength = 0.85 * np.asarray(grid, dtype=np.float64)[..., None] / 255
    canvas = (1 - strength) * grey + strength * HEAT
    canvas[outline] = 0.3 * canvas[outline] + 0.7 * OUTLINE
    return Image.fromarray(np.uint8(np.round(canvas)))


def _shape(words: Words) -> float:
    """Height of a tile in its widths."""
    image = words.tiles[0][0].image
    return image.height / image.width


def _draw(axes: Axes, words: Words) -> None:
    height, step = _shape(words), _shape(words) + NUMBER_ROOM
    for row, tiles_of_stage in enumerate(words.tiles):
        for column, tile in enumerate(tiles_of_stage):
            extent = (column - 0.48, column + 0.48, row * step + 0.96 * height, row * step)
            axes.imshow(np.asarray(tile.image), extent=extent, interpolation="none", aspect="equal")
            axes.text(column, row * step + height + 0.02, tile.number, ha="center", va="top", fontsize=6.5, color=SOFT)
    axes.set_xlim(-0.55, max(8, len(words.words)) - 0.45)
    axes.set_ylim(len(words.stages) * step + 0.02, -0.05)
    axes.set_xticks(range(len(words.words)), words.words, fontsize=8, parse_math=False)
    axes.set_yticks([row * step + height / 2 for row in range(len(words.stages))], words.stages)
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    for spine in axes.spines.values():
        spine.set_visible(False)
    text = words.text if len(words.text) <= TITLE_LETTERS else f"{words.text[:TITLE_LETTERS].rstrip()}…"
    axes.set_title(f"{words.title}: “{text}”", loc="left", parse_math=False)
    axes.set_xlabel("word")
    axes.set_ylabel("vision level")
    axes.xaxis.set_label_position("top")
