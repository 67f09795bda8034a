"""Learning curves: a thin line for each seed, a thick one for the mean of each variant."""

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
    """One panel for each column of `PANELS`.

    Args:
        histories: variant -> seed -> one row for each epoch; variants without a run may be left out.
        variants: every listed variant, for their colours.
        seeds: every listed seed.
    """
    lines = (
        f"One line for each variant, seed {seeds[0]}."
        if len(seeds) == 1
        else f"Thin lines: single seeds. Thick lines: means over the seeds {', '.join(map(str, seeds))}."
    )
    return Figure(
        key="curves",
        title="Learning curves",
        caption=(
            f"{lines} Look for curves that still rise at the last epoch: there, longer training could change the "
            "order. Look also for seeds of one variant that are as far apart as the variants are. The loss is that of "
            "the masks alone, without the contrastive term, which not every variant has."
        ),
        panels=[
            Panel(
                partial(_draw, histories=histories, variants=variants, column=column),
                f"{label} by epoch, one line for each variant",
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
