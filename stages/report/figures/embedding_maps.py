"""Maps of pixel embeddings: where the pixels of an image lie around the center of an expression."""

from functools import partial

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from stages.report.figures.figure import INK, Figure, Mark, Panel

INSIDE, OUTSIDE = "#d55e00", "#56b4e9"
AS_VECTORS = 1000  # points; more than that are drawn as an image
TITLE_LETTERS = 44


def figure(embeddings: dict[str, pd.DataFrame], samples: dict[str, pd.DataFrame]) -> Figure:
    """One row for each expression, one column for each variant.

    Args:
        embeddings: variant -> one row for each point: sent_id, x, y, kind (inside, outside, center).
        samples: variant -> the expressions, the same for all: sent_id, text, variance_x, variance_y.
    """
    panels = [
        Panel(
            partial(_draw, points=table[table["sent_id"] == sample.sent_id], sample=sample, variant=variant),
            f"Embeddings of {variant} for “{sample.text}”: pixels inside and outside the mask, and the center",
            height=3.1,
        )
        for row_of_each in zip(*(samples[variant].itertuples() for variant in embeddings), strict=True)
        for (variant, table), sample in zip(embeddings.items(), row_of_each, strict=True)
    ]
    return Figure(
        key="embeddings",
        title="Pixel embeddings around the center",
        caption=(
            "The pixel embeddings of an image, and the center embedding of its expression, along the two directions in "
            "which the pixels vary most, found by principal component analysis (PCA) for each map alone. Embeddings "
            f"have unit length: the closer to the center, the more similar. {' and '.join(embeddings)}, one seed. Look "
            "for pixels inside the mask that gather near the center, apart from those outside. Where the axes hold "
            "little of the variance, distances on the map say little."
        ),
        panels=panels,
        columns=len(embeddings),
        legend=[
            Mark("pixel inside the mask", INSIDE, filled=True),
            Mark("pixel outside", OUTSIDE, filled=True),
            Mark("center embedding", INK, filled=False),
        ],
    )


def _title(text: str) -> str:
    return f"“{text}”" if len(text) <= TITLE_LETTERS else f"“{text[:TITLE_LETTERS].rstrip()}…”"


def _draw(axes: Axes, points: pd.DataFrame, sample: tuple, variant: str) -> None:
    as_image = len(points) > AS_VECTORS
    for kind, colour in (("outside", OUTSIDE), ("inside", INSIDE)):
        own = points[points["kind"] == kind]
        axes.plot(
            *(own["x"], own["y"], "o"),
            color=colour,
            markersize=2.4,
            markeredgewidth=0,
            alpha=0.8,
            rasterized=as_image,
        )
    center = points[points["kind"] == "center"]
    axes.plot(*(center["x"], center["y"], "o"), color=INK, markersize=8, markeredgewidth=1.8, markerfacecolor="none")
    axes.plot(center["x"], center["y"], "+", color=INK, markersize=8, markeredgewidth=1.2)
    axes.set_aspect("equal", adjustable="datalim")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_title(f"{_title(sample.text)}\n{variant}", loc="left", parse_math=False)
    axes.set_xlabel(f"1st principal component ({100 * sample.variance_x:.0f} % of the variance)")
    axes.set_ylabel(f"2nd principal component ({100 * sample.variance_y:.0f} %)")
    axes.grid()
