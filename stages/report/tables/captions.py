"""What the tables about one dataset have in common: captions, footers, and cells with their footnotes."""

import pandas as pd

from stages.report.dataset_numbers import DatasetNumbers
from stages.report.tables.table import MISSING, Cell, Notes, interval, number_cell, percent, probability, signed
from stages.runtime import layout
from stages.statistics.comparison import SUPPORTED
from stages.statistics.evidence import FEW_IMAGES, FEWEST_IMAGES, ONE_FILE, is_val

CAPTION_WARNINGS = 3
VLBA = "VLBA: vision-language bidirectional attention."


def data_warning(results: DatasetNumbers) -> str:
    """What the warnings of the data come to, without a full stop; empty where there are none."""
    if results.partial:
        return "Partial data, not comparable with published results"
    return "Warning about the data" if results.warnings else ""


def seeds_said(results: DatasetNumbers) -> str:
    """How many seeds there are, and what a single one cannot show."""
    listed = ", ".join(map(str, results.seeds))
    if len(results.seeds) == 1:
        return f"One seed ({listed}): what another training would give is not known."
    return f"{len(results.seeds)} seeds ({listed})."


def split_title(results: DatasetNumbers, split: str) -> str:
    """Name and size of a split, as the title of a group of rows."""
    return f"{marked(results, split)}, {counted(results.counts[split], 'expression')}"


def marked(results: DatasetNumbers, split: str) -> str:
    """The split with what limits its numbers: `val (chose the epoch)`."""
    marks = ["chose the epoch"] if is_val(split) else []
    if results.images[split] < FEW_IMAGES:
        marks.append("too few images" if results.images[split] < FEWEST_IMAGES else "few images")
    return f"{split} ({', '.join(marks)})" if marks else split


def counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def limits(results: DatasetNumbers, splits: list[str]) -> list[str]:
    """What limits the numbers of some splits, one sentence for each limit."""
    chose = [split for split in splits if is_val(split)]
    too_few = [split for split in splits if results.images[split] < FEWEST_IMAGES]
    few = [split for split in splits if FEWEST_IMAGES <= results.images[split] < FEW_IMAGES]
    sentences = {
        "The best epoch of each run was chosen on {}, so numbers there are a little too good.": chose,
        f"No brackets on {{}}: fewer than {FEWEST_IMAGES} images say too little about others.": too_few,
        f"Few images on {{}}: with fewer than {FEW_IMAGES}, only large differences can be supported.": few,
    }
    return [sentence.format(listing(found)) for sentence, found in sentences.items() if found]


def verdicts(results: DatasetNumbers, splits: list[str]) -> list[str]:
    """What bold means, and why some splits have nothing that is bold, one sentence each."""
    reasons = no_verdicts(results, splits)
    bold = [f"Bold: supported, that is {SUPPORTED}."] if sum(map(len, reasons.values())) < len(splits) else []
    return bold + [f"Nothing is bold on {listing(of)}: {reason}." for reason, of in reasons.items()]


def verdict_words(results: DatasetNumbers) -> str:
    """What the words of verdicts mean, in sentences."""
    if results.smallest_effect is None:
        return "Not supported does not mean that there is no difference, only that these data cannot tell it from none."
    smallest = f"{results.smallest_effect:g} point{'s' * (results.smallest_effect != 1)}"
    return (
        "Better and worse: the difference is supported. Equivalent: two one-sided tests, after Holm's adjustment too, "
        f"show that it is smaller than {smallest}, the smallest effect that matters. Undecided: none of these."
    )


def no_verdicts(results: DatasetNumbers, splits: list[str]) -> dict[str, list[str]]:
    """Why splits have no verdict: reason -> the splits."""
    reasons: dict[str, list[str]] = {}
    for split in splits:
        if reason := results.no_verdict(split):
            reasons.setdefault(reason, []).append(split)
    return reasons


