"""Tables written as LaTeX."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib
from PIL import ImageFont

from stages.report.tables.table import MINUS, MISSING, REFERENCE_MARK, SUPERSCRIPTS, Block, Cell, Table

LINE_WIDTH = 345.0  # points: \linewidth of the class article at 10 points
SEPARATION = 3.0  # points on each side of a column
SMALL, TINY = 4.3, 4.1  # points that a digit of \footnotesize and of \scriptsize takes, and a little more
BOLD = 1.16  # how much wider bold text is
LINES = 40  # of a table that fits a page with caption and footer
LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_\allowbreak{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    MINUS: r"$-$",
    "Δ": r"$\Delta$",
    REFERENCE_MARK: "--",
    MISSING: "---",
    "≥": r"$\geq$",
    ">": r"$>$",
    "<": r"$<$",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    **{chr(superscript): rf"\textsuperscript{{{chr(digit)}}}" for digit, superscript in SUPERSCRIPTS.items()},
}
ESCAPES = str.maketrans(LATEX)
COMPUTER_MODERN = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "cmr10.ttf"
AS_WIDE_AS = str.maketrans(  # characters that LaTeX takes from other fonts: one of cmr10 that is not narrower
    {
        **dict.fromkeys(["<", ">", "≥", "±", MINUS], "+"),
        **dict.fromkeys(["\\", "{", "}", "~", "^", '"', REFERENCE_MARK, *map(chr, SUPERSCRIPTS.values())], "0"),
        "Δ": "%",
        "_": "(",
        "|": "[",
        MISSING: "00",
    }
)


def to_latex(table: Table, label: str) -> str:
    r"""A `table` environment for each block, for \input, which needs the package booktabs and nothing else.

    Notes of cells, such as intervals, stand beside their number, or below it where the block would be wider than
    `LINE_WIDTH`. A block of more than `LINES` lines is several environments. Labels after the first end in a number.
    """
    environments = []
    for place, block in enumerate(page for whole in table.blocks for page in _pages(whole)):
        lines = [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{escape(table.caption)}{' (Continued.)' if place else ''}}}",
            rf"  \label{{{label}{f'-{place + 1}' if place else ''}}}",
            r"  \par\smallskip",
            rf"  \footnotesize\frenchspacing\setlength{{\tabcolsep}}{{{SEPARATION:g}pt}}",
            *_latex_block(block),
            *_below(table),
            r"\end{table}",
        ]
        environments.append("\n".join(lines) + "\n")
    return "\n".join(environments)


def escape(text: str) -> str:
    """Text for LaTeX: ASCII alone, lines may break after an underscore."""
    return text.translate(ESCAPES)


def _below(table: Table) -> list[str]:
    """Footnotes and footer, in lines as wide as the text."""
    lines = [*table.notes, " ".join(table.footer)] if table.footer else table.notes
    if not lines:
        return []
    text = r"\\".join(escape(line) for line in lines)
    return [r"  \par\smallskip", rf"  \parbox{{\linewidth}}{{\scriptsize\raggedright {text}}}"]


def _pages(block: Block) -> list[Block]:
    """The block, or several with its groups in turn, so that each fits a page."""
    height = 1 if _layout(block).beside else 2
    pages, lines = [[]], 0
    for group in block.groups:
        needed = 1 + height * len(group.rows)
        if pages[-1] and lines + needed > LINES:
            pages.append([])
            lines = 0
        pages[-1].append(group)
        lines += needed
    return [Block(block.spans, block.headings, groups) for groups in pages]


@dataclass(frozen=True)
class _Layout:
    """How a block becomes columns.

    Attributes:
        beside: notes stand beside their numbers, in a column of their own, or below them.
        pairs: which columns are two.
        first: the first column's kind.
    """

    beside: bool
    pairs: list[bool]
    first: str


def _layout(block: Block) -> _Layout:
    rows = [row for group in block.groups for row in group.rows]
    noted = [any(row[column].note for row in rows) for column in range(len(block.headings))]
    texts = [block.headings[0], *(row[0].text for row in rows)]
    first = max(_points(text, SMALL) for text in texts) + 2 * SEPARATION
    beside = first + _width(block, noted, beside=True) <= LINE_WIDTH
    room = LINE_WIDTH - _width(block, noted, beside)
    kind = "l" if first <= room else f"p{{{max(room - 2 * SEPARATION, 60):.0f}pt}}"
    return _Layout(beside, [beside and note for note in noted], kind)


def _latex_block(block: Block) -> list[str]:
    layout = _layout(block)
    columns, pairs, beside, first = len(block.headings), layout.pairs, layout.beside, layout.first
    kinds = first + "".join(r"r@{\,}l" if pair else "r" for pair in pairs[1:])
    lines = [rf"  \begin{{tabular}}{{{kinds}}}", r"    \toprule"]
    if block.spans:
        spans = _real_spans(block.spans, pairs)
        lines.append("    " + " & ".join(_latex_span(title, width) for title, width in spans) + r" \\")
        lines.append("    " + " ".join(_latex_rules(spans)))
    headings = [escape(block.headings[0])]
    for heading, pair in zip(block.headings[1:], pairs[1:], strict=True):
        headings.append(rf"\multicolumn{{2}}{{c}}{{{escape(heading)}}}" if pair else escape(heading))
    lines.append(_row(headings))
    width = columns + sum(pairs)
    for group in block.groups:
        lines.append(r"    \midrule")
        if group.title:
            lines.append(rf"    \multicolumn{{{width}}}{{l}}{{\emph{{{escape(group.title)}}}}} \\")
        for row in group.rows:
            lines.extend(_rows_beside(row, pairs) if beside else _rows_below(row))
    return [*lines, r"    \bottomrule", r"  \end{tabular}"]


def _rows_beside(row: list[Cell], pairs: list[bool]) -> list[str]:
    cells = []
    for cell, pair in zip(row, pairs, strict=True):
        cells.append(_text(cell))
        if pair:
            cells.append(_note(cell))
    return [_row(cells)]


def _rows_below(row: list[Cell]) -> list[str]:
    lines = [_row([_text(cell) for cell in row])]
    if any(cell.note for cell in row):
        lines[0] = lines[0].removesuffix(r" \\") + r" \\[-1pt]"
        lines.append(_row([_note(cell) for cell in row]) + "[1pt]")
    return lines


def _text(cell: Cell) -> str:
    return rf"\textbf{{{escape(cell.text)}}}" if cell.bold else escape(cell.text)


def _note(cell: Cell) -> str:
    return rf"{{\scriptsize {escape(cell.note)}}}" if cell.note else ""


def _row(cells: Sequence[str]) -> str:
    return "    " + " & ".join(cells) + r" \\"


def _width(block: Block, noted: list[bool], beside: bool) -> float:
    """Points that all columns but the first take, with notes beside their numbers or below them."""
    rows = [row for group in block.groups for row in group.rows]
    total = 0.0
    for column in range(1, len(block.headings)):
        cells = [row[column] for row in rows]
        text = max((_points(cell.text, SMALL) * (BOLD if cell.bold else 1) for cell in cells), default=0)
        note = max((_points(cell.note, TINY) for cell in cells), default=0)
        if noted[column]:
            text = text + note + 2 if beside else max(text, note)
        total += max(text, _points(block.headings[column], SMALL)) + 2 * SEPARATION
    return total


def _points(text: str, digit: float) -> float:
    """How wide a text is where a digit is `digit` wide, in the proportions of Computer Modern at 10 points."""
    font = _computer_modern()
    return digit * font.getlength(text.translate(AS_WIDE_AS)) / font.getlength("0")


@cache
def _computer_modern() -> ImageFont.FreeTypeFont:
    """LaTeX's usual font, as matplotlib ships it; large, as widths are whole pixels."""
    return ImageFont.truetype(COMPUTER_MODERN, 1000, layout_engine=ImageFont.Layout.BASIC)


def _real_spans(spans: list[tuple[str, int]], pairs: list[bool]) -> list[tuple[str, int]]:
    """The spans in columns of LaTeX, of which a number with its note has two."""
    real, first = [], 0
    for title, width in spans:
        real.append((title, width + sum(pairs[first : first + width])))
        first += width
    return real


def _latex_span(title: str, columns: int) -> str:
    return rf"\multicolumn{{{columns}}}{{c}}{{{escape(title)}}}" if title else " & ".join([""] * columns)


def _latex_rules(spans: list[tuple[str, int]]) -> list[str]:
    rules, first = [], 1
    for title, columns in spans:
        if title:
            rules.append(rf"\cmidrule(lr){{{first}-{first + columns - 1}}}")
        first += columns
    return rules
