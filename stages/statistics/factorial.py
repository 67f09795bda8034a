"""A factorial experiment: what each of two fields does on its own, and together with the other.

With the mean of every cell m[a, b], the levels a of A and b of B, and the first level 0 as the field's absence:

    effect of a       = mean over b of (m[a, b] - m[0, b])
    effect of b       = mean over a of (m[a, b] - m[a, 0])
    interaction a x b = (m[a, b] - m[0, b]) - (m[a, 0] - m[0, 0])

Each is a sum of cells whose weights add to 0 (Montgomery, Design and Analysis of Experiments, chapter 5). An effect of
one field is its average over all levels of the other; an interaction says what a adds beside b more than without b.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from stages.runtime.params import Variant

FIELDS = ("vlba", "contrastive")
ABSENT = "none"
WITH_CONTRAST = ("contrastive_weight", "temperature")  # matter only where there is a contrast


@dataclass(frozen=True)
class Factorial:
    """A complete factorial of `FIELDS` among variants.

    Attributes:
        levels: the values of each field, `none` first, then in the listed order.
        cells: the values of both fields -> the variant.
    """

    levels: tuple[list[str], list[str]]
    cells: dict[tuple[str, str], str]


@dataclass(frozen=True)
class Effect:
    """A sum of cells; `levels` are the values of both fields that it is about, None where it averages over all."""

    levels: tuple[str | None, str | None]
    weights: dict[str, float]  # variant -> weight


def find(variants: Mapping[str, Variant]) -> Factorial | None:
    """The complete factorial with the most cells among variants; of equals the first in the listed order.

    Every combination of the levels, at least two for each field with `none` among them, is one variant. All else is
    equal; weight and temperature count only where there is a contrast.
    """
    groups: dict[str, dict[tuple[str, str], str]] = {}
    for settings in dict.fromkeys(_weighing(variant) for variant in variants.values() if _weighing(variant)):
        for name, variant in variants.items():
            if _weighing(variant) in (None, settings):
                rest = str(sorted(variant.model_dump(exclude={*FIELDS, *WITH_CONTRAST}).items()))
                groups.setdefault(f"{settings} {rest}", {}).setdefault((variant.vlba, variant.contrastive), name)
    found = [factorial for cells in groups.values() if (factorial := _complete(cells))]
    return max(found, key=lambda factorial: len(factorial.cells), default=None)


def effects(factorial: Factorial) -> list[Effect]:
    """Main effects of the first field, of the second, then the interactions."""
    first, second = factorial.levels
    found = [_effect(factorial, (a, None)) for a in first[1:]] + [_effect(factorial, (None, b)) for b in second[1:]]
    return found + [_effect(factorial, levels) for levels in product(first[1:], second[1:])]


def _effect(factorial: Factorial, levels: tuple[str | None, str | None]) -> Effect:
    """The outer product of what each field's levels weigh: one less the first, or the mean of all."""
    rows = [
        np.full(len(of_field), 1 / len(of_field))
        if level is None
        else np.array([float(other == level) - float(other == of_field[0]) for other in of_field])
        for level, of_field in zip(levels, factorial.levels, strict=True)
    ]
    weights = zip(product(*factorial.levels), np.outer(*rows).ravel(), strict=True)
    return Effect(levels, {factorial.cells[cell]: float(weight) for cell, weight in weights if weight})


def _complete(cells: dict[tuple[str, str], str]) -> Factorial | None:
    levels = tuple(_absent_first(list(dict.fromkeys(cell[place] for cell in cells))) for place in range(2))
    wanted = list(product(*levels))
    if min(map(len, levels)) < 2 or any(of_field[0] != ABSENT for of_field in levels) or set(wanted) != set(cells):
        return None
    return Factorial(levels, {cell: cells[cell] for cell in wanted})


def _absent_first(levels: list[str]) -> list[str]:
    return sorted(levels, key=lambda level: level != ABSENT)


def _weighing(variant: Variant) -> tuple | None:
    return None if variant.contrastive == "none" else tuple(getattr(variant, key) for key in WITH_CONTRAST)
