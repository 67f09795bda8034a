"""What the tables about one dataset have in common: captions, footers, and cells with their footnotes."""

import pandas as pd

from stages.report.dataset_numbers import DatasetNumbers
from stages.report.provenance import COMMAND
from stages.report.tables.table import Cell, Notes, interval, number_cell, percent, signed
from stages.runtime import layout
from stages.statistics.comparison import LARGEST_P

CAPTION_WARNINGS = 3


def data_warning(results: DatasetNumbers) -> str:
    """What the warnings of the data come to, without a full stop; empty where there are none."""
    if results.partial:
        return "Partial data, not comparable with published results"
    return "Warning about the data" if results.warnings else ""


def seeds_said(results: DatasetNumbers) -> str:
    """How many seeds, and what one cannot say."""
    listed = ", ".join(map(str, results.seeds))
    if len(results.seeds) == 1:
        return f"One seed ({listed}): what another training would give is not known."
    return f"{len(results.seeds)} seeds ({listed})."


def split_title(results: DatasetNumbers, split: str) -> str:
    return f"{split}, {results.counts[split]:,} expressions"


def caption(results: DatasetNumbers, title: str) -> str:
    sentences = [f"{title} on {results.name}.", *_caption_warnings(results), "Percent, with 95 % intervals."]
    return " ".join(sentences)


def _caption_warnings(results: DatasetNumbers) -> list[str]:
    """One sentence with every warning, or with the first ones and where the others stand; none without a warning."""
    warnings = [warning.removesuffix(".") for warning in results.warnings]
    if len(warnings) > CAPTION_WARNINGS:
        others = len(warnings) - CAPTION_WARNINGS
        warnings = [*warnings[:CAPTION_WARNINGS], f"{others} more in {layout.prepared(results.name)}/dataset.json"]
    text = ": ".join(part for part in (data_warning(results), "; ".join(warnings)) if part)
    return [f"{text}."] if text else []


def footer(results: DatasetNumbers, splits: list[str], differences: bool = False) -> list[str]:
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


def name_cell(results: DatasetNumbers, variant: str, notes: Notes) -> Cell:
    """The variant, with a footnote where a seed of it is missing."""
    why = why_no_number(results, variant)
    return Cell(variant + (notes.mark(why) if why else ""))


def why_no_number(results: DatasetNumbers, variant: str) -> str:
    """The footnote of a variant of which seeds are missing; empty where none is."""
    seeds = results.missing.get(variant, [])
    if not seeds:
        return ""
    named = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
    if variant not in results.scored:
        return f"{variant} has no scores: {named} failed or did not run."
    left = len(results.seeds) - len(seeds)
    return f"{variant} is over {left} of {len(results.seeds)} seeds: {named} failed or did not run."


def why_no_difference(results: DatasetNumbers, variant: str) -> str:
    if variant not in results.scored:
        return why_no_number(results, variant)
    if results.reference not in results.scored:
        return f"No difference: {why_no_number(results, results.reference)}"
    return f"No difference: {variant} and {results.reference} have no seed in common."


def mean_cell(row: pd.Series, notes: Notes, why: str) -> Cell:
    return number_cell(row["mean"], percent, notes, why, interval(row["low"], row["high"]))


def difference_cell(row: pd.Series, notes: Notes, why: str) -> Cell:
    note = interval(row["difference_low"], row["difference_high"])
    return number_cell(row["difference"], signed, notes, why, note, bold=bool(row.get("supported", False)))
