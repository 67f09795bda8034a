"""What the report's figures have in common: their style, and how one becomes a file for a paper or a part of the page.

A figure is a list of panels. A file for a paper has them side by side; in the page each is an SVG element of its own,
so that a phone stacks them. The same panels give the same bytes: no dates, ids from a fixed salt.
"""

import html
import io
import re
from collections.abc import Callable
from dataclasses import dataclass, field

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas

INK, SOFT, RULE, PAPER = "#1b1b1a", "#5f5f5b", "#dcdcd8", "#fffffe"  # those of the page, which follow its theme
THEME = {INK: "--ink", SOFT: "--soft", RULE: "--rule", PAPER: "--paper"}
OKABE_ITO = [INK, "#e69f00", "#56b4e9", "#009e73", "#0072b2", "#d55e00", "#cc79a7"]
DASHES = ["solid", (0, (4, 2)), (0, (1, 1.5))]
CSS_DASHES = dict(zip(map(str, DASHES), ("solid", "dashed", "dotted"), strict=True))
LEGEND_HEIGHT = 0.27  # inches a row
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


@dataclass(frozen=True)
class Mark:
    """An entry of a legend: a line, or where `filled` is given a dot, filled or hollow."""

    label: str
    colour: str
    dash: object = "solid"
    filled: bool | None = None

    @property
    def css(self) -> dict[str, str]:
        """Label, colour and kind of the entry for the page."""
        kind = CSS_DASHES[str(self.dash)] if self.filled is None else "dot" if self.filled else "ring"
        return {"label": self.label, "colour": _css_colour(self.colour), "kind": kind}


@dataclass(frozen=True)
class Panel:
    """One coordinate system.

    Attributes:
        draw: draws on the axes it is given, labels and units included.
        alt: what it shows, for those who do not see it.
        width, height: inches.
        names: inches for names along the vertical axis, so that panels below each other in the page have the same
            scale; as many as they need where it is 0.
        above: inches for a title, where those for names are given.
    """

    draw: Callable[[Axes], None]
    alt: str
    width: float = 4.0
    height: float = 2.8
    names: float = 0.0
    above: float = 0.3


@dataclass(frozen=True)
class Figure:
    """A figure of one dataset.

    Attributes:
        key: short name, unique within the report of a dataset; its files are called after it.
        title: what it is about, in a few words.
        caption: what the axes and marks are, and what to see.
        panels: at least one.
        columns: how many panels stand side by side.
        legend: of all panels; empty where they need none.
        shared_names: whether the panels of a row have the same names along their vertical axis: in a file for a paper
            they stand at the first alone.
    """

    key: str
    title: str
    caption: str
    panels: list[Panel]
    columns: int = 2
    legend: list[Mark] = field(default_factory=list)
    shared_names: bool = False


def line_style(index: int) -> tuple[str, object]:
    """Colour (Okabe and Ito's, safe for colour-blind readers) and dash pattern of the variant at `index`."""
    return OKABE_ITO[index % len(OKABE_ITO)], DASHES[index // len(OKABE_ITO) % len(DASHES)]


def variant_marks(variants: list[str]) -> list[Mark]:
    """A legend of the lines of every variant, in the listed order."""
    return [Mark(variant, *line_style(index)) for index, variant in enumerate(variants)]


def svg(figure: Figure, salt: str) -> str:
    """The whole figure as an SVG file; `salt` makes its ids its own."""
    return _svg(figure.panels, figure, salt)


def pdf(figure: Figure) -> bytes:
    """The whole figure as a PDF file, its text kept as text."""
    with matplotlib.rc_context(STYLE):
        canvas = _compose(figure.panels, figure)
        FigureCanvasPdf(canvas)
        stream = io.BytesIO()
        canvas.savefig(stream, format="pdf", metadata={"Creator": None, "Producer": None, "CreationDate": None})
    return stream.getvalue()


def inline(figure: Figure, prefix: str) -> list[str]:
    """Every panel as an element of the page, its ids beginning with `prefix`, its colours those of the page's theme."""
    return [
        _element(_svg([panel], None, f"{prefix}-{number}"), f"{prefix}-{number}", panel.alt)
        for number, panel in enumerate(figure.panels)
    ]


def _css_colour(colour: str) -> str:
    return f"var({THEME[colour]})" if colour in THEME else colour


def _svg(panels: list[Panel], figure: Figure | None, salt: str) -> str:
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": salt}):
        canvas = _compose(panels, figure)
        FigureCanvasSVG(canvas)
        stream = io.StringIO()
        canvas.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def _compose(panels: list[Panel], figure: Figure | None) -> Canvas:
    """The panels in rows; with the legend below where a whole figure is given."""
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
    """One panel whose names have the room that it states."""
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
    """An SVG file as an element: no prologue, no namespaces, no style sheet, ids of its own, no size but its shape."""
    element = text[text.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", element, flags=re.DOTALL)
    element = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", element).replace("xlink:href", "href")
    element = re.sub(r'\bid="', f'id="{prefix}-', element)
    element = element.replace('href="#', f'href="#{prefix}-').replace("url(#", f"url(#{prefix}-")
    element = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", element, count=1)
    element = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", element, count=1)
    for colour in THEME:
        element = element.replace(colour, _css_colour(colour))
    return element.strip().replace("<svg", f'<svg role="img" aria-label="{html.escape(alt)}"', 1)
