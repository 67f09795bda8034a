"""What tables are made of: cells that are already text, and how a number becomes text."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import pandas as pd

MINUS = "\N{MINUS SIGN}"
REFERENCE_MARK = "\N{EN DASH}"
MISSING = "\N{EM DASH}"
CHECK, ARROW = "\N{CHECK MARK}", "\N{RIGHTWARDS ARROW}"
METRICS_ABREAST = 2  # of a block of columns, each metric with its difference
MARKS = "⁰¹²³⁴⁵⁶⁷⁸⁹"  # of footnotes
SUPERSCRIPTS = str.maketrans("0123456789", MARKS)


@dataclass(frozen=True)
class Cell:
    """The content of a cell; `str` gives all of it.

    Attributes:
        text: the number or the name, with the mark of its footnote.
        note: small text beside or below it, such as the interval.
        bold: whether the number stands out, as the table says: a difference that is supported, or the best of a column.
        value: what the cell sorts by; None where it has no number.
        underlined: whether it is the second best of a column.
        latex: the text as LaTeX; empty where it follows from the text.
    """

    text: str
    note: str = ""
    bold: bool = False
    value: float | None = None
    underlined: bool = False
    latex: str = ""

    def __str__(self) -> str:
        return f"{self.text} {self.note}".strip()


@dataclass(frozen=True)
class Group:
    """Rows under a common title, which is empty where the table has a single group."""

    title: str
    rows: list[list[Cell]]


@dataclass(frozen=True)
class Block:
    """Rows and columns of cells; the first column names what the row is about.

    Attributes:
        spans: (title, number of columns) above the headings, from left to right; empty for none.
        headings: one for each column.
        groups: the body.
    """

    spans: list[tuple[str, int]]
    headings: list[str]
    groups: list[Group]


@dataclass(frozen=True)
class Table:
    """Blocks below each other, between a caption and a footer.

    Attributes:
        key: short name, unique within the report of a dataset.
        caption: what the numbers are, and on what.
        blocks: more than one where there are too many columns to stand side by side.
        notes: footnotes, each after its mark: what a dash stands for, which seeds are missing.
        footer: sentences: seeds, protocol, the meaning of brackets and bold.
    """

    key: str
    caption: str
    blocks: list[Block]
    notes: list[str] = field(default_factory=list)
    footer: list[str] = field(default_factory=list)


class Notes:
    """Collects footnotes in the order in which they are first referred to."""

    def __init__(self):
        self._texts: list[str] = []

    def mark(self, text: str) -> str:
        """The mark of a footnote; the same text has the same mark."""
        if text not in self._texts:
            self._texts.append(text)
        return _superscript(self._texts.index(text) + 1)

    @property
    def lines(self) -> list[str]:
        return [f"{_superscript(number)} {text}" for number, text in enumerate(self._texts, start=1)]


def percent(value: float, digits: int = 1) -> str:
    """A fraction as percent, with one decimal or as many as asked for."""
    return f"{100 * value:.{digits}f}"


def signed(value: float) -> str:
    """A difference of fractions in percentage points, with its sign unless it rounds to zero."""
    points = percent(abs(value))
    sign = "" if float(points) == 0 else "+" if value > 0 else MINUS
    return sign + points


def interval(low: float, high: float, digits: int = 1) -> str:
    """An interval of fractions in percent: `[3.0, 8.2]`; empty where there is none."""
    if math.isnan(low) or math.isnan(high):
        return ""
    return f"[{points(low, digits)}, {points(high, digits)}]"


def probability(p: float) -> str:
    """A p-value with three decimals; `<0.001` below that."""
    return "<0.001" if p < 0.0005 else f"{p:.3f}"


def number_cell(
    value: float, write: Callable[[float], str], notes: Notes, why: str, note: str = "", bold: bool = False
) -> Cell:
    """A number; a dash with a footnote that says why where there is none."""
    if pd.isna(value):
        return Cell(MISSING + notes.mark(why or "Not computed."))
    return Cell(write(value), note, bold, float(value))


def percent_cell(value: float, note: str = "") -> Cell:
    """A fraction as percent; a dash where there is none."""
    return Cell(MISSING) if pd.isna(value) else Cell(percent(value), note, value=float(value))


def _superscript(number: int) -> str:
    return str(number).translate(SUPERSCRIPTS)


def points(value: float, digits: int) -> str:
    """A fraction in percentage points, with its sign where it is below zero."""
    text = percent(abs(value), digits)
    return text if value >= 0 or float(text) == 0 else MINUS + text


def cut(items: list[str], first: int, later: int | None = None) -> list[list[str]]:
    """The items in lists: the first of at most `first` items, the others of at most `later`, or else of `first` too."""
    parts = [items[:first]] if items else []
    step = later or first
    return parts + [items[at : at + step] for at in range(first, len(items), step)]
