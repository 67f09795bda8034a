"""What figures are made of: panels under a title, with a legend and a caption, and the colours of variants.

A figure is a list of panels. A file for a paper has them side by side; in the page each is an SVG element of its own,
so that a phone stacks them. `rendering` turns figures into both.
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
    """An entry of a legend: a line, or where `filled` is given a dot, filled or hollow."""

    label: str
    colour: str
    dash: object = "solid"
    filled: bool | None = None

    @property
    def css(self) -> dict[str, str]:
        """Label, colour and kind of the entry for the page."""
        kind = CSS_DASHES[str(self.dash)] if self.filled is None else "dot" if self.filled else "ring"
        return {"label": self.label, "colour": css_colour(self.colour), "kind": kind}


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


def css_colour(colour: str) -> str:
    return f"var({THEME[colour]})" if colour in THEME else colour
