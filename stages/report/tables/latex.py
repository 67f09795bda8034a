"""Tables written as LaTeX."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path

import matplotlib
from PIL import ImageFont

from stages.report.tables.table import (
    ARROW,
    CHECK,
    MARKS,
    MINUS,
    MISSING,
    REFERENCE_MARK,
    SUPERSCRIPTS,
    Block,
    Cell,
    Group,
    Table,
)

PAGE = 345.0  # points: \linewidth of the class article at 10 points, the narrowest page of one column
COLUMN = 229.0  # points: \columnwidth of the same with two columns
SEPARATION = 3.0  # points on each side of a column
SMALL = 4.3  # points that a digit of \footnotesize takes, and a little more
SIZES = {r"\scriptsize": 4.1, r"\tiny": 3.6}  # of notes -> the same of these
WRAPPED = 60.0  # points that a first column has at least
BOLD = 1.16  # how much wider bold text is
HEIGHT = 500.0  # points: \textheight of the same, less the space around a table and its rules
LARGE, LINES = 5.2, {"caption": 12.0, "row": 9.6, "note": 11.5, "footer": 8.0}  # digits of the text; heights, points
RAGGED = 1.15  # how much longer text is that does not fill its lines
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
    ARROW: r"$\rightarrow$",
    CHECK: r"\checkmark{}",
    '"': r"\textquotedbl{}",
    **{chr(superscript): rf"\textsuperscript{{{chr(digit)}}}" for digit, superscript in SUPERSCRIPTS.items()},
}
ESCAPES = str.maketrans(LATEX)
COMPUTER_MODERN = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "cmr10.ttf"
AS_WIDE_AS = str.maketrans(  # characters that LaTeX takes from other fonts: one of cmr10 that is not narrower
    {
        **dict.fromkeys(["<", ">", "≥", "±", MINUS], "+"),
        **dict.fromkeys(["\\", "{", "}", "~", "^", '"', REFERENCE_MARK, *MARKS], "0"),
        "Δ": "%",
        "_": "(",
        "|": "[",
        **dict.fromkeys([MISSING, ARROW, CHECK], "00"),
    }
)


def to_latex(table: Table, label: str, width: float = PAGE, comment: str = "") -> str:
    r"""An environment for each block, for \input, which needs the package booktabs and nothing else.

    Notes of cells, such as intervals, stand beside their number, or below it where the block would be wider than
    `width`, and there they are smaller where that is still too wide. A block that is wider all the same has its columns
    in several environments, and one that is higher than `HEIGHT` its groups. Labels after the first end in a number,
    captions after the first are its first sentence, and the footer stands below the last.

    Args:
        width: points, `PAGE` or `COLUMN`. A table as wide as the page is a `table*`, which spans both columns of a
            paper that has two, and is a `table` in others.
        comment: the first line of the file.
    """
    environment = "table" if width == COLUMN else "table*"
    room = HEIGHT - _height_around(table, width)
    blocks = [
        part for block in table.blocks for narrow in _narrowed(block, width) for part in _pages(narrow, width, room)
    ]
    lines = [f"% {comment}"] if comment else []
    if any(CHECK in str(cell) for block in blocks for group in block.groups for row in group.rows for cell in row):
        lines.append(r"\providecommand{\checkmark}{\ensuremath{\surd}}")
    continued = f"{table.caption.partition('. ')[0].rstrip('.')} (continued)."
    for place, block in enumerate(blocks):
        last = place == len(blocks) - 1
        lines += [
            rf"\begin{{{environment}}}",
            r"  \centering",
            rf"  \caption{{{escape(continued if place else table.caption)}}}",
            rf"  \label{{{label}{f'-{place + 1}' if place else ''}}}",
            r"  \par\smallskip",
            rf"  \footnotesize\frenchspacing\setlength{{\tabcolsep}}{{{SEPARATION:g}pt}}",
            *_latex_block(block, width),
            *_below([*table.notes, *([" ".join(table.footer)] if last and table.footer else [])]),
            rf"\end{{{environment}}}",
            *([] if last else [""]),
        ]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Text for LaTeX: ASCII alone, lines may break after an underscore."""
    return text.translate(ESCAPES)


