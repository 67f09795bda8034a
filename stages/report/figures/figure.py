"""What figures are made of: panels with a title, a legend and a caption; and the colours of the variants.

A file for a paper shows the panels of a figure side by side. In the page each panel is an SVG element of its own, so
that a phone shows them below each other. `rendering` makes both.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from matplotlib.axes import Axes

INK, SOFT, RULE, PAPER = "#1b1b1a", "#5f5f5b", "#dcdcd8", "#fffffe"  # those of the page, which follow its theme
THEME = {INK: "--ink", SOFT: "--soft", RULE: "--rule", PAPER: "--paper"}
OKABE_ITO = [INK, "#e69f00", "#56b4e9", "#009e73", "#0072b2", "#d55e00", "#cc79a7"]
DASHES = ["solid", (0, (4, 2)), (0, (1, 1.5))]
CSS_DASHES = dict(zip(map(str, DASHES), ("solid", "dashed", "dotted"), strict=True))


@dataclass(frozen=True)
class Mark:
    """An entry of a legend: a line, or a dot that is filled or hollow where `filled` says so."""

    label: str
    colour: str
    dash: object = "solid"
    filled: bool | None = None

    @property
    def css(self) -> dict[str, str]:
        """Label, colour and kind of the entry, for the page."""
        kind = CSS_DASHES[str(self.dash)] if self.filled is None else "dot" if self.filled else "ring"
        return {"label": self.label, "colour": css_colour(self.colour), "kind": kind}


@dataclass(frozen=True)
class Panel:
    """One coordinate system.

    Attributes:
        draw: draws on the given axes, with labels and units.
        alt: what it shows, for those who do not see it.
        width, height: inches.
        names: inches for names along the vertical axis, so that panels below each other have the same scale; 0 for
            as many as the names need.
        above: inches for a title; used where `names` is given.
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
        key: short name, unique within the report of a dataset; part of the names of its files.
        title: what it is about, in a few words.
        caption: what axes and marks mean, and what to look for.
        panels: at least one.
        columns: how many panels stand side by side.
        legend: of all panels together; empty where they need none.
        shared_names: whether the panels of a row have the same names along their vertical axis, so that a file for a
            paper shows them at the first panel alone.
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


def css_colour(colour: str) -> str:
    return f"var({THEME[colour]})" if colour in THEME else colour
