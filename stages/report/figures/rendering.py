"""How a figure becomes a file for a paper, or a part of the page.

The same panels give the same bytes: there is no date in them, ids are made from a fixed salt, and a user's own style
(`matplotlibrc`) does not count.
"""

import html
import io
import re
from contextlib import AbstractContextManager

import matplotlib
from matplotlib import style
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas
from matplotlib.layout_engine import ConstrainedLayoutEngine

from stages.report.figures.figure import INK, PAPER, RULE, THEME, Figure, Mark, Panel, css_colour

LEGEND_HEIGHT = 0.27  # inches of a row
RIGHT, BELOW = 0.14, 0.53  # inches beside and below the axes of a panel that states the width of its names
STEP = 2.0**-32  # of positions, in shares of the figure; exact positions lie on such steps, not halfway between two
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


def files(figure: Figure, salt: str) -> tuple[bytes, bytes]:
    """The whole figure as an SVG file, whose ids depend on `salt`, and as a PDF file in which text stays text."""
    with _style(salt):
        canvas = _compose(figure.panels, figure)
        FigureCanvasSVG(canvas)
        _lay_out(canvas)
        as_svg = _svg(canvas).encode()
        FigureCanvasPdf(canvas)
        _lay_out(canvas)
        stream = io.BytesIO()
        canvas.savefig(stream, format="pdf", metadata={"Creator": None, "Producer": None, "CreationDate": None})
    return as_svg, stream.getvalue()


def inline(figure: Figure, prefix: str) -> list[str]:
    """Every panel as an SVG element of the page; its ids begin with `prefix`, its colours follow the page's theme."""
    return [_element(panel, f"{prefix}-{number}") for number, panel in enumerate(figure.panels)]


def _style(salt: str) -> AbstractContextManager[None]:
    return style.context(["default", STYLE, {"svg.hashsalt": salt}])


def _lay_out(canvas: Canvas) -> None:
    """Make room for the texts, whose widths depend on the format. A canvas that does it itself draws everything twice.

    Every axes starts from where it was composed: what an earlier layout made of it must not count. The last bits of the
    positions differ from process to process, and ids are made of positions, so they are rounded.
    """
    for axes in canvas.axes:
        axes.set_subplotspec(axes.get_subplotspec())
        axes.set_in_layout(True)
    ConstrainedLayoutEngine().execute(canvas)
    for axes in canvas.axes:
        axes.set_position([round(edge / STEP) * STEP for edge in axes.get_position().bounds])


def _svg(canvas: Canvas) -> str:
    stream = io.StringIO()
    canvas.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def _compose(panels: list[Panel], figure: Figure | None = None) -> Canvas:
    """The panels in rows, with the legend below them if the whole figure is given."""
    columns = min(figure.columns, len(panels)) if figure else 1
    rows = [panels[first : first + columns] for first in range(0, len(panels), columns)]
    widths = [max(row[place].width for row in rows if place < len(row)) for place in range(columns)]
    heights = [max(panel.height for panel in row) for row in rows]
    legend = figure.legend if figure else []
    per_row = max(1, min(len(legend), round(sum(widths) / 1.35)))
    below = LEGEND_HEIGHT * -(-len(legend) // per_row)
    canvas = Canvas(figsize=(sum(widths), sum(heights) + below), facecolor=PAPER)
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


def _element(panel: Panel, prefix: str) -> str:
    """A panel as an SVG file without prologue, namespaces, style sheet and size, and with ids of its own.

    The page names the fonts, and shows nothing smaller than a hundredth of a point: both are left out, as are ids that
    nothing refers to. That is a third of its length.
    """
    with _style(prefix):
        canvas = _alone(panel) if panel.names else _compose([panel])
        FigureCanvasSVG(canvas)
        if not panel.names:
            _lay_out(canvas)
        text = _svg(canvas)
    element = text[text.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", element, flags=re.DOTALL)
    element = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", element).replace("xlink:href", "href")
    element = re.sub(r"font-family: [^;\"]*; ", "", element)
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', element))
    element = re.sub(r'\sid="([^"]*)"', lambda found: found[0] if found[1] in used else "", element)
    element = re.sub(r"<[^>]*>", lambda tag: re.sub(r"-?\d+\.\d{3,}", _rounded, tag[0]), element)
    element = re.sub(r">\s+<", "><", re.sub(r"\s*\n\s*", " ", element))
    element = re.sub(r'\bid="', f'id="{prefix}-', element)
    element = element.replace('href="#', f'href="#{prefix}-').replace("url(#", f"url(#{prefix}-")
    element = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", element, count=1)
    element = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", element, count=1)
    for colour in THEME:
        element = element.replace(colour, css_colour(colour))
    return element.strip().replace("<svg", f'<svg role="img" aria-label="{html.escape(panel.alt)}"', 1)


def _rounded(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")