def _below(lines: Sequence[str]) -> list[str]:
    """Footnotes and footer, in lines as wide as the text."""
    if not lines:
        return []
    text = r"\\".join(escape(line) for line in lines)
    return [r"  \par\smallskip", rf"  \parbox{{\linewidth}}{{\scriptsize\raggedright {text}}}"]


def _narrowed(block: Block, width: float) -> list[Block]:
    """The block, or several with its columns in turn, each after the first one, so that each is no wider than that.

    Columns below one title stay together where there is room.
    """
    if any(_fits(block, width, size) for size in SIZES):
        return [block]
    parts, columns = [], [0]
    for together in _units(block, width):
        if len(columns) > 1 and not _fits(_chosen(block, [*columns, *together]), width):
            parts.append(columns)
            columns = [0]
        columns = [*columns, *together]
    return [_chosen(block, part) for part in [*parts, columns]]


def _units(block: Block, width: float) -> list[list[int]]:
    """Columns that stand below one title, if they fit, or else one by one; all but the first column."""
    units, start = [], 0
    for title, number in block.spans or [("", len(block.headings))]:
        columns = [column for column in range(start, start + number) if column]
        keeps = title and _fits(_chosen(block, [0, *columns]), width)
        units += [columns] if keeps and columns else [[column] for column in columns]
        start += number
    return units


def _chosen(block: Block, columns: list[int]) -> Block:
    """The block with these columns alone."""
    titles = [(place, title) for place, (title, number) in enumerate(block.spans) for _ in range(number)]
    spans = [(title, len(list(same))) for (_, title), same in groupby(titles[column] for column in columns if titles)]
    groups = [Group(group.title, [[row[column] for column in columns] for row in group.rows]) for group in block.groups]
    return Block(spans if any(title for title, _ in spans) else [], [block.headings[c] for c in columns], groups)


def _fits(block: Block, width: float, size: str = r"\scriptsize") -> bool:
    """Whether it is no wider than that with notes of a size below their numbers."""
    first = min(_first_width(block), WRAPPED + 2 * SEPARATION)
    return first + _width(block, size, beside=False) <= width


def _pages(block: Block, width: float, room: float) -> list[Block]:
    """The block, or several with its groups in turn, so that each is no higher than the points that there are."""
    height = LINES["row"] if _layout(block, width).beside else LINES["row"] + LINES["note"]
    pages, taken = [[]], 0.0
    for group in block.groups:
        needed = LINES["row"] + height * len(group.rows)
        if pages[-1] and taken + needed > room:
            pages.append([])
            taken = 0.0
        pages[-1].append(group)
        taken += needed
    return [Block(block.spans, block.headings, groups) for groups in pages]


def _height_around(table: Table, width: float) -> float:
    """Points that caption and footer take."""
    caption = math.ceil(RAGGED * _points(table.caption, LARGE) / width)
    footer = sum(
        math.ceil(RAGGED * _points(line, SIZES[r"\scriptsize"]) / width)
        for line in [*table.notes, " ".join(table.footer)]
    )
    return LINES["caption"] * caption + LINES["footer"] * footer


@dataclass(frozen=True)
class _Layout:
    """How a block becomes columns.

    Attributes:
        beside: notes stand beside their numbers, in a column of their own, or below them.
        pairs: which columns are two.
        first: points that the first column has for its text, where that is too long for a line; else None.
        size: of notes.
    """

    beside: bool
    pairs: list[bool]
    first: int | None
    size: str


