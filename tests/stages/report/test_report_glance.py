"""The first screen says what the tables say: which variant is best, by how much, and whether that is supported."""

import pytest

from stages.report.page import glance, headline
from stages.report.tables.table import ARROW
from tests.stages.report import report_inputs
from tests.stages.report.report_inputs import MEANS

MINUS = "\N{MINUS SIGN}"


def numbers(folder, means=MEANS, splits=("val", "testA", "testB"), missing=None, **experiment):
    changes = {key: experiment.pop(key) for key in ("images", "rising") if key in experiment}
    return report_inputs.numbers(report_inputs.params(folder, **experiment), means, splits, missing=missing, **changes)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_best_variant_with_its_leads(tmp_path):
    best = glance.glance(numbers(tmp_path)).best
    assert (best.variant, best.mean, best.where) == (
        "alignformer",
        "58.3 % [55.3, 61.3]",
        "on average over testA and testB",
    )
    assert best.leads == [
        ("baseline", True, "+3.3", "[0.3, 6.3]", "supported"),
        ("vlba", False, "+0.2", f"[{MINUS}2.8, 3.2]", "not supported"),
    ]


def test_the_best_variant_need_not_be_the_highlighted_one(tmp_path):
    best = glance.glance(numbers(tmp_path, {**MEANS, "vlba": 0.6})).best
    assert best.variant == "vlba" and not best.is_reference
    assert best.leads[1] == ("alignformer", False, "+1.7", f"[{MINUS}1.3, 4.7]", "not supported"), (
        "the pair the other way round"
    )


def test_the_reference_may_be_best(tmp_path):
    best = glance.glance(numbers(tmp_path, {**MEANS, "baseline": 0.7}, splits=("val", "testA"))).best
    assert (best.variant, best.is_reference, best.where) == ("baseline", True, "on testA")
    assert best.leads == [("alignformer", False, "+11.7", "[8.7, 14.7]", "supported")]


def test_a_pair_that_is_not_compared_has_no_verdict(tmp_path):
    best = glance.glance(numbers(tmp_path, {**MEANS, "text_to_pixel": 0.582})).best
    assert best.leads[1] == ("text_to_pixel", False, "+0.1", "", "not tested")


def test_each_part_with_the_means_on_both_sides(tmp_path):
    steps = glance.glance(numbers(tmp_path)).steps
    assert [(step.what, step.pair) for step in steps] == [
        ("bidirectional VLBA", "vlba over baseline"),
        ("instance contrast", "alignformer over vlba"),
    ]
    assert steps[0].changes == 2 * [("+3.1", "[0.1, 6.1]", "supported", f"55.0 {ARROW} 58.1", True)]
    assert steps[1].changes[0][:3] == ("+0.2", f"[{MINUS}2.8, 3.2]", "not supported")
    assert not steps[1].changes[0].supported


def test_the_parts_of_other_variants_stand_below_where_they_are_few(tmp_path, monkeypatch):
    others = glance.glance(numbers(tmp_path)).others
    assert [(step.what, step.pair) for step in others] == [
        ("text-to-pixel VLBA", "text_to_pixel over baseline"),
        ("pixel-to-text VLBA", "pixel_to_text over baseline"),
        ("pixel contrast", "vlba_pixel over vlba"),
    ]
    assert others[2].changes[0][:3] == (f"{MINUS}3.1", f"[{MINUS}6.1, {MINUS}0.1]", "a loss, supported")
    monkeypatch.setattr(headline, "PAIRS", 2)
    assert glance.glance(numbers(tmp_path)).others == []


def test_without_pairs_there_is_one_step(tmp_path):
    (step,) = glance.glance(numbers(tmp_path, variants=["baseline", "alignformer"])).steps
    assert step.pair == "alignformer over baseline"
    assert step.changes[0] == ("+3.3", "[0.3, 6.3]", "supported", f"55.0 {ARROW} 58.3", True)


def test_what_limits_the_numbers_is_said(tmp_path):
    found = glance.glance(numbers(tmp_path, seeds=[0], missing={"vlba_pixel": [0]}))
    assert found.seeds == "1 seed" and found.best.leads[0].verdict == ""
    assert "vlba_pixel has no scores" in " ".join(found.remarks).replace("VLBA + pixel contrast", "vlba_pixel")
    assert "No verdict on testA and testB: a verdict needs two or more seeds" in " ".join(found.remarks)
    assert glance.words([numbers(tmp_path, seeds=[0])]) == []


def test_one_variant_alone_is_not_best(tmp_path):
    found = glance.glance(numbers(tmp_path, variants=["baseline"], highlight="baseline"))
    assert found.best is None and found.steps == []
    assert found.remarks[0].startswith("baseline: mIoU of 55.0 [52.0, 58.0] on testA")


def test_the_words_are_those_of_the_verdicts(tmp_path):
    assert [word for word, _ in glance.words([numbers(tmp_path)])] == ["Supported", "Not supported", "Not tested"]
    with_smallest = numbers(tmp_path, smallest_effect=1.0)
    words = dict(glance.words([with_smallest]))
    assert "at most 5 in 100" in words["Supported"] and "smaller than 1 point," in words["Equivalent"]
    said = {change.verdict for step in glance.glance(with_smallest).steps for change in step.changes}
    assert said == {"better", "equivalent"}
    assert all(any(verdict in word.lower() for word in words) for verdict in said)
