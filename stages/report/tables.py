"""The comparison as tables: one set of rounded numbers, written as Markdown, CSV, LaTeX and for the page."""

import math
from dataclasses import dataclass

import pandas as pd

from stages import layout
from stages.evaluate.metrics import METRICS
from stages.prepared import set_of
from stages.report.inputs import DatasetResults

COMMAND = "dvc repro report"
MINUS = "\N{MINUS SIGN}"
REFERENCE_MARK = "\N{EN DASH}"
SPLITS_ABREAST = 3
CAPTION_WARNINGS = 3
LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        MINUS: r"$-$",
        "Δ": r"$\Delta$",
        REFERENCE_MARK: "--",
        "≥": r"$\geq$",
        ">": r"$>$",
        "<": r"$<$",
        "|": r"\textbar{}",
    }
)


@dataclass(frozen=True)
class Group:
    """Rows under a common title, which is empty where the table has a single group."""

    title: str
    rows: list[list[str]]


@dataclass(frozen=True)
class Block:
    """Rows and columns of cells that are already text; the first column names the variant.

    Attributes:
        spans: (title, number of columns) above the headings, from left to right; empty for none.
        headings: one a column.
        groups: the body.
    """

    spans: list[tuple[str, int]]
    headings: list[str]
    groups: list[Group]


@dataclass(frozen=True)
class Table:
    """Blocks one below the other, under one caption.

    Attributes:
        key: short name, unique within the report of a dataset.
        caption: what the numbers are, on what, and the command that makes them again.
        blocks: where columns are too many to stand side by side, more than one.
    """

    key: str
    caption: str
    blocks: list[Block]


def percent(value: float) -> str:
    """A fraction as percent with one decimal."""
    return f"{100 * value:.1f}"


def signed(value: float) -> str:
    """A difference of fractions in percentage points, with its sign unless it rounds to zero."""
    points = percent(abs(value))
    sign = "" if float(points) == 0 else "+" if value > 0 else MINUS
    return sign + points


def with_spread(mean: float, std: float) -> str:
    """Mean ± standard deviation in percent; the mean alone where there is no standard deviation."""
    return percent(mean) if math.isnan(std) else f"{percent(mean)} ± {percent(std)}"


def data_warning(results: DatasetResults) -> str:
    """What the warnings of the data come to, without a full stop; empty where there are none."""
    if results.partial:
        return "Partial data, not comparable with published results"
    return "Warning about the data" if results.warnings else ""


def main_table(results: DatasetResults) -> Table:
    """Variant x split: the metrics that the protocol headlines, the first with its difference to the reference."""
    first, *others = results.protocol.headline
    metrics = [first, "difference", *others]
    return Table(
        key="main",
        caption=_caption(results, "Variants compared", results.splits),
        blocks=[_block_of_splits(results, splits, metrics) for splits in _side_by_side(results.splits)],
    )


def full_tables(results: DatasetResults) -> list[Table]:
    """Every metric, rows grouped by split; a table for each of the sets that are mixed."""
    first = results.protocol.headline[0]
    metrics = [first, "difference", *(metric for metric in _in_order(results) if metric != first)]
    bound = ">" if results.protocol.strict else "≥"
    return [
        Table(
            key=f"full-{name}".rstrip("-"),
            caption=_caption(results, "Every metric", splits) + f" Pr@X: share of expressions with IoU {bound} X.",
            blocks=[_block_of_groups(results, splits, metrics)],
        )
        for name, splits in _by_set(results.splits).items()
    ]


def to_markdown(table: Table) -> str:
    """Pipe tables under their caption; where columns are grouped, headings carry the group's name."""
    return "\n".join([f"{table.caption}\n", *map(_markdown_block, table.blocks)])


def to_latex(table: Table, label: str) -> str:
    r"""A `table` environment for \input, which needs the package booktabs and nothing else."""
    lines = [
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{_latex(table.caption)}}}",
        rf"  \label{{{label}}}",
        r"  \small\setlength{\tabcolsep}{4pt}",
    ]
    for place, block in enumerate(table.blocks):
        if place > 0:
            lines.append(r"  \par\medskip")
        lines.extend(_latex_block(block))
    lines.append(r"\end{table}")
    return "\n".join(lines) + "\n"


def to_csv(results: DatasetResults) -> str:
    """One row a split and variant; percent rounded as in the other tables, standard deviations in their own columns."""
    rows = [
        {
            "dataset": results.name,
            "protocol": results.protocol.name,
            "partial": results.partial,
            "split": split,
            "expressions": results.counts[split],
            "variant": variant,
            "seeds": len(results.seeds),
            **{
                key: value
                for metric in _in_order(results)
                for key, value in _csv_cells(results, variant, split, metric).items()
            },
        }
        for split in results.splits
        for variant in results.variants
    ]
    return pd.DataFrame(rows).to_csv(index=False, lineterminator="\n")


def _in_order(results: DatasetResults) -> list[str]:
    """Every metric, those that the protocol headlines first."""
    return list(dict.fromkeys([*results.protocol.headline, "mIoU", *METRICS]))


def _by_set(splits: list[str]) -> dict[str, list[str]]:
    """Splits by the set that they are named after; the name is empty where the dataset is a single set."""
    sets: dict[str, list[str]] = {}
    for split in splits:
        sets.setdefault(set_of(split), []).append(split)
    return sets


