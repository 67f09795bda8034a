from itertools import product

import numpy as np
import pytest

from stages.runtime.params import Variant
from stages.statistics import factorial

VLBA = ["none", "text_to_pixel", "pixel_to_text", "bidirectional"]
CONTRAST = ["none", "pixel", "instance"]


def variants() -> dict[str, Variant]:
    return {f"{a} {b}": Variant(vlba=a, contrastive=b) for a, b in product(VLBA, CONTRAST)}


def found() -> factorial.Factorial:
    result = factorial.find(variants())
    assert result is not None
    return result


def least_squares(means: dict[str, float]) -> dict[tuple, float]:
    """Effects of a linear model of the cells: sum-to-zero main effects, and interactions against the first levels."""
    y = np.array([means[f"{a} {b}"] for a, b in product(VLBA, CONTRAST)])
    main = [[1.0, *(a == x for x in VLBA[1:]), *(b == x for x in CONTRAST[1:])] for a, b in product(VLBA, CONTRAST)]
    both = [[float(a == x and b == z) for x, z in product(VLBA[1:], CONTRAST[1:])] for a, b in product(VLBA, CONTRAST)]
    additive = np.linalg.lstsq(np.array(main, dtype=float), y, rcond=None)[0][1:]
    full = np.linalg.lstsq(np.hstack([np.array(main, dtype=float), both]), y, rcond=None)[0][6:]
    keys = [*((a, None) for a in VLBA[1:]), *((None, b) for b in CONTRAST[1:])]
    return dict(zip([*keys, *product(VLBA[1:], CONTRAST[1:])], [*additive, *full], strict=True))


def values(means: dict[str, float]) -> dict[tuple, float]:
    return {
        effect.levels: sum(weight * means[name] for name, weight in effect.weights.items())
        for effect in factorial.effects(found())
    }


def test_effects_are_those_of_least_squares():
    means = dict(zip(variants(), np.random.default_rng(0).normal(size=12), strict=True))
    assert values(means) == pytest.approx(least_squares(means))


def test_additive_cells_have_no_interaction():
    means = {f"{a} {b}": 0.1 * i + 0.03 * j for (i, a), (j, b) in product(enumerate(VLBA), enumerate(CONTRAST))}
    assert [value for levels, value in values(means).items() if None not in levels] == pytest.approx([0] * 6)


def test_without_a_contrast_beside_no_vlba_there_is_no_factorial():
    assert factorial.find({name: variants()[name] for name in variants() if not name.startswith("none p")}) is not None
    only = {name: variants()[name] for name in variants() if name not in ("none pixel", "none instance")}
    assert factorial.find(only) is None


def test_weights_matter_only_where_there_is_a_contrast():
    one = {
        name: Variant(vlba=a, contrastive=b) for name, a, b in [("a", "none", "none"), ("b", "bidirectional", "none")]
    }
    one |= {name: Variant(vlba=v, contrastive="instance", contrastive_weight=0.1) for name, v in [("c", "none")]}
    other = Variant(vlba="bidirectional", contrastive="instance", contrastive_weight=0.2)
    assert factorial.find(one | {"d": other}) is None
    same = Variant(vlba="bidirectional", contrastive="instance", contrastive_weight=0.1)
    complete = factorial.find(one | {"d": other, "e": same})
    assert complete is not None
    assert complete.cells["bidirectional", "instance"] == "e"


def test_other_variants_may_stand_beside_the_factorial():
    more = variants()
    del more["pixel_to_text pixel"]
    more |= {"control": Variant(vlba="global_words", contrastive="none")}
    complete = factorial.find(more)
    assert complete is not None
    assert complete.levels == (["none", "text_to_pixel", "bidirectional"], CONTRAST)
    fewer = {name: more[name] for name in more if name not in ("none pixel", "text_to_pixel pixel")}
    complete = factorial.find(fewer)
    assert complete is not None
    assert complete.levels == (VLBA, ["none", "instance"])
    assert list(complete.cells.values()) == [f"{a} {b}" for a, b in product(VLBA, ["none", "instance"])]


def test_a_single_field_is_no_factorial():
    assert (
        factorial.find({name: variant for name, variant in variants().items() if variant.contrastive == "none"}) is None
    )
