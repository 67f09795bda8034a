"""What variants cost: exact counts from their diagnoses."""

from stages.report.dataset_numbers import DatasetNumbers
from stages.report.tables.captions import name_cell, why_no_number
from stages.report.tables.table import MISSING, Block, Cell, Group, Notes, Table


def table(results: DatasetNumbers) -> Table | None:
    """Parameters and floating-point operations of every variant, which are exact, and their ratios to the reference."""
    by_variant = results.diagnosis.groupby("variant").first()
    if by_variant.empty:
        return None
    encoders = by_variant["parts.vision.parameters"] + by_variant["parts.text.parameters"]
    by_variant = by_variant[["parameters", "flops"]].assign(others=by_variant["parameters"] - encoders)
    notes, base = Notes(), by_variant.loc[results.reference] if results.reference in by_variant.index else None

    def row(variant: str) -> list[Cell]:
        why = why_no_number(results, variant)
        if variant not in by_variant.index:
            return [name_cell(results, variant, notes), *[Cell(MISSING + notes.mark(why)) for _ in range(5)]]
        parameters, flops, others = by_variant.loc[variant]
        ratios = [
            Cell(MISSING + notes.mark(why_no_number(results, results.reference)))
            if base is None
            else Cell(f"{value / base[column]:.3f}", value=value / base[column])
            for value, column in ((parameters, "parameters"), (flops, "flops"))
        ]
        exact = [Cell(f"{int(value):,}", value=float(value)) for value in (parameters, others, flops)]
        return [name_cell(results, variant, notes), exact[0], ratios[0], *exact[1:], ratios[1]]

    return Table(
        key="costs",
        caption=f"What variants cost on {results.name}.",
        blocks=[
            Block(
                [],
                ["variant", "parameters", "ratio", "without encoders", "FLOPs", "ratio"],
                [Group("", [row(variant) for variant in results.variants])],
            )
        ],
        notes=notes.lines,
        footer=[
            f"Exact counts, recipe {results.recipe}; ratio: to {results.label(results.reference)}.",
            "FLOPs: floating-point operations of a forward pass of one image with one expression of the largest number "
            "of tokens; a multiply-add counts as 2.",
        ],
    )
