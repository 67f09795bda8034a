"""The comparison as tables: one set of rounded numbers, written as Markdown, CSV, LaTeX and for the page."""

import math
from dataclasses import dataclass

import pandas as pd

from stages.evaluate.metrics import METRICS
from stages.report.inputs import DatasetResults

COMMAND = "dvc repro report"
MINUS = "\N{MINUS SIGN}"
REFERENCE_MARK = "\N{EN DASH}"
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
    }
)


@dataclass(frozen=True)
class Group:
    """Rows under a common title, which is empty where the table has a single group."""

    title: str
    rows: list[list[str]]


@dataclass(frozen=True)
class Table:
    """A table of cells that are already text; the first column names the variant.

    Attributes:
        key: short name, unique within the report of a dataset.
        caption: what the numbers are, on what, and the command that makes them again.
        spans: (title, number of columns) above the headings, from left to right; empty for none.
        headings: one a column.
        groups: the body.
    """

    key: str
    caption: str
    spans: list[tuple[str, int]]
    headings: list[str]
    groups: list[Group]


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


def main_table(results: DatasetResults) -> Table:
    """Variant x split: mIoU, its difference to the reference, and oIoU."""
    metrics = ["mIoU", "difference", "oIoU"]
    return Table(
        key="main",
        caption=_caption(results, "Variants compared"),
        spans=[("", 1), *((split, len(metrics)) for split in results.splits)],
        headings=["variant", *(_heading(metric) for _ in results.splits for metric in metrics)],
        groups=[
            Group(
                "",
                [
                    [
                        variant,
                        *(_cell(results, variant, split, metric) for split in results.splits for metric in metrics),
                    ]
                    for variant in results.variants
                ],
            )
        ],
    )


def full_table(results: DatasetResults) -> Table:
    """Every metric, rows grouped by split."""
    metrics = ["mIoU", "difference", "oIoU", *(metric for metric in METRICS if metric.startswith("Pr@"))]
    return Table(
        key="full",
        caption=_caption(results, "Every metric") + " Pr@X: share of expressions with IoU ≥ X.",
        spans=[],
        headings=["variant", *(_heading(metric) for metric in metrics)],
        groups=[
            Group(
                f"{split}, {results.counts[split]:,} expressions",
                [
                    [variant, *(_cell(results, variant, split, metric) for metric in metrics)]
                    for variant in results.variants
                ],
            )
            for split in results.splits
        ],
    )


def to_markdown(table: Table) -> str:
    """A pipe table under its caption; where columns are grouped, headings carry the group's name."""
    groups = [title for title, width in table.spans for _ in range(width)] or [""] * len(table.headings)
    headings = [f"{group} {heading}".strip() for group, heading in zip(groups, table.headings, strict=True)]
    lines = [table.caption, "", _pipes(headings), _pipes(["---", *["---:"] * (len(headings) - 1)])]
    for group in table.groups:
        if group.title:
            lines.append(_pipes([f"*{group.title}*", *[""] * (len(headings) - 1)]))
        lines.extend(_pipes(row) for row in group.rows)
    return "\n".join(lines) + "\n"


def to_latex(table: Table, label: str) -> str:
    r"""A `table` environment for \input, which needs the package booktabs and nothing else."""
    width = len(table.headings)
    lines = [
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{_latex(table.caption)}}}",
        rf"  \label{{{label}}}",
        r"  \small\setlength{\tabcolsep}{4pt}",
        rf"  \begin{{tabular}}{{l{'r' * (width - 1)}}}",
        r"    \toprule",
    ]
    if table.spans:
        lines.append("    " + " & ".join(_latex_span(title, columns) for title, columns in table.spans) + r" \\")
        lines.append("    " + " ".join(_latex_rules(table.spans)))
    lines.append(_latex_row(table.headings))
    for group in table.groups:
        lines.append(r"    \midrule")
        if group.title:
            lines.append(rf"    \multicolumn{{{width}}}{{l}}{{\emph{{{_latex(group.title)}}}}} \\")
        lines.extend(_latex_row(row) for row in group.rows)
    lines += [r"    \bottomrule", r"  \end{tabular}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def to_csv(results: DatasetResults) -> str:
    """One row a split and variant; percent rounded as in the other tables, standard deviations in their own columns."""
    rows = [
        {
            "dataset": results.name,
            "protocol": results.protocol,
            "split": split,
            "expressions": results.counts[split],
            "variant": variant,
            "seeds": len(results.seeds),
            **{
                key: value
                for metric in ["mIoU", *(name for name in METRICS if name != "mIoU")]
                for key, value in _csv_cells(results, variant, split, metric).items()
            },
        }
        for split in results.splits
        for variant in results.variants
    ]
    return pd.DataFrame(rows).to_csv(index=False, lineterminator="\n")


def _caption(results: DatasetResults, title: str) -> str:
    seeds = len(results.seeds)
    numbers = (
        f"Percent, mean ± standard deviation over {seeds} seeds (the spread of training alone, not of the data)."
        if seeds > 1
        else "Percent, one seed: no spread is known."
    )
    counts = ", ".join(f"{split} {count:,}" for split, count in results.counts.items())
    return (
        f"{title} on {results.name}. {numbers} Δ: mIoU minus that of {results.reference}, taken before rounding. "
        f"Protocol {results.protocol}. Expressions: {counts}. Made by: {COMMAND}."
    )


def _heading(metric: str) -> str:
    return "Δ mIoU" if metric == "difference" else metric


def _cell(results: DatasetResults, variant: str, split: str, metric: str) -> str:
    if metric == "difference":
        row = results.comparison.loc[(variant, split, "mIoU")]
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


def _pipes(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _latex(text: str) -> str:
    return text.translate(LATEX)


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
