"""What variants cost: exact counts from their diagnoses, time and memory from the results of the benchmarks."""

from stages.report.dataset_numbers import MEASURED, DatasetNumbers
from stages.report.tables.captions import name_cell, why_no_number
from stages.report.tables.table import MISSING, Block, Cell, Group, Notes, Table


def exact_table(results: DatasetNumbers) -> Table | None:
    """Parameters and floating-point operations of every variant, which are exact, and their ratios to the reference."""
    by_variant = results.diagnosis.groupby("variant")[["parameters", "flops"]].first()
    if by_variant.empty:
        return None
    notes, base = Notes(), by_variant.loc[results.reference] if results.reference in by_variant.index else None

    def row(variant: str) -> list[Cell]:
        why = why_no_number(results, variant)
        if variant not in by_variant.index:
            return [name_cell(results, variant, notes), *[Cell(MISSING + notes.mark(why)) for _ in range(4)]]
        parameters, flops = by_variant.loc[variant]
        ratios = [
            Cell(MISSING + notes.mark(why_no_number(results, results.reference)))
            if base is None
            else Cell(f"{value / base[column]:.3f}", value=value / base[column])
            for value, column in ((parameters, "parameters"), (flops, "flops"))
        ]
        exact = [Cell(f"{int(value):,}", value=float(value)) for value in (parameters, flops)]
        return [name_cell(results, variant, notes), exact[0], ratios[0], exact[1], ratios[1]]

    return Table(
        key="costs",
        caption=f"What variants cost on {results.name}.",
        blocks=[
            Block(
                [],
                ["variant", "parameters", "ratio", "FLOPs", "ratio"],
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


def measured_table(results: DatasetNumbers) -> Table | None:
    """Time and memory as benchmarks/results has them, with machine and date; no stage measures them."""
    table = results.measured
    if table.empty:
        return None
    ways = ["device", "precision", "compiled", "date", "machine", "versions", "command"]
    groups = []
    for way, of_way in table.groupby(ways, sort=False):
        about = dict(zip(ways, way, strict=True))
        compiled = "compiled" if about["compiled"] else "not compiled"
        title = f"{about['machine']}, {about['device']}, precision {about['precision']}, {compiled}, {about['date']}"
        groups.append(Group(title, [_measured_row(results, row) for row in of_way.itertuples()]))
    versions, commands = (" or ".join(dict.fromkeys(table[column])) for column in ("versions", "command"))
    return Table(
        key="measured",
        caption=f"Time and memory measured with recipe {results.recipe}.",
        blocks=[Block([], ["variant and measure", "measured", "ratio to the encoders alone"], groups)],
        footer=[
            f"From {MEASURED}, not measured by this run: another machine gives other numbers. Medians of a training "
            "step and of inference, both of one batch; brackets: lowest and highest ratio over the rounds.",
            f"{versions}.",
            f"Measured by: {commands}.",
        ],
    )


def _measured_row(results: DatasetNumbers, row: object) -> list[Cell]:
    memory = "MiB" in row.measure
    text = f"{row.itself:,.0f}" if memory else f"{row.itself:.4g}"
    return [
        Cell(f"{results.label(row.model)}: {row.measure}"),
        Cell(text, value=row.itself),
        Cell(f"{row.ratio:.2f}", f"[{row.lowest:.2f}, {row.highest:.2f}]", value=row.ratio),
    ]
