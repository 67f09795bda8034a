"""Tables written as HTML that needs no style sheet, for a page or a word processor."""

from collections.abc import Sequence
from html import escape

from stages.report.tables.table import Block, Cell, Table


def to_html(table: Table) -> str:
    """A `table` element for each block, between caption and footer."""
    notes = "".join(f"<p>{escape(line)}</p>\n" for line in [*table.notes, " ".join(table.footer)] if line)
    blocks = [_block(block, table.caption if place == 0 else "") for place, block in enumerate(table.blocks)]
    return "\n".join(blocks) + "\n" + notes


def _block(block: Block, caption: str) -> str:
    lines = ["<table>"]
    if caption:
        lines.append(f"<caption>{escape(caption)}</caption>")
    lines.append("<thead>")
    if block.spans:
        spans = [f'<th colspan="{width}" scope="colgroup">{escape(title)}</th>' for title, width in block.spans]
        lines.append(_row(spans))
    lines += [_row([f'<th scope="col">{escape(heading)}</th>' for heading in block.headings]), "</thead>"]
    for group in block.groups:
        lines.append("<tbody>")
        if group.title:
            title = f'<th colspan="{len(block.headings)}" scope="rowgroup">{escape(group.title)}</th>'
            lines.append(_row([title]))
        for first, *others in group.rows:
            numbers = [f"<td>{_cell(cell)}</td>" for cell in others]
            lines.append(_row([f'<th scope="row">{_cell(first)}</th>', *numbers]))
        lines.append("</tbody>")
    return "\n".join([*lines, "</table>"])


def _row(cells: Sequence[str]) -> str:
    return f"<tr>{''.join(cells)}</tr>"


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    text = f"<b>{text}</b>" if cell.bold else f"<u>{text}</u>" if cell.underlined else text
    return f"{text} <small>{escape(cell.note)}</small>" if cell.note else text
