r"""Tables written as Markdown and as LaTeX."""

from collections.abc import Sequence

from stages.report.tables import MINUS, MISSING, REFERENCE_MARK, SUPERSCRIPTS, Block, Cell, Table

LINE_WIDTH = 345.0  # points: \linewidth of the class article at 10 points
SEPARATION = 3.0  # points on each side of a column
SMALL, TINY = 4.5, 3.9  # points that a character of \footnotesize and of \scriptsize takes, at most on average
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


def to_markdown(table: Table) -> str:
    """Pipe tables between caption, footnotes and footer; where columns are grouped, headings carry the group's name."""
    notes = "".join(f"{note}<br>\n" for note in table.notes[:-1]) + "".join(f"{note}\n" for note in table.notes[-1:])
    footer = " ".join(table.footer)
    parts = [f"{table.caption}\n", *map(_markdown_block, table.blocks), notes, f"{footer}\n" if footer else ""]
    return "\n".join(part for part in parts if part)


def to_latex(table: Table, label: str) -> str:
    r"""A `table` environment for each block, for \input, which needs the package booktabs and nothing else.

    Notes of cells, such as intervals, stand beside their number, or below it where the block would be wider than
    `LINE_WIDTH`. Labels of blocks after the first end in their number.
    """
    environments = []
    for place, block in enumerate(table.blocks):
        lines = [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{escape(table.caption)}{' (Continued.)' if place else ''}}}",
            rf"  \label{{{label}{f'-{place + 1}' if place else ''}}}",
            r"  \par\smallskip",
            rf"  \footnotesize\setlength{{\tabcolsep}}{{{SEPARATION:g}pt}}",
            *_latex_block(block),
            *_below(table),
            r"\end{table}",
        ]
        environments.append("\n".join(lines) + "\n")
    return "\n".join(environments)


def escape(text: str) -> str:
    """Text for LaTeX: ASCII alone, lines may break after an underscore."""
    return text.translate(ESCAPES)


def _markdown_block(block: Block) -> str:
    groups = [title for title, width in block.spans for _ in range(width)] or [""] * len(block.headings)
    headings = [f"{group} {heading}".strip() for group, heading in zip(groups, block.headings, strict=True)]
    lines = [_pipes(headings), _pipes(["---", *["---:"] * (len(headings) - 1)])]
    for group in block.groups:
        if group.title:
            lines.append(_pipes([f"*{group.title}*", *[""] * (len(headings) - 1)]))
        lines.extend(_pipes([_markdown_cell(cell) for cell in row]) for row in group.rows)
    return "\n".join(lines) + "\n"


def _markdown_cell(cell: Cell) -> str:
    text = f"**{cell.text}**" if cell.bold else cell.text
    return f"{text} {cell.note}".strip()


def _pipes(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|").replace("<", "&lt;") for cell in cells) + " |"


def _below(table: Table) -> list[str]:
    """Footnotes and footer, in lines as wide as the text."""
    lines = [*table.notes, " ".join(table.footer)] if table.footer else table.notes
    if not lines:
        return []
    text = r"\\".join(escape(line) for line in lines)
    return [r"  \par\smallskip", rf"  \parbox{{\linewidth}}{{\scriptsize\raggedright {text}}}"]


def _latex_block(block: Block) -> list[str]:
    rows = [row for group in block.groups for row in group.rows]
    columns = len(block.headings)
    noted = [any(row[column].note for row in rows) for column in range(columns)]
    beside = _first_width(block) + _width(block, noted, beside=True) <= LINE_WIDTH
    pairs = [beside and note for note in noted]
    room = LINE_WIDTH - _width(block, noted, beside)
    first = "l" if _first_width(block) <= room else f"p{{{max(room - 2 * SEPARATION, 60):.0f}pt}}"
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


def _first_width(block: Block) -> float:
    texts = [block.headings[0], *(row[0].text for group in block.groups for row in group.rows)]
    return SMALL * max(map(len, texts)) + 2 * SEPARATION


def _width(block: Block, noted: list[bool], beside: bool) -> float:
    """Points that all columns but the first take, with notes beside their numbers or below them."""
    rows = [row for group in block.groups for row in group.rows]
    total = 0.0
    for column in range(1, len(block.headings)):
        text = SMALL * max((len(row[column].text) for row in rows), default=0)
        note = TINY * max((len(row[column].note) - 0.6 * _narrow(row[column].note) for row in rows), default=0)
        if noted[column]:
            text = text + note + 2 if beside else max(text, note)
        total += max(text, SMALL * len(block.headings[column])) + 2 * SEPARATION
    return total


def _narrow(text: str) -> int:
    """Characters that take less than half of what a digit takes."""
    return sum(text.count(character) for character in "[]., ")


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
