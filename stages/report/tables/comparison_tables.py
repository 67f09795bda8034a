"""The comparison as tables: cells that are already text, from one set of rounded numbers. `formats` writes them."""

from collections.abc import Iterable, Sequence

import pandas as pd

from stages.data.prepared import set_of
from stages.report.dataset_results import Numbers
from stages.report.tables.table import (
    MINUS,
    MISSING,
    REFERENCE_MARK,
    Block,
    Cell,
    Group,
    Notes,
    Table,
    interval,
    number_cell,
    percent,
    points,
    probability,
    signed,
)
from stages.runtime import layout
from stages.scoring.metrics import METRICS
from stages.statistics.slices import FAMILIES

COMMAND = "dvc repro report"
LARGEST_P = 0.05  # as stages/ablate calls a difference supported
METRICS_ABREAST = 2  # each with its difference
VARIANTS_ABREAST = 4
CAPTION_WARNINGS = 3


def data_warning(results: Numbers) -> str:
    """What the warnings of the data come to, without a full stop; empty where there are none."""
    if results.partial:
        return "Partial data, not comparable with published results"
    return "Warning about the data" if results.warnings else ""


def seeds_said(results: Numbers) -> str:
    """How many seeds, and what one cannot say."""
    listed = ", ".join(map(str, results.seeds))
    if len(results.seeds) == 1:
        return f"One seed ({listed}): what another training would give is not known."
    return f"{len(results.seeds)} seeds ({listed})."


def main_table(results: Numbers) -> Table:
    """Rows grouped by split: the metrics that the protocol headlines, each with its difference to the reference."""
    return _table_of_metrics(
        results,
        key="main",
        title="Variants compared",
        sections=[(splits, [list(results.protocol.headline)]) for splits in by_set(results.splits).values()],
    )


def full_tables(results: Numbers) -> list[Table]:
    """Every metric with its difference, rows grouped by split; a table for each of the sets that are mixed."""
    metrics = _parts(_in_order(results), METRICS_ABREAST)
    bound = ">" if results.protocol.strict else "≥"
    return [
        _table_of_metrics(
            results,
            key=f"full-{name}".rstrip("-"),
            title="Every metric",
            sections=[(splits, metrics)],
            extra=[f"Pr@X: share of expressions with IoU {bound} X."],
        )
        for name, splits in by_set(results.splits).items()
    ]


def difference_table(results: Numbers) -> Table | None:
    """The first headline metric's difference of every variant: its p-values, and how often the variant is better."""
    others = [name for name in results.variants if name != results.reference]
    if not others:
        return None
    notes, metric = Notes(), results.metric

    def row(variant: str, split: str) -> list[Cell]:
        found = results.cell(variant, split, metric)
        why = _why_no_difference(results, variant)
        better = number_cell(
            found["improvement"],
            percent,
            notes,
            why,
            interval(found["improvement_low"], found["improvement_high"]),
        )
        return [
            name_cell(results, variant, notes),
            _difference_cell(found, notes, why),
            *(number_cell(found[column], probability, notes, why) for column in ("p", "p_holm")),
            better,
        ]

    groups = [Group(_split_title(results, split), [row(name, split) for name in others]) for split in results.splits]
    return Table(
        key="differences",
        caption=_caption(results, f"How sure the differences to {results.reference} are"),
        blocks=[Block([], ["variant", f"Δ {metric}", "p", "adj. p", "better (%)"], groups)],
        notes=notes.lines,
        footer=[
            *_footer(results, results.splits, differences=True),
            f"Better: probability that on a random expression the variant's IoU is above that of {results.reference} "
            "under the same seed, ties counted half; 50 is no difference.",
            made_by(),
        ],
    )