def listing(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def caption(results: DatasetNumbers, title: str) -> str:
    """The title with its dataset, what the data warn of, and the unit."""
    unit = (
        f"In percent, with 95 % intervals over {results.over}."
        if has_intervals(results, results.splits)
        else "In percent."
    )
    return " ".join([f"{title} on {results.name}.", *_warnings(results), unit])


def has_intervals(results: DatasetNumbers, splits: list[str]) -> bool:
    """Whether one of some splits has enough images for an interval."""
    return any(results.images[split] >= FEWEST_IMAGES for split in splits)


def meanings(results: DatasetNumbers, metrics: list[str]) -> list[str]:
    """What the abbreviations of metrics stand for, one sentence each."""
    bound = ">" if results.protocol.strict else "≥"
    sentences = {
        "mIoU": "mIoU: mean over expressions of the intersection over union (IoU) of predicted and true mask.",
        "oIoU": "oIoU: overall IoU, the sum of all intersections divided by the sum of all unions.",
        "Pr@X": f"Pr@X: precision at X, the share of expressions with IoU {bound} X.",
    }
    kinds = dict.fromkeys("Pr@X" if metric.startswith("Pr@") else metric for metric in metrics)
    return [sentence for kind, sentence in sentences.items() if kind in kinds]


def protocol_said(results: DatasetNumbers) -> str:
    """The name of the protocol, and what it counts on."""
    size = {"original": "the original image", "input": "the network's input"}[results.protocol.grid]
    return f"Protocol {results.protocol.name}: intersection and union are counted at the size of {size}."


def footer(results: DatasetNumbers, splits: list[str], differences: bool = False) -> list[str]:
    """Seeds, protocol, data and what brackets mean; with `differences` to the reference also what Δ and bold mean."""
    counts = ", ".join(
        f"{split} {counted(results.counts[split], 'expression')} of {counted(results.images[split], 'image')}"
        for split in splits
    )
    seeds = (
        "the luck of the seed is left out" if results.over == "images alone" else "the spread between seeds is added"
    )
    sentences = [
        seeds_said(results),
        protocol_said(results),
        *([f"{data_warning(results)}."] if data_warning(results) else []),
        f"{counts}.",
        *limits(results, splits),
    ]
    if has_intervals(results, splits):
        drawn = "images are resampled with all their expressions"
        sentences.append(f"Brackets: 95 % interval over {results.over}; {drawn}, and {seeds}.")
    if differences and len(results.systems) > 1:
        sentences += [
            f"Δ: difference to {results.label(results.reference)} on the same expressions and seeds, taken before "
            "rounding.",
            *verdicts(results, splits),
        ]
    return sentences


def name_cell(results: DatasetNumbers, variant: str, notes: Notes) -> Cell:
    """The variant, with a footnote where a seed of it is missing, or where it is one file of predictions."""
    why = of_a_file(results, variant) if variant in results.others else why_no_number(results, variant)
    mark = notes.mark(why) if why else ""
    return Cell(results.label(variant) + mark, latex=results.latex_label(variant))


def mean_cell(row: pd.Series, notes: Notes, why: str) -> Cell:
    """A mean with its interval; a dash with a footnote that says `why` where there is none."""
    return number_cell(row["mean"], percent, notes, why, interval(row["low"], row["high"]))


def difference_cell(row: pd.Series, notes: Notes, why: str) -> Cell:
    """A difference with its interval, bold where it is supported; a dash with a footnote where there is none."""
    note = interval(row["difference_low"], row["difference_high"])
    return number_cell(row["difference"], signed, notes, why, note, bold=bool(row.get("supported", False)))


def p_cell(row: pd.Series, column: str, notes: Notes, why: str) -> Cell:
    """A p-value; a dash with a footnote where there is none: `why`, where there is no difference either."""
    told = f"{capital(row['no_verdict'])}." if row["no_verdict"] else why
    return number_cell(row[column], probability, notes, told)


def verdict_cell(row: pd.Series, notes: Notes, why: str) -> Cell:
    """The verdict; a dash with a footnote where there is none: `why`, where there is no difference either."""
    told = f"{capital(row['no_verdict'])}." if row["no_verdict"] else why
    return Cell(row["verdict"]) if row["verdict"] else Cell(MISSING + notes.mark(told))


def of_a_file(results: DatasetNumbers, other: str) -> str:
    """The footnote of a system that others made: what its numbers cover, and what had no prediction."""
    said = f"{results.label(other)}: {ONE_FILE}; Δ is to the mean over the seeds of {results.label(results.reference)}."
    counts = [
        f"{count:,} of {results.counts[split]:,} on {split} of {results.name}"
        for split, count in results.unpredicted[other].items()
    ]
    return said + (f" Expressions without a prediction, scored as empty masks: {listing(counts)}." if counts else "")


def why_no_number(results: DatasetNumbers, variant: str) -> str:
    """The footnote of a variant whose seeds are missing, some or all; empty where none is."""
    if variant not in results.systems:
        return f"{variant} has no predictions on {results.name}."
    seeds = results.missing.get(variant, [])
    if not seeds:
        return ""
    named = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
    if variant not in results.scored:
        return f"{results.label(variant)} has no scores: {named} failed or did not run."
    left = len(results.scored_seeds[variant])
    return (
        f"{results.label(variant)} has scores of {left} of {len(results.seeds)} seeds: {named} failed or did not run."
    )


def why_no_difference(results: DatasetNumbers, variant: str) -> str:
    """The footnote of a variant that has no difference to the reference."""
    if variant not in (*results.scored, *results.others):
        return why_no_number(results, variant)
    if results.reference not in results.scored:
        return f"No difference: {why_no_number(results, results.reference)}"
    return f"No difference: {results.label(variant)} and {results.label(results.reference)} have no seed in common."


def _warnings(results: DatasetNumbers) -> list[str]:
    """One sentence with every warning, or with the first ones and where the others are; none without a warning."""
    warnings = [warning.removesuffix(".") for warning in results.warnings]
    if len(warnings) > CAPTION_WARNINGS:
        others = len(warnings) - CAPTION_WARNINGS
        warnings = [*warnings[:CAPTION_WARNINGS], f"{others} more in {layout.prepared(results.name)}/dataset.json"]
    text = ": ".join(part for part in (data_warning(results), "; ".join(warnings)) if part)
    return [f"{text}."] if text else []


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]
