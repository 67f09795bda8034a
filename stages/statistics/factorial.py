"""A factorial experiment: what each of two fields does on its own, and together with the other.

With the mean of every cell m[a, b], the levels a of A and b of B, and the first level 0 as the field's absence:

    effect of a       = mean over b of (m[a, b] - m[0, b])
    effect of b       = mean over a of (m[a, b] - m[a, 0])
    interaction a x b = (m[a, b] - m[0, b]) - (m[a, 0] - m[0, 0])

Each is a sum of cells whose weights add to 0 (Montgomery, Design and Analysis of Experiments, chapter 5). An effect of
one field is its average over all levels of the other; an interaction says what a adds beside b more than without b.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
import pandas as pd

from models.variant import CONTRAST_FIELDS
from stages.runtime.params import Variant
from stages.statistics import planning
from stages.statistics.bootstrap import NOTHING, Estimates, holm
from stages.statistics.comparison import CONTRAST, LARGEST_P, VLBA, Splits
from stages.statistics.planning import Error
from stages.statistics.scored import Scored

FIELDS = ("vlba", "contrastive")
ABSENT = "none"
SUPPORTED = f"p < {LARGEST_P} after Holm's adjustment for all effects of the factorial, within a split and metric"
COLUMNS = [
    *("dataset", "protocol", "split", "metric", *FIELDS, "what", "seeds"),
    *("difference", "difference_low", "difference_high", "images_error", "seeds_error", "degrees"),
    *("p", "p_holm", "no_verdict", "supported", "verdict"),
]


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

    @property
    def what(self) -> str:
        """Its name: the part of the method, or both parts of an interaction."""
        vlba, contrastive = self.levels
        parts = [VLBA[vlba, ABSENT]] if vlba else []
        parts += [CONTRAST[contrastive]] if contrastive else []
        return parts[0] if len(parts) == 1 else f"interaction of {' and '.join(parts)}"


def find(variants: Mapping[str, Variant]) -> Factorial | None:
    """The complete factorial with the most cells among variants; of equals the first in the listed order.

    Every combination of the levels, at least two for each field with `none` among them, is one variant. All else is
    equal; what describes the contrast counts only where there is one. Other variants may stand beside the factorial.
    """
    groups: dict[str, dict[tuple[str, str], str]] = {}
    for settings in dict.fromkeys(_weighing(variant) for variant in variants.values() if _weighing(variant)):
        for name, variant in variants.items():
            if _weighing(variant) in (None, settings):
                rest = str(sorted(variant.model_dump(exclude={*FIELDS, *CONTRAST_FIELDS}).items()))
                cells = groups.setdefault(f"{settings} {rest}", {})
                cells.setdefault((variant.vlba, variant.contrastive), name)
    found = (factorial for cells in groups.values() for factorial in _complete(cells))
    return max(found, key=lambda factorial: len(factorial.cells), default=None)


def effects(factorial: Factorial) -> list[Effect]:
    """Main effects of the first field, of the second, then the interactions."""
    first, second = factorial.levels
    found = [_effect(factorial, (a, None)) for a in first[1:]] + [_effect(factorial, (None, b)) for b in second[1:]]
    return found + [_effect(factorial, levels) for levels in product(first[1:], second[1:])]


def compare(
    scored: Scored, found: Splits, variants: Mapping[str, Variant], smallest_effect: float | None = None
) -> pd.DataFrame:
    """The effects of the factorial among the scored variants, a row for each split, metric and effect.

    The p-values of a split and metric are adjusted together, apart from those of pairs of variants.

    Args:
        found: `comparison.estimates` of the same scores.
        variants: what each listed variant is made of.
        smallest_effect: the smallest effect that matters, a fraction; None: there are no words for verdicts.

    Returns:
        `COLUMNS`; no row where there is no factorial. vlba and contrastive are the levels that the effect is about,
        empty where it averages over all; what names it; seeds are those that all of its cells have. The others are as
        `comparison.compare` has them, with the effect as the difference. Without a common seed there are no numbers.
    """
    factorial = find({name: variants[name] for name in scored.variants})
    if not factorial:
        return pd.DataFrame(columns=COLUMNS)
    rows = [
        {"dataset": scored.dataset, "protocol": scored.protocol.name, "split": split, "metric": metric, **row}
        for split, by_metric in found.items()
        for metric, estimates in by_metric.items()
        for row in _rows(estimates, effects(factorial), smallest_effect)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _rows(estimates: Estimates, about: list[Effect], smallest_effect: float | None) -> Iterator[dict]:
    intervals = [estimates.combination(effect.weights) or NOTHING for effect in about]
    adjusted = holm(np.array([interval.p for interval in intervals]))
    errors = [Error.of(interval) for interval in intervals]
    equivalent = [
        planning.p_equivalent(interval.value, error, smallest_effect)
        for interval, error in zip(intervals, errors, strict=True)
    ]
    found = zip(about, intervals, errors, adjusted, holm(np.array(equivalent)), strict=True)
    for effect, interval, error, p_holm, p_equivalent in found:
        supported = bool(p_holm < LARGEST_P)
        yield {
            **dict(zip(FIELDS, effect.levels, strict=True)),
            "what": effect.what,
            "seeds": len(estimates.common_seeds(*effect.weights)),
            **dict(zip(("difference", "difference_low", "difference_high", "p"), interval[:4], strict=True)),
            **dict(zip(("images_error", "seeds_error", "degrees"), error, strict=True)),
            "p_holm": p_holm,
            "no_verdict": "" if np.isnan(interval.value) else estimates.no_verdict(*effect.weights),
            "supported": supported,
            "verdict": planning.verdict(interval.value, supported, p_equivalent),
        }


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


def _complete(cells: dict[tuple[str, str], str]) -> Iterator[Factorial]:
    """The factorial of every choice of contrasts with all levels of VLBA that have each of them."""
    kinds, contrasts = (_absent_first(list(dict.fromkeys(cell[place] for cell in cells))) for place in range(2))
    for number in range(2, len(contrasts) + 1):
        for second in map(list, combinations(contrasts, number)):
            first = [kind for kind in kinds if all((kind, contrast) in cells for contrast in second)]
            if len(first) > 1 and first[0] == second[0] == ABSENT:
                yield Factorial((first, second), {cell: cells[cell] for cell in product(first, second)})


def _absent_first(levels: list[str]) -> list[str]:
    return sorted(levels, key=lambda level: level != ABSENT)


def _weighing(variant: Variant) -> tuple | None:
    return None if variant.contrastive == ABSENT else tuple(getattr(variant, key) for key in CONTRAST_FIELDS)
