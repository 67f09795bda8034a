"""Tables written as Markdown."""

from collections.abc import Sequence

from stages.report.tables.table import Block, Cell, Table


def to_markdown(table: Table) -> str:
    """Pipe tables between caption, footnotes and footer; where columns are grouped, headings carry the group's name."""
    notes = "".join(f"{note}<br>\n" for note in table.notes[:-1]) + "".join(f"{note}\n" for note in table.notes[-1:])
    footer = " ".join(table.footer)
    parts = [f"{table.caption}\n", *map(_block, table.blocks), notes, f"{footer}\n" if footer else ""]
    return "\n".join(part for part in parts if part)


def _block(block: Block) -> str:
    groups = [title for title, width in block.spans for _ in range(width)] or [""] * len(block.headings)
    headings = [_escaped(f"{group} {heading}".strip()) for group, heading in zip(groups, block.headings, strict=True)]
    lines = [_pipes(headings), _pipes(["---", *["---:"] * (len(headings) - 1)])]
    for group in block.groups:
        if group.title:
            lines.append(_pipes([f"*{_escaped(group.title)}*", *[""] * (len(headings) - 1)]))
        lines.extend(_pipes([_cell(cell) for cell in row]) for row in group.rows)
    return "\n".join(lines) + "\n"


def _cell(cell: Cell) -> str:
    text = _escaped(cell.text)
    text = f"**{text}**" if cell.bold else f"<u>{text}</u>" if cell.underlined else text
    return f"{text} {_escaped(cell.note)}".strip()


def _pipes(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    return text.replace("|", r"\|").replace("<", "&lt;")