def _layout(block: Block, width: float) -> _Layout:
    noted, first = _noted(block), _first_width(block)
    size = next((size for size in SIZES if _fits(block, width, size)), r"\scriptsize")
    beside = first + _width(block, r"\scriptsize", beside=True) <= width
    room = width - _width(block, size, beside)
    wrapped = None if first <= room else int(max(room - 2 * SEPARATION, WRAPPED))
    return _Layout(beside, [beside and note for note in noted], wrapped, size)


def _noted(block: Block) -> list[bool]:
    """Which columns have notes beside their numbers."""
    rows = [row for group in block.groups for row in group.rows]
    return [any(row[column].note for row in rows) for column in range(len(block.headings))]


def _first_width(block: Block) -> float:
    """Points that the first column takes on one line."""
    texts = [block.headings[0], *(row[0].text for group in block.groups for row in group.rows)]
    return max(_points(text, SMALL) for text in texts) + 2 * SEPARATION


def _latex_block(block: Block, line_width: float) -> list[str]:
    layout = _layout(block, line_width)
    columns, pairs = len(block.headings), layout.pairs
    rows = [row for group in block.groups for row in group.rows]
    words = [all(row[column].value is None for row in rows) for column in range(columns)]
    kinds = (f"p{{{layout.first}pt}}" if layout.first else "l") + "".join(
        r"r@{\,}l" if pair else "c" if word else "r" for pair, word in zip(pairs[1:], words[1:], strict=True)
    )
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
            fits = _points(group.title, SMALL) + 2 * SEPARATION <= line_width
            kind = "l" if fits else rf"p{{{line_width - 2 * SEPARATION:.0f}pt}}"
            lines.append(rf"    \multicolumn{{{width}}}{{{kind}}}{{\emph{{{escape(group.title)}}}}} \\")
        for row in group.rows:
            lines.extend(_rows_beside(row, pairs) if layout.beside else _rows_below(row, layout))
    return [*lines, r"    \bottomrule", r"  \end{tabular}"]


def _rows_beside(row: list[Cell], pairs: list[bool]) -> list[str]:
    cells = []
    for cell, pair in zip(row, pairs, strict=True):
        cells.append(_text(cell))
        if pair:
            cells.append(_note(cell, r"\scriptsize"))
    return [_row(cells)]


def _rows_below(row: list[Cell], layout: _Layout) -> list[str]:
    texts = [_text(cell) for cell in row]
    if not any(cell.note for cell in row):
        return [_row(texts)]
    if layout.first and layout.first < _points(row[0].text, SMALL) <= 1.7 * layout.first:  # two lines, as numbers have
        texts[0] = rf"\smash{{\parbox[t]{{{layout.first}pt}}{{\raggedright {texts[0]}}}}}"
    return [f"{_row(texts)}[-1pt]", f"{_row([_note(cell, layout.size) for cell in row])}[3pt]"]


def _text(cell: Cell) -> str:
    text = escape(cell.text)
    if cell.latex:
        text = cell.latex + escape(cell.text[len(cell.text.rstrip(MARKS)) :])
    if cell.bold:
        return rf"\textbf{{{text}}}"
    return rf"\underline{{{text}}}" if cell.underlined else text


def _note(cell: Cell, size: str) -> str:
    return rf"{{{size} {escape(cell.note)}}}" if cell.note else ""


def _row(cells: Sequence[str]) -> str:
    return "    " + " & ".join(cells) + r" \\"


def _width(block: Block, size: str, beside: bool) -> float:
    """Points that all columns but the first take, with notes of a size beside their numbers or below them."""
    noted, rows = _noted(block), [row for group in block.groups for row in group.rows]
    total = 0.0
    for column in range(1, len(block.headings)):
        cells = [row[column] for row in rows]
        text = max((_points(cell.text, SMALL) * (BOLD if cell.bold else 1) for cell in cells), default=0)
        note = max((_points(cell.note, SIZES[size]) for cell in cells), default=0)
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