def contrast_table(results: Numbers) -> Table | None:
    """Every pair of variants that differ in one part of the method: what that part changes, all else equal."""
    if results.contrasts.empty:
        return None
    notes, blocks = Notes(), []
    for metrics in _parts(list(results.protocol.headline), METRICS_ABREAST):
        groups = []
        for split in results.splits:
            of_split = results.contrasts[results.contrasts["split"] == split]
            pairs = of_split[of_split["metric"] == metrics[0]]
            rows = [
                [
                    Cell(part(results, pair)),
                    *(
                        cell
                        for metric in metrics
                        for cell in _contrast_cells(contrast(results, pair, split, metric), notes)
                    ),
                ]
                for pair in pairs.itertuples()
            ]
            groups.append(Group(_split_title(results, split), rows))
        headings = [text for metric in metrics for text in (f"Δ {metric}", "adj. p")]
        blocks.append(Block([], ["part of the method", *headings], groups))
    return Table(
        key="contrasts",
        caption=_caption(results, "What each part of the method changes, all else equal,"),
        blocks=blocks,
        notes=notes.lines,
        footer=[
            *_footer(results, results.splits),
            f"Over the variant without it: {_pairs(results)}.",
            f"Bold: supported, p < {LARGEST_P} after Holm's adjustment over the pairs about VLBA, or about the "
            "contrast, within a split and metric; the table of variants is adjusted for other comparisons, so that "
            f"verdicts near {LARGEST_P} can differ.",
            made_by(),
        ],
    )


def part(results: Numbers, pair: object) -> str:
    """What a pair of variants differs in, with `what`, `variant` and `against`; names them where several pairs do."""
    table = results.contrasts
    several = len(table.loc[table["what"] == pair.what, ["variant", "against"]].drop_duplicates()) > 1
    return f"{pair.what}, {pair.variant} over {pair.against}" if several else pair.what


def contrast(results: Numbers, pair: object, split: str, metric: str) -> pd.Series:
    """The row of `results.contrasts` about a pair of variants, named as `variant` and `against`."""
    table = results.contrasts
    same = (table["variant"] == pair.variant) & (table["against"] == pair.against)
    return table[same & (table["split"] == split) & (table["metric"] == metric)].iloc[0]


def slices_table(results: Numbers) -> Table | None:
    """Where it helps: on the first evaluation split, the reference by slices and every variant's difference to it."""
    split = results.splits[0]
    table = results.slices[results.slices["split"] == split]
    if table.empty:
        return None
    metric, notes = table["metric"].iloc[0], Notes()
    others = [name for name in results.variants if name != results.reference]
    by_row = table.set_index(["family", "slice", "variant"])
    keys = table[["family", "slice"]].drop_duplicates()

    def row(family: str, name: str, variants: Sequence[str], first: bool) -> list[Cell]:
        size = by_row.loc[(family, name, results.reference)]
        why = f"fewer than 10 images: {name} ({family})" if pd.isna(size["mean"]) else ""
        cells = [Cell(name)]
        if first:
            cells.append(Cell(f"{int(size['expressions']):,}", value=float(size["expressions"])))
            cells.append(_mean_cell(size, notes, why or why_no_number(results, results.reference)))
        for variant in variants:
            missing = why or _why_no_difference(results, variant)
            cells.append(_difference_cell(by_row.loc[(family, name, variant)], notes, missing))
        return cells

    blocks = []
    for place, variants in enumerate(_parts(others, VARIANTS_ABREAST - 1, VARIANTS_ABREAST) or [[]]):
        first = place == 0
        groups = [
            Group(_family_title(family), [row(family, name, variants, first) for name in of_family["slice"]])
            for family, of_family in keys.groupby("family", sort=False)
        ]
        headings = ["expressions", f"{results.reference} {metric}"] if first else []
        blocks.append(Block([], ["slice", *headings, *(f"Δ {name}" for name in variants)], groups))
    return Table(
        key="slices",
        caption=_caption(results, f"Where it helps: slices of {split}"),
        blocks=blocks,
        notes=notes.lines,
        footer=[
            *_footer(results, [split]),
            f"Δ: {metric} minus that of {results.reference} on the same expressions, taken before rounding.",
            "Not adjusted for the number of slices: one of twenty intervals misses by chance; nothing here is bold.",
            made_by(),
        ],
    )


