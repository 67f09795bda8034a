"""VLBA's attention word by word, as a figure for papers."""

from functools import partial

import numpy as np
from matplotlib.axes import Axes

from stages.attention.tiles import AttentionTiles
from stages.report.figures.figure import SOFT, Figure, Panel

TILE_INCHES, NUMBER_ROOM = 0.62, 0.24  # width of a tile; room below it for its number, in widths of a tile
TITLE_LETTERS = 70


def figure(shown: list[AttentionTiles], variant: str) -> Figure:
    """A file for papers: one panel for each expression and direction."""
    panels = [
        Panel(
            partial(_draw, words=words),
            f"{words.title}: “{words.text}”",
            width=1.2 + TILE_INCHES * max(len(other.words) for other in shown),
            height=0.75 + TILE_INCHES * len(words.levels) * (_shape(words) + NUMBER_ROOM),
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


def _shape(words: AttentionTiles) -> float:
    """Height of a tile in its widths."""
    image = words.tiles[0][0].image
    return image.height / image.width


def _draw(axes: Axes, words: AttentionTiles) -> None:
    height, step = _shape(words), _shape(words) + NUMBER_ROOM
    for row, tiles_of_level in enumerate(words.tiles):
        for column, tile in enumerate(tiles_of_level):
            extent = (column - 0.48, column + 0.48, row * step + 0.96 * height, row * step)
            axes.imshow(np.asarray(tile.image), extent=extent, interpolation="none", aspect="equal")
            axes.text(column, row * step + height + 0.02, tile.number, ha="center", va="top", fontsize=6.5, color=SOFT)
    axes.set_xlim(-0.55, max(8, len(words.words)) - 0.45)
    axes.set_ylim(len(words.levels) * step + 0.02, -0.05)
    axes.set_xticks(range(len(words.words)), words.words, fontsize=8, parse_math=False)
    axes.set_yticks([row * step + height / 2 for row in range(len(words.levels))], words.levels)
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    for spine in axes.spines.values():
        spine.set_visible(False)
    text = words.text if len(words.text) <= TITLE_LETTERS else f"{words.text[:TITLE_LETTERS].rstrip()}…"
    axes.set_title(f"{words.title}: “{text}”", loc="left", parse_math=False)
    axes.set_xlabel("word")
    axes.set_ylabel("vision level")
    axes.xaxis.set_label_position("top")
