"""Tables written as comma-separated values: one heading row, one row for each row of the table, numbers alone."""

import re

import pandas as pd

from stages.report.tables.table import MARKS, MINUS, MISSING, REFERENCE_MARK, Block, Cell, Table

NO_NUMBER = (MISSING, REFERENCE_MARK)
NOTES = (  # beside a number; the names of the columns that they become
    re.compile(r"\[(?P<low>[^,]+), (?P<high>[^\]]+)\]"),
    re.compile(r"± (?P<std>\S+) \((?P<seeds>\d+)\)"),
    re.compile(r"\((?P<seeds>\d+)\)"),
)


def to_csv(table: Table) -> str:
    """Blocks that stand below each other for want of width are joined; what stands beside a number has columns."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for block in table.blocks:
        headings = _headings(block)
        for group in block.groups:
            for row in group.rows:
                key = (group.title, row[0].text)
                cells = rows.setdefault(key, {"group": group.title} if group.title else {})
                for heading, cell in zip(headings, row, strict=True):
                    cells |= _cells(heading, cell)
    return pd.DataFrame(rows.values()).to_csv(index=False, lineterminator="\n")


def _headings(block: Block) -> list[str]:
    """Each with the title of its span; unique, as a table of data needs it."""
    spans = [title for title, width in block.spans for _ in range(width)] or [""] * len(block.headings)
    found: list[str] = []
    for span, heading in zip(spans, block.headings, strict=True):
        name, earlier = f"{span} {heading}".strip(), found[-1] if found else ""
        found.append(f"{earlier} {name}" if name in found else name)
    return found


def _cells(heading: str, cell: Cell) -> dict[str, str]:
    text = cell.text.rstrip(MARKS)
    cells = {heading: "" if text in NO_NUMBER else text}
    for pattern in NOTES:
        if match := pattern.fullmatch(cell.note):
            cells |= {f"{heading} {name}": number for name, number in match.groupdict().items()}
    return {name: value.replace(MINUS, "-") for name, value in cells.items()}