def to_csv(results: Numbers) -> str:
    """One row a split and variant; percent rounded as in the other tables, each number in a column of its own."""
    rows = [
        {
            "dataset": results.name,
            "protocol": results.protocol.name,
            "partial": results.partial,
            "split": split,
            "expressions": results.counts[split],
            "images": results.images[split],
            "variant": variant,
            "seeds": len(results.seeds) - len(results.missing.get(variant, [])),
            "missing seeds": " ".join(map(str, results.missing.get(variant, []))),
            **{
                key: value
                for metric in _in_order(results)
                for key, value in _csv_cells(results.cell(variant, split, metric), metric).items()
            },
        }
        for split in results.splits
        for variant in results.variants
    ]
    return pd.DataFrame(rows).to_csv(index=False, lineterminator="\n")


def by_set(splits: list[str]) -> dict[str, list[str]]:
    """Splits by the set that they are named after; the name is empty where the dataset is a single set."""
    sets: dict[str, list[str]] = {}
    for split in splits:
        sets.setdefault(set_of(split), []).append(split)
    return sets


def _in_order(results: Numbers) -> list[str]:
    """Every metric, those that the protocol headlines first."""
    return list(dict.fromkeys([*results.protocol.headline, "mIoU", *METRICS]))


def _parts(items: list[str], first: int, later: int | None = None) -> list[list[str]]:
    """Cut into lists of at most `first` items, those after the first of at most `later`."""
    parts = [items[:first]] if items else []
    step = later or first
    return parts + [items[at : at + step] for at in range(first, len(items), step)]


def _table_of_metrics(
    results: Numbers,
    key: str,
    title: str,
    sections: list[tuple[list[str], list[list[str]]]],
    extra: Iterable[str] = (),
) -> Table:
    """A block for each (splits, metrics): rows grouped by split, each metric with its difference beside it."""
    notes, compares = Notes(), len(results.variants) > 1
    blocks = [
        Block(
            spans=[],
            headings=[
                "variant",
                *(text for metric in metrics for text in ((metric, f"Δ {metric}") if compares else (metric,))),
            ],
            groups=[
                Group(
                    _split_title(results, split),
                    [_row_of_metrics(results, variant, split, metrics, notes) for variant in results.variants],
                )
                for split in splits
            ],
        )
        for splits, parts in sections
        for metrics in parts
    ]
    splits = [split for splits, _ in sections for split in splits]
    return Table(
        key=key,
        caption=_caption(results, title),
        blocks=blocks,
        notes=notes.lines,
        footer=[*_footer(results, splits, differences=True), *extra, made_by()],
    )


def _row_of_metrics(results: Numbers, variant: str, split: str, metrics: list[str], notes: Notes) -> list[Cell]:
    cells = [name_cell(results, variant, notes)]
    for metric in metrics:
        row = results.cell(variant, split, metric)
        cells.append(_mean_cell(row, notes, why_no_number(results, variant)))
        if len(results.variants) == 1:
            continue
        if variant == results.reference:
            cells.append(Cell(REFERENCE_MARK if variant in results.scored else MISSING))
        else:
            cells.append(_difference_cell(row, notes, _why_no_difference(results, variant)))
    return cells


def name_cell(results: Numbers, variant: str, notes: Notes) -> Cell:
    """The variant, with a footnote where a seed of it is missing."""
    why = why_no_number(results, variant)
    return Cell(variant + (notes.mark(why) if why else ""))


def why_no_number(results: Numbers, variant: str) -> str:
    """The footnote of a variant of which seeds are missing; empty where none is."""
    seeds = results.missing.get(variant, [])
    if not seeds:
        return ""
    named = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
    if variant not in results.scored:
        return f"{variant} has no scores: {named} failed or did not run."
    left = len(results.seeds) - len(seeds)
    return f"{variant} is over {left} of {len(results.seeds)} seeds: {named} failed or did not run."