def _side_by_side(splits: list[str]) -> list[list[str]]:
    """Splits in rows of at most `SPLITS_ABREAST`, each of one set."""
    return [
        of_set[first : first + SPLITS_ABREAST]
        for of_set in _by_set(splits).values()
        for first in range(0, len(of_set), SPLITS_ABREAST)
    ]


def _block_of_splits(results: DatasetResults, splits: list[str], metrics: list[str]) -> Block:
    columns = [(split, metric) for split in splits for metric in metrics]
    rows = [[variant, *(_cell(results, variant, *column) for column in columns)] for variant in results.variants]
    return Block(
        spans=[("", 1), *((split, len(metrics)) for split in splits)],
        headings=["variant", *(_heading(results, metric) for _, metric in columns)],
        groups=[Group("", rows)],
    )


def _block_of_groups(results: DatasetResults, splits: list[str], metrics: list[str]) -> Block:
    return Block(
        spans=[],
        headings=["variant", *(_heading(results, metric) for metric in metrics)],
        groups=[
            Group(
                f"{split}, {results.counts[split]:,} expressions",
                [
                    [variant, *(_cell(results, variant, split, metric) for metric in metrics)]
                    for variant in results.variants
                ],
            )
            for split in splits
        ],
    )


def _caption(results: DatasetResults, title: str, splits: list[str]) -> str:
    seeds = len(results.seeds)
    numbers = (
        f"Percent, mean ± standard deviation over {seeds} seeds (the spread of training alone, not of the data)."
        if seeds > 1
        else "Percent, one seed: no spread is known."
    )
    counts = ", ".join(f"{split} {results.counts[split]:,}" for split in splits)
    sentences = [
        f"{title} on {results.name}.",
        *_caption_warnings(results),
        numbers,
        f"Δ: {results.protocol.headline[0]} minus that of {results.reference}, taken before rounding.",
        f"Protocol {results.protocol.name}.",
        f"Expressions: {counts}.",
        f"Made by: {COMMAND}.",
    ]
    return " ".join(sentences)


def _caption_warnings(results: DatasetResults) -> list[str]:
    """One sentence with every warning, or with the first ones and where the others stand; none without a warning."""
    warnings = [warning.removesuffix(".") for warning in results.warnings]
    if len(warnings) > CAPTION_WARNINGS:
        others = len(warnings) - CAPTION_WARNINGS
        warnings = [*warnings[:CAPTION_WARNINGS], f"{others} more in {layout.prepared(results.name)}/dataset.json"]
    text = ": ".join(part for part in (data_warning(results), "; ".join(warnings)) if part)
    return [f"{text}."] if text else []


def _heading(results: DatasetResults, metric: str) -> str:
    return f"Δ {results.protocol.headline[0]}" if metric == "difference" else metric


def _cell(results: DatasetResults, variant: str, split: str, metric: str) -> str:
    if metric == "difference":
        row = results.comparison.loc[(variant, split, results.protocol.headline[0])]
        return REFERENCE_MARK if variant == results.reference else signed(row["difference"])
    row = results.comparison.loc[(variant, split, metric)]
    return with_spread(row["mean"], row["std"])


def _csv_cells(results: DatasetResults, variant: str, split: str, metric: str) -> dict[str, str]:
    row = results.comparison.loc[(variant, split, metric)]
    return {
        metric: percent(row["mean"]),
        f"{metric} std": "" if math.isnan(row["std"]) else percent(row["std"]),
        f"{metric} difference": signed(row["difference"]).replace(MINUS, "-").removeprefix("+"),
    }


def _markdown_block(block: Block) -> str:
    groups = [title for title, width in block.spans for _ in range(width)] or [""] * len(block.headings)
    headings = [f"{group} {heading}".strip() for group, heading in zip(groups, block.headings, strict=True)]
    lines = [_pipes(headings), _pipes(["---", *["---:"] * (len(headings) - 1)])]
    for group in block.groups:
        if group.title:
            lines.append(_pipes([f"*{group.title}*", *[""] * (len(headings) - 1)]))
        lines.extend(_pipes(row) for row in group.rows)
    return "\n".join(lines) + "\n"


def _pipes(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _latex(text: str) -> str:
    return text.translate(LATEX)


def _latex_block(block: Block) -> list[str]:
    width = len(block.headings)
    lines = [rf"  \begin{{tabular}}{{l{'r' * (width - 1)}}}", r"    \toprule"]
    if block.spans:
        lines.append("    " + " & ".join(_latex_span(title, columns) for title, columns in block.spans) + r" \\")
        lines.append("    " + " ".join(_latex_rules(block.spans)))
    lines.append(_latex_row(block.headings))
    for group in block.groups:
        lines.append(r"    \midrule")
        if group.title:
            lines.append(rf"    \multicolumn{{{width}}}{{l}}{{\emph{{{_latex(group.title)}}}}} \\")
        lines.extend(_latex_row(row) for row in group.rows)
    return [*lines, r"    \bottomrule", r"  \end{tabular}"]


def _latex_row(cells: list[str]) -> str:
    return "    " + " & ".join(_latex(cell) for cell in cells) + r" \\"


def _latex_span(title: str, columns: int) -> str:
    return rf"\multicolumn{{{columns}}}{{c}}{{{_latex(title)}}}" if title else " & ".join([""] * columns)


def _latex_rules(spans: list[tuple[str, int]]) -> list[str]:
    rules, first = [], 1
    for title, columns in spans:
        if title:
            rules.append(rf"\cmidrule(lr){{{first}-{first + columns - 1}}}")
        first += columns
    return rules
