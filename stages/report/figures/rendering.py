"""How a figure becomes a file for a paper, or a part of the page.

The same panels give the same bytes: there is no date in them, ids are made from a fixed salt, and a user's own style
(`matplotlibrc`) does not count.
"""

import html
import io
import re

import matplotlib
from matplotlib import style
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas

from stages.report.figures.figure import INK, PAPER, RULE, THEME, Figure, Mark, Panel, css_colour

LEGEND_HEIGHT = 0.27  # inches of a row
RIGHT, BELOW = 0.14, 0.53  # inches beside and below the axes of a panel that states the width of its names
STYLE = {
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.facecolor": PAPER,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
}


def svg(figure: Figure, salt: str) -> str:
    """The whole figure as an SVG file; its ids depend on `salt`."""
    return _svg(figure.panels, figure, salt)


def pdf(figure: Figure) -> bytes:
    """The whole figure as a PDF file in which text stays text."""
    with style.context(["default", STYLE]):
        canvas = _compose(figure.panels, figure)
        FigureCanvasPdf(canvas)
        stream = io.BytesIO()
        canvas.savefig(stream, format="pdf", metadata={"Creator": None, "Producer": None, "CreationDate": None})
    return stream.getvalue()


def inline(figure: Figure, prefix: str) -> list[str]:
    """Every panel as an SVG element of the page; its ids begin with `prefix`, its colours follow the page's theme."""
    return [
        _element(_svg([panel], None, f"{prefix}-{number}"), f"{prefix}-{number}", panel.alt)
        for number, panel in enumerate(figure.panels)
    ]


def _svg(panels: list[Panel], figure: Figure | None, salt: str) -> str:
    with style.context(["default", STYLE, {"svg.hashsalt": salt}]):
        canvas = _compose(panels, figure)
        FigureCanvasSVG(canvas)
        stream = io.StringIO()
        canvas.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def _compose(panels: list[Panel], figure: Figure | None) -> Canvas:
    """The panels in rows, with the legend below them if the whole figure is given."""
    if not figure and panels[0].names:
        return _alone(panels[0])
    columns = min(figure.columns, len(panels)) if figure else 1
    rows = [panels[first : first + columns] for first in range(0, len(panels), columns)]
    widths = [max(row[place].width for row in rows if place < len(row)) for place in range(columns)]
    heights = [max(panel.height for panel in row) for row in rows]
    legend = figure.legend if figure else []
    per_row = max(1, min(len(legend), round(sum(widths) / 1.35)))
    below = LEGEND_HEIGHT * -(-len(legend) // per_row)
    canvas = Canvas(figsize=(sum(widths), sum(heights) + below), layout="constrained", facecolor=PAPER)
    grid = canvas.add_gridspec(len(rows), columns, width_ratios=widths, height_ratios=heights)
    for number, panel in enumerate(panels):
        axes = canvas.add_subplot(grid[number // columns, number % columns])
        panel.draw(axes)
        if figure and figure.shared_names and number % columns:
            axes.tick_params(labelleft=False)
    if legend:
        canvas.legend(
            handles=[_handle(mark) for mark in legend], loc="outside lower center", ncols=per_row, frameon=False
        )
    return canvas


def _alone(panel: Panel) -> Canvas:
    """One panel that states how much room its names have."""
    canvas = Canvas(figsize=(panel.width, panel.height), facecolor=PAPER)
    width, height = panel.width - panel.names - RIGHT, panel.height - BELOW - panel.above
    place = (panel.names / panel.width, BELOW / panel.height, width / panel.width, height / panel.height)
    panel.draw(canvas.add_axes(place))
    return canvas


def _handle(mark: Mark) -> matplotlib.lines.Line2D:
    if mark.filled is None:
        return matplotlib.lines.Line2D([], [], color=mark.colour, linestyle=mark.dash, linewidth=1.7, label=mark.label)
    face = mark.colour if mark.filled else PAPER
    return matplotlib.lines.Line2D(
        [], [], color=mark.colour, marker="o", markerfacecolor=face, markersize=4.5, linewidth=0, label=mark.label
    )


def _element(text: str, prefix: str, alt: str) -> str:
    """An SVG file as an element: without prologue, namespaces, style sheet and size, and with ids of its own."""
    element = text[text.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", element, flags=re.DOTALL)
    element = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", element).replace("xlink:href", "href")
    element = re.sub(r'\bid="', f'id="{prefix}-', element)
    element = element.replace('href="#', f'href="#{prefix}-').replace("url(#", f"url(#{prefix}-")
    element = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", element, count=1)
    element = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", element, count=1)
    for colour in THEME:
        element = element.replace(colour, css_colour(colour))
    return element.strip().replace("<svg", f'<svg role="img" aria-label="{html.escape(alt)}"', 1)
