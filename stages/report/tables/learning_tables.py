"""Whether the curves of val are flat at the end, and how fast the variants learn."""

import math
from collections.abc import Callable

import numpy as np

from stages.report.dataset_numbers import DatasetNumbers
from stages.report.tables.captions import listing, seeds_said, why_no_number
from stages.report.tables.table import (
    REFERENCE_MARK,
    Block,
    Cell,
    Group,
    Notes,
    Table,
    interval,
    number_cell,
    percent,
    signed,
)
from stages.statistics import learning
from stages.statistics.bootstrap import Interval

HEADINGS = ["last quarter adds", "area", "Δ area", "epochs to level", "Δ epochs"]


def warning(results: DatasetNumbers) -> str:
    """Which variants are not flat at the end, as two sentences; empty where all are."""
    adds = {name: _last_quarter(results, name).value for name in results.learned}
    if any(math.isnan(value) for value in adds.values()):
        return "One epoch: whether more would change the comparison is not known."
    rising = [f"{name} ({signed(value)})" for name, value in adds.items() if value >= learning.FLAT]
    if not rising:
        return ""
    return (
        f"Still rising: more epochs could change the comparison. In the last quarter of the epochs, val gains "
        f"{100 * learning.FLAT:g} points or more for {listing(rising)}."
    )


def table(results: DatasetNumbers) -> Table | None:
    """What the last quarter of the epochs adds and how fast val rises, by variant and part by part."""
    if results.reference not in results.learned:
        return None
    notes, level = Notes(), _level(results)
    pairs = results.contrasts[["variant", "against"]].drop_duplicates().itertuples(index=False)
    others = [
        (name, against)
        for name, against in pairs
        if against != results.reference and {name, against} <= results.learned.keys()
    ]
    groups = [Group("", [_row(results, name, results.reference, level, notes) for name in results.variants])]
    if others:
        groups = [
            Group(f"Δ: difference to {results.label(results.reference)}", groups[0].rows),
            Group("part by part", [_row(results, name, against, level, notes) for name, against in others]),
        ]
    return Table(
        key="learning",
        caption=f"Speed of learning on {results.name}: {results.learning['metric'].iloc[0]} on val, "
        "with 95 % intervals over seeds.",
        blocks=[Block([], ["variant", *HEADINGS], groups)],
        notes=notes.lines,
        footer=[
            seeds_said(results),
            "Last quarter adds: the best of all epochs less the best before the last quarter, in points; below "
            f"{100 * learning.FLAT:g} in the mean over seeds, a curve counts as flat.",
            "Area: the mean over the epochs, in percent.",
            f"Level: {percent(level)} %, that is {100 * learning.SHARE:g} % of the best of "
            f"{results.label(results.reference)}, in the mean over its seeds; epochs to it are read from straight "
            "lines between epochs.",
            "Brackets: Student's interval over seeds; differences are paired by seed. They are not adjusted for their "
            "number.",
        ],
    )


def _row(results: DatasetNumbers, name: str, against: str, level: float, notes: Notes) -> list[Cell]:
    curves, others, label = results.learned.get(name, {}), results.learned[against], results.label(name)
    seeds = [seed for seed in curves if seed in others]
    areas, epochs = (
        [
            np.array([measure(of[seed]) for seed in chosen])
            for of, chosen in ((curves, list(curves)), (curves, seeds), (others, seeds))
        ]
        for measure in (learning.area, lambda curve: learning.epochs_to(curve, level))
    )
    unreached = int(np.isnan(epochs[0]).sum())
    why = f"{unreached} of {len(curves)} runs of {label} never reach the level." if unreached else ""
    of_other = int(np.isnan(epochs[2]).sum())
    why_not = f"{of_other} of {len(seeds)} runs of {results.label(against)} never reach the level." if of_other else ""
    if not curves:
        why = why_no_number(results, name)
    no_pair = "" if seeds else why or f"{label} and {results.label(against)} have no seed in common."
    area_gained, epochs_gained = learning.over_seeds(areas[1] - areas[2]), learning.over_seeds(epochs[1] - epochs[2])
    same = name == against
    return [
        Cell(label if same or against == results.reference else f"{label} over {results.label(against)}"),
        _percent(_last_quarter(results, name), notes, "One epoch." if curves else why),
        _percent(learning.over_seeds(areas[0]), notes, why),
        Cell(REFERENCE_MARK) if same else _signed(area_gained, notes, no_pair),
        _epochs(learning.over_seeds(epochs[0]), notes, why),
        Cell(REFERENCE_MARK) if same else _epochs(epochs_gained, notes, no_pair or why or why_not, signed),
    ]


def _last_quarter(results: DatasetNumbers, name: str) -> Interval:
    return learning.over_seeds(
        np.array([learning.last_quarter(curve) for curve in results.learned.get(name, {}).values()])
    )


def _level(results: DatasetNumbers) -> float:
    return learning.SHARE * float(np.mean([curve.max() for curve in results.learned[results.reference].values()]))


def _percent(found: Interval, notes: Notes, why: str) -> Cell:
    return number_cell(found.value, percent, notes, why, interval(found.low, found.high))


def _signed(found: Interval, notes: Notes, why: str) -> Cell:
    return number_cell(found.value, signed, notes, why, interval(found.low, found.high))


def _epochs(found: Interval, notes: Notes, why: str, write: Callable[[float], str] = percent) -> Cell:
    found = found._replace(value=found.value / 100)
    note = interval(found.low / 100, found.high / 100)
    return number_cell(found.value, write, notes, why, note)
