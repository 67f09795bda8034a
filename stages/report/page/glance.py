"""The result at a glance, for the first screen: the best variant, what each part adds, and what the words mean.

The best variant is that with the highest mean of the protocol's first headline metric, over the splits that chose no
epoch. It is found by its result. The parts are those of the highlighted variant, which `params.yaml` names before there
is a result.
"""

from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from stages.report.dataset_numbers import DIFFERENCE, DatasetNumbers, verdict
from stages.report.page import headline
from stages.report.tables import captions, contrast_tables, language_tables
from stages.report.tables.table import ARROW, MISSING, interval, percent, signed
from stages.statistics.comparison import LARGEST_P

SUPPORTED = (
    "luck is an unlikely reason for the difference. Among variants that are truly equal, at most "
    f"{100 * LARGEST_P:g} in 100 comparisons like this one, with other images and other seeds, would call a difference "
    "of the headline supported on a split, and at most as many any of the others"
)


class Lead(NamedTuple):
    """How far the best variant is above another one: texts, which are empty where there is no such number."""

    over: str
    is_reference: bool
    change: str
    bounds: str
    verdict: str


@dataclass(frozen=True)
class Best:
    """The variant with the highest mean, with its leads over the reference and over the second best."""

    variant: str
    where: str
    mean: str
    is_reference: bool
    leads: list[Lead]


class Change(NamedTuple):
    """What a part changes on one split: difference, interval, verdict, both means, whether it is supported."""

    difference: str
    bounds: str
    verdict: str
    means: str
    supported: bool


@dataclass(frozen=True)
class Step:
    """A part of the method: what is added, to what, and what that changes on each split."""

    what: str
    pair: str
    changes: list[Change]


@dataclass(frozen=True)
class Glance:
    """The result of one dataset.

    Attributes:
        metric: what the numbers are.
        seeds: how many there are, as text.
        best: None where fewer than two variants have scores.
        splits: those of the steps.
        steps: the parts of the highlighted variant; empty where the report is about the reference.
        others: the parts in which other variants differ; empty where there are many.
        remarks: sentences on what limits the numbers.
    """

    metric: str
    seeds: str
    best: Best | None
    splits: list[str]
    steps: list[Step]
    others: list[Step]
    remarks: list[str]


def glance(results: DatasetNumbers) -> Glance:
    splits = results.unseen
    about = headline.about_the_reference(results) if results.highlight == results.reference else []
    parts, others = headline.parts_and_others(results)
    return Glance(
        metric=results.metric,
        seeds=captions.counted(len(results.seeds), "seed"),
        best=_best(results) if len(results.scored) > 1 else None,
        splits=splits,
        steps=[_step(results, pair) for pair in parts] if about or parts else [_all_parts(results)],
        others=[_step(results, pair) for pair in others] if len(others) <= headline.PAIRS else [],
        remarks=[
            *(about or headline.unscored(results)),
            *([said] if (said := language_tables.warning(results)) else []),
            *[
                f"No verdict on {captions.listing(of)}: {why}."
                for why, of in captions.no_verdicts(results, splits).items()
            ],
            *captions.limits(results, splits),
        ],
    )


def sentences(at: Glance) -> list[str]:
    """What stands first, without the page's markup: the best variant and its leads, or else why there is none."""
    if at.best is None:
        return at.remarks
    best = at.best
    reference = " It is the reference." if best.is_reference else ""
    return [
        f"{best.variant} has the highest {at.metric}: {best.mean} {best.where}.{reference}",
        *[
            f"{lead.change} points {lead.bounds}".rstrip()
            + f" over {lead.over}, {'the reference' if lead.is_reference else 'the second'}"
            + (f": {lead.verdict}." if lead.verdict else ".")
            for lead in best.leads
        ],
    ]


def words(results: list[DatasetNumbers]) -> list[tuple[str, str]]:
    """The words of verdicts with what they mean; none where no dataset has a verdict."""
    if all(of.no_verdict(split) for of in results for split in of.unseen):
        return []
    smallest = results[0].smallest_effect
    untested = ("Not tested", "tested are pairs that differ in one part, and each variant with the reference")
    if smallest is None:
        return [("Supported", SUPPORTED), ("Not supported", "the data cannot tell the difference from none"), untested]
    return [
        ("Supported", SUPPORTED),
        ("Better, worse", "supported, however small"),
        ("Equivalent", f"shown to be smaller than {smallest:g} point{'s' * (smallest != 1)}, which would not matter"),
        ("Undecided", "neither: more seeds or images could show which"),
        untested,
    ]


def _best(results: DatasetNumbers) -> Best:
    rows = results.averages_in(results.metric).set_index(["variant", "against"])
    first, second, *_ = sorted(results.scored, key=lambda name: -rows.loc[(name, ""), "value"])
    own = rows.loc[(first, "")]
    others = dict.fromkeys([*([results.reference] if first != results.reference else []), second])
    average = "on average over " if len(results.unseen) > 1 else "on "
    return Best(
        variant=first,
        where=average + captions.listing(results.unseen),
        mean=f"{percent(own['value'])} % {interval(own['low'], own['high'])}".strip(),
        is_reference=first == results.reference,
        leads=[
            _lead(rows, first, other, is_reference=other == results.reference)
            for other in others
            if other in results.scored
        ],
    )


def _lead(rows: pd.DataFrame, first: str, other: str, is_reference: bool) -> Lead:
    """The lead where the pair is compared, in either order; else by the means alone, and without a verdict."""
    for pair, sign in (((first, other), 1), ((other, first), -1)):
        if pair in rows.index and pd.notna(rows.loc[pair, "value"]):
            row = rows.loc[pair]
            low, high = sorted((sign * row["low"], sign * row["high"]))
            return Lead(other, is_reference, signed(sign * row["value"]), interval(low, high), verdict(row))
    change = signed(rows.loc[(first, ""), "value"] - rows.loc[(other, ""), "value"])
    return Lead(other, is_reference, change, "", "not tested")


def _step(results: DatasetNumbers, pair: pd.Series) -> Step:
    changes = [
        _change(results, contrast_tables.contrast(results, pair, split, results.metric), pair["against"], split)
        for split in results.unseen
    ]
    return Step(pair["what"], f"{pair['variant']} over {pair['against']}", changes)


def _all_parts(results: DatasetNumbers) -> Step:
    reference, highlight = results.reference, results.highlight
    rows = [(results.row(highlight, split, results.metric).copy(), split) for split in results.unseen]
    changes = [_change(results, pd.concat([row, pd.Series({"variant": highlight})]), reference, at) for row, at in rows]
    return Step("all of its parts", f"{highlight} over {reference}", changes)


def _change(results: DatasetNumbers, row: pd.Series, against: str, split: str) -> Change:
    if pd.isna(row["difference"]):
        return Change(MISSING, "", "no seed in common", "", supported=False)
    variant, metric = row["variant"], results.metric
    same = results.scored_seeds[variant] == results.scored_seeds[against]
    means = [percent(results.row(name, split, metric)["mean"]) for name in (against, variant)]
    low, high = (row[end] for end in DIFFERENCE[1:])
    return Change(
        signed(row["difference"]),
        interval(low, high),
        headline.told(row),
        f" {ARROW} ".join(means) if same else "",
        bool(row["supported"]),
    )