def _why_no_difference(results: Numbers, variant: str) -> str:
    if variant not in results.scored:
        return why_no_number(results, variant)
    if results.reference not in results.scored:
        return f"No difference: {why_no_number(results, results.reference)}"
    return f"No difference: {variant} and {results.reference} have no seed in common."


def _mean_cell(row: pd.Series, notes: Notes, why: str) -> Cell:
    return number_cell(row["mean"], percent, notes, why, interval(row["low"], row["high"]))


def _difference_cell(row: pd.Series, notes: Notes, why: str) -> Cell:
    note = interval(row["difference_low"], row["difference_high"])
    return number_cell(row["difference"], signed, notes, why, note, bold=bool(row.get("supported", False)))


def _contrast_cells(row: pd.Series, notes: Notes) -> list[Cell]:
    why = f"{row['variant']} and {row['against']} have no seed in common."
    return [_difference_cell(row, notes, why), number_cell(row["p_holm"], probability, notes, why)]


def _family_title(name: str) -> str:
    family = FAMILIES[name]
    return f"{family.title} ({family.unit})" if family.unit else family.title


def _pairs(results: Numbers) -> str:
    pairs = results.contrasts[["what", "variant", "against"]].drop_duplicates()
    return "; ".join(f"{pair.what}, {pair.variant} over {pair.against}" for pair in pairs.itertuples())


def _split_title(results: Numbers, split: str) -> str:
    return f"{split}, {results.counts[split]:,} expressions"


def _caption(results: Numbers, title: str) -> str:
    sentences = [f"{title} on {results.name}.", *_caption_warnings(results), "Percent, with 95 % intervals."]
    return " ".join(sentences)


def _caption_warnings(results: Numbers) -> list[str]:
    """One sentence with every warning, or with the first ones and where the others stand; none without a warning."""
    warnings = [warning.removesuffix(".") for warning in results.warnings]
    if len(warnings) > CAPTION_WARNINGS:
        others = len(warnings) - CAPTION_WARNINGS
        warnings = [*warnings[:CAPTION_WARNINGS], f"{others} more in {layout.prepared(results.name)}/dataset.json"]
    text = ": ".join(part for part in (data_warning(results), "; ".join(warnings)) if part)
    return [f"{text}."] if text else []


def _footer(results: Numbers, splits: list[str], differences: bool = False) -> list[str]:
    """Seeds, protocol, data, what brackets mean; with differences to the reference also what those and bold mean."""
    counts = ", ".join(
        f"{split} {results.counts[split]:,} expressions of {results.images[split]:,} images" for split in splits
    )
    many = len(results.seeds) > 1
    drawn = "resampling images with all their expressions"
    sentences = [
        seeds_said(results),
        f"Protocol {results.protocol.name}.",
        *([f"{data_warning(results)}."] if data_warning(results) else []),
        f"{counts}.",
        f"Brackets: 95 % interval, from {drawn} and from the spread between seeds."
        if many
        else f"Brackets: 95 % interval from {drawn} alone; it leaves the luck of the seed out.",
    ]
    if differences and len(results.variants) > 1:
        sentences += [
            f"Δ: minus that of {results.reference} on the same expressions and seeds, taken before rounding.",
            f"Bold: supported, p < {LARGEST_P} after Holm's adjustment over the other variants, within a split and "
            "metric.",
        ]
    return sentences


def made_by() -> str:
    return f"Made by: {COMMAND}."


def _csv_cells(row: pd.Series, metric: str) -> dict[str, str]:
    columns = {
        "": "mean",
        " low": "low",
        " high": "high",
        " std": "std",
        " difference": "difference",
        " difference low": "difference_low",
        " difference high": "difference_high",
    }
    cells = {f"{metric}{name}": _plain(row[column]) for name, column in columns.items()}
    p = "" if pd.isna(row["p_holm"]) else probability(row["p_holm"])
    return cells | {f"{metric} p adjusted": p, f"{metric} supported": str(bool(row["supported"])).lower()}


def _plain(value: float) -> str:
    return "" if pd.isna(value) else points(value, 1).replace(MINUS, "-")
