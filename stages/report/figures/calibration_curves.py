"""Are predicted probabilities right, and which threshold is best? Reliability diagram and threshold curve."""

from functools import partial

import pandas as pd
from matplotlib.axes import Axes

from stages.report.figures.figure import INK, SOFT, Figure, Panel, line_style, variant_marks

USUAL = 0.5  # the threshold of masks, unless a protocol names another
FEWEST_PIXELS = 100


def figure(calibration: pd.DataFrame, thresholds: pd.DataFrame, variants: list[str], split: str, metric: str) -> Figure:
    """Two panels: share inside over predicted probability, and the metric over the threshold.

    Args:
        calibration: one row for each run, split and bin: variant, seed, split, low, high, pixels, probability, inside.
        thresholds: one row for each run, split and threshold: variant, seed, split, threshold, and `metric`.
        variants: every listed variant, for their colours.
        split: the split to show.
        metric: of the threshold curve, mIoU or oIoU.
    """
    bins = calibration[calibration["split"] == split]
    curve = thresholds[thresholds["split"] == split].groupby(["variant", "threshold"])[metric].mean()
    best = {name: (float(curve[name].idxmax()), float(curve[name].max())) for name in variants if name in curve}
    return Figure(
        key="calibration",
        title=f"Calibration and threshold, {split}",
        caption=(
            "Reliability: of the pixels with about the same predicted probability, the share that lies inside the true "
            f"mask, with all seeds together; bins of fewer than {FEWEST_PIXELS} pixels are left out. On the diagonal, "
            f"probabilities are right; below it, the model is overconfident. Threshold: {metric} if the pixels above "
            "it count as inside, mean over seeds; a dot marks the best threshold. Look for curves that are flat around "
            f"{USUAL:g} (vertical line): there, the usual threshold costs nothing."
        ),
        panels=[
            Panel(
                partial(_draw_reliability, bins=bins, variants=variants, split=split),
                f"Reliability diagram on {split}: share of pixels inside over predicted probability",
                height=3.0,
            ),
            Panel(
                partial(_draw_thresholds, curve=curve, best=best, variants=variants, label=f"{metric} on {split} (%)"),
                f"{metric} on {split} over the threshold; best: "
                + "; ".join(f"{name} {100 * value:.1f} at {place:g}" for name, (place, value) in best.items()),
                height=3.0,
            ),
        ],
        legend=variant_marks(variants),
    )


def pooled(bins: pd.DataFrame) -> pd.DataFrame:
    """Bins of all seeds together: pixels summed, probability and share weighted by them; index: variant, low."""
    weighted = bins.assign(**{key: bins[key].fillna(0) * bins["pixels"] for key in ("probability", "inside")})
    sums = weighted.groupby(["variant", "low"])[["pixels", "probability", "inside"]].sum()
    return sums.assign(probability=sums["probability"] / sums["pixels"], inside=sums["inside"] / sums["pixels"])


def _draw_reliability(axes: Axes, bins: pd.DataFrame, variants: list[str], split: str) -> None:
    axes.plot([0, 100], [0, 100], color=SOFT, linewidth=0.8)
    every = pooled(bins)
    for index, name in enumerate(variants):
        if name not in every.index:
            continue
        own = every.loc[name]
        own = 100 * own[own["pixels"] >= FEWEST_PIXELS]
        colour, dash = line_style(index)
        axes.plot(
            own["probability"], own["inside"], color=colour, linestyle=dash, linewidth=1.2, marker="o", markersize=3
        )
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 100)
    axes.set_xlabel(f"predicted probability of pixels on {split} (%)")
    axes.set_ylabel("of these, inside the mask (%)")
    axes.grid()


def _draw_thresholds(
    axes: Axes, curve: pd.Series, best: dict[str, tuple[float, float]], variants: list[str], label: str
) -> None:
    axes.axvline(USUAL, color=INK, linewidth=0.8)
    for index, name in enumerate(variants):
        if name not in best:
            continue
        colour, dash = line_style(index)
        axes.plot(curve[name].index, 100 * curve[name], color=colour, linestyle=dash, linewidth=1.5)
        axes.plot(best[name][0], 100 * best[name][1], color=colour, marker="o", markersize=4.5)
    axes.set_xlabel("threshold (probability)")
    axes.set_ylabel(label)
    axes.grid(axis="y")
