"""Learning curves as SVG: a line a variant, thin a seed, thick their mean."""

import io
import re
from collections.abc import Sequence

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

Histories = dict[str, dict[int, pd.DataFrame]]

INK, RULE, PAPER = "#1b1b1a", "#dcdcd8", "#fffffe"
OKABE_ITO = [INK, "#e69f00", "#56b4e9", "#009e73", "#0072b2", "#d55e00", "#cc79a7"]
DASHES = ["solid", (0, (4, 2)), (0, (1, 1.5))]
PANELS = {  # column of the history: (axis label, factor)
    "val_mIoU": ("mIoU on val (%)", 100.0),
    "mask_loss": ("training mask loss (per sample)", 1.0),
}
STYLE = {
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.facecolor": PAPER,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
}


def line_style(index: int) -> tuple[str, object]:
    """Colour (Okabe and Ito's, safe for colour-blind readers) and dash pattern of the variant at `index`."""
    return OKABE_ITO[index % len(OKABE_ITO)], DASHES[index // len(OKABE_ITO) % len(DASHES)]


def figure_svg(histories: Histories, columns: Sequence[str], salt: str, legend: bool) -> str:
    """One panel a column of `PANELS`, side by side, as an SVG that is the same bytes for the same histories.

    Args:
        histories: variant -> seed -> one row an epoch.
        columns: which panels, from left to right.
        salt: makes the ids in the SVG its own.
        legend: whether a legend of the variants stands below.
    """
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": salt}):
        height = 2.9 + (0.45 if legend else 0.0)
        figure = Figure(figsize=(4.4 * len(columns), height), layout="constrained", facecolor=PAPER)  # inches
        FigureCanvasSVG(figure)
        for axes, column in zip(figure.subplots(1, len(columns), squeeze=False)[0], columns, strict=True):
            _draw_panel(axes, histories, column)
        if legend:
            handles, labels = figure.axes[0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 6), frameon=False)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def inline(svg: str, prefix: str) -> str:
    """An SVG file as an element of a page: no prologue, no namespaces, ids of its own, colours that follow the page."""
    element = svg[svg.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    element = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", element).replace("xlink:href", "href")
    element = re.sub(r'\bid="', f'id="{prefix}-', element)
    element = element.replace('href="#', f'href="#{prefix}-').replace("url(#", f"url(#{prefix}-")
    element = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", element, count=1)
    element = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", element, count=1)
    for colour, variable in ((INK, "--ink"), (RULE, "--rule"), (PAPER, "--paper")):
        element = element.replace(colour, f"var({variable})")
    return element.strip()


def _draw_panel(axes: Axes, histories: Histories, column: str) -> None:
    label, factor = PANELS[column]
    for index, (variant, seeds) in enumerate(histories.items()):
        colour, dash = line_style(index)
        every = pd.concat(seeds.values())
        mean = every.groupby("epoch")[column].mean() * factor
        if len(seeds) > 1:
            for history in seeds.values():
                axes.plot(history["epoch"], history[column] * factor, color=colour, linewidth=0.7, alpha=0.45)
        axes.plot(mean.index, mean, color=colour, linestyle=dash, linewidth=1.7, label=variant)
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(axis="y")
