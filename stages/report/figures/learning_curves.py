"""Learning curves: a line a variant, thin a seed, thick their mean."""

from functools import partial

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from stages.report.figures.figure import Figure, Panel, line_style, variant_marks

Histories = dict[str, dict[int, pd.DataFrame]]

PANELS = {  # column of the history: (axis label, factor)
    "val_mIoU": ("mIoU on val (%)", 100.0),
    "mask_loss": ("training mask loss (per sample)", 1.0),
}


def figure(histories: Histories, variants: list[str], seeds: list[int]) -> Figure:
    """One panel a column of `PANELS`.

    Args:
        histories: variant -> seed -> one row an epoch; variants without a run may be left out.
        variants: every listed variant, for their colours.
        seeds: those that are listed.
    """
    lines = (
        f"One line a variant, seed {seeds[0]}."
        if len(seeds) == 1
        else f"Thin lines: one seed. Thick lines: mean over seeds {', '.join(map(str, seeds))}."
    )
    return Figure(
        key="curves",
        title="Learning curves",
        caption=(
            f"{lines} Look for curves that still rise at the last epoch, where longer training could change the order, "
            "and for seeds of one variant that lie as far apart as the variants do. The loss is that of the masks "
            "alone: the contrastive term, which not every variant has, is left out."
        ),
        panels=[
            Panel(
                partial(_draw, histories=histories, variants=variants, column=column),
                f"{label} by epoch, a line a variant",
            )
            for column, (label, _) in PANELS.items()
        ],
        legend=variant_marks(variants),
    )


def _draw(axes: Axes, histories: Histories, variants: list[str], column: str) -> None:
    label, factor = PANELS[column]
    for variant, seeds in histories.items():
        colour, dash = line_style(variants.index(variant))
        mean = pd.concat(seeds.values()).groupby("epoch")[column].mean() * factor
        if len(seeds) > 1:
            for history in seeds.values():
                axes.plot(history["epoch"], history[column] * factor, color=colour, linewidth=0.7, alpha=0.45)
        axes.plot(mean.index, mean, color=colour, linestyle=dash, linewidth=1.7)
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(axis="y")
