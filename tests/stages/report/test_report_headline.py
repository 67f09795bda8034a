"""The result in words is what the numbers say: gains, losses, what is not supported, what is missing."""

import re

import pytest

from stages.report.page import headline
from stages.statistics.evidence import FEWEST_IMAGES
from tests.stages.report import report_inputs
from tests.stages.report.report_inputs import MEANS

MINUS = "\N{MINUS SIGN}"


def numbers(folder, means=MEANS, splits=("val", "testA"), missing=None, **experiment):
    return report_inputs.numbers(report_inputs.params(folder, **experiment), means, splits, missing=missing)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_parts_of_the_method_one_after_the_other(tmp_path):
    results = numbers(tmp_path)
    assert headline.headline(results) == (
        "Bidirectional VLBA: +3.1 mIoU over the variant without it on testA [0.1, 6.1], supported. "
        f"Instance contrast: +0.2 on testA [{MINUS}2.8, 3.2], not supported (2 seeds)."
    )
    others, details = headline.other_parts(results), headline.details(results)
    assert others.startswith(
        f"Text-to-pixel VLBA: +1.0 on testA [{MINUS}2.0, 4.0], not supported. Pixel-to-text VLBA: 0.0 on testA "
        f"[{MINUS}3.0, 3.0], not supported. Pixel contrast: {MINUS}3.1 on testA [{MINUS}6.1, {MINUS}0.1], a loss, "
        "supported. Where the epoch was chosen: Bidirectional VLBA: +3.1 on val [0.1, 6.1], supported. Instance"
    )
    assert "Highest mean: alignformer on testA, 58.3 [55.3, 61.3]." in details
    assert "One seed" not in details


def test_the_headline_is_about_all_splits_that_chose_nothing(tmp_path):
    said = headline.headline(numbers(tmp_path, splits=("val", "testA", "testB")))
    assert said.startswith(
        "Bidirectional VLBA: +3.1 mIoU over the variant without it on testA [0.1, 6.1], supported; +3.1 on testB "
        "[0.1, 6.1], supported. Instance contrast: +0.2 on testA"
    )
    alone = numbers(tmp_path, splits=("val",))
    chosen = "(2 seeds). The best epoch of each run was chosen on val, so numbers there are a little too good."
    assert headline.headline(alone).endswith(chosen)
    assert "Where the epoch was chosen" not in headline.other_parts(alone)


def test_the_rows_of_what_is_stated_are_the_numbers_of_the_sentences(tmp_path):
    results = numbers(tmp_path, {**MEANS, "pixel_to_text": 0.5}, splits=("val", "testA", "testB"))
    rows = headline.stated(results, "mIoU")
    numbers_in = re.compile(
        r"([^. ]?\d+\.\d)(?: mIoU over the variant without it)? on (test[AB]) "
        r"\[(\S+), (\S+)\], ((?:a loss, |not )?supported)"
    )
    others = headline.other_parts(results).split("Where")[0]
    for in_headline, text in ((True, headline.headline(results)), (False, others)):
        written = [
            tuple(float(part.replace(MINUS, "-")) if at in (0, 2, 3) else part for at, part in enumerate(found))
            for found in numbers_in.findall(text)
        ]
        wanted = rows[rows["headline"] == in_headline]
        values = (100 * wanted[["difference", "difference_low", "difference_high"]]).round(1)
        assert written == [
            (value, split, low, high, verdict)
            for (value, low, high), split, verdict in zip(
                values.to_numpy(), wanted["split"], wanted["verdict"], strict=True
            )
        ]
        assert len(written) == (4 if in_headline else 6)
    alone = numbers(
        tmp_path, {name: MEANS[name] for name in ("baseline", "alignformer")}, variants=["baseline", "alignformer"]
    )
    assert headline.stated(alone, "mIoU")[["headline", "what", "split", "verdict"]].to_numpy().tolist() == [
        [True, "alignformer over baseline", "testA", "supported"]
    ]


def test_a_loss_is_called_one(tmp_path):
    results = numbers(tmp_path, {**MEANS, "vlba": 0.50, "alignformer": 0.45})
    assert headline.headline(results) == (
        f"Bidirectional VLBA: {MINUS}5.0 mIoU over the variant without it on testA [{MINUS}8.0, {MINUS}2.0], a loss, "
        f"supported. Instance contrast: {MINUS}5.0 on testA [{MINUS}8.0, {MINUS}2.0], a loss, supported (2 seeds)."
    )
    details = headline.details(results)
    assert f"Below baseline, supported: vlba on val ({MINUS}5.0), vlba on testA ({MINUS}5.0), alignformer on" in details


def test_nothing_changes(tmp_path):
    results = numbers(tmp_path, dict.fromkeys(MEANS, 0.5))
    assert f"Instance contrast: 0.0 on testA [{MINUS}3.0, 3.0], not supported" in headline.headline(results)
    assert "does not mean that there is no difference" in headline.details(results)


def test_an_interval_without_zero_that_is_not_supported_is_explained(tmp_path):
    settings = report_inputs.params(tmp_path)
    few = report_inputs.numbers(settings, {**MEANS, "text_to_pixel": 0.59}, supported=0.05)
    assert "the adjustment for several comparisons is the reason" in headline.details(few)
    assert "the adjustment for several" not in headline.details(numbers(tmp_path))


def test_one_seed_gives_no_verdict_and_says_what_is_needed(tmp_path):
    results = numbers(tmp_path, seeds=[3])
    said, details = headline.headline(results), headline.details(results)
    assert said == (
        "Bidirectional VLBA: +3.1 mIoU over the variant without it on testA [0.1, 6.1]. Instance contrast: +0.2 on "
        f"testA [{MINUS}2.8, 3.2] (one seed). No verdict on testA: a verdict needs two or more seeds that the variants "
        "share; the interval is of the images alone."
    )
    assert "One seed cannot show which differences another seed would repeat" in details
    assert "upported" not in said + details and "Highest" not in details


def test_too_few_images_give_no_verdict(tmp_path):
    settings = report_inputs.params(tmp_path)
    results = report_inputs.numbers(settings, MEANS, ("val", "testA", "testB"), images={"testA": 1})
    said = headline.headline(results)
    assert said.startswith(
        "Bidirectional VLBA: +3.1 mIoU over the variant without it on testA; +3.1 on testB [0.1, 6.1], "
    )
    assert f"No verdict on testA: a verdict needs {FEWEST_IMAGES} or more images (here 1)." in said
    assert "Highest mean: alignformer on testB, 58.3 [55.3, 61.3]." in headline.details(results)


def test_without_pairs_it_is_the_difference_to_the_reference(tmp_path):
    results = numbers(tmp_path, variants=["baseline", "alignformer"])
    assert (
        headline.headline(results) == "alignformer: +3.3 mIoU over baseline on testA [0.3, 6.3], supported (2 seeds)."
    )
    others = headline.other_parts(results)
    assert others == "Where the epoch was chosen: alignformer: +3.3 on val [0.3, 6.3], supported."


def test_one_variant_alone(tmp_path):
    results = numbers(tmp_path, variants=["baseline"], highlight="baseline")
    assert headline.headline(results) == (
        "baseline: mIoU of 55.0 [52.0, 58.0] on testA; no other variant is listed, so there is no difference."
    )
    assert headline.other_parts(results) == headline.details(results) == ""


def test_missing_runs_are_named(tmp_path):
    missing = {"alignformer": [0, 1], "vlba": [1]}
    results = numbers(tmp_path, missing=missing, highlight="vlba_pixel")
    said = headline.headline(results)
    assert said.startswith("Bidirectional VLBA: +3.1")
    assert "vlba has scores of 1 of 2 seeds: seed 1 failed or did not run." in said
    assert "alignformer has no scores: seeds 0, 1 failed or did not run." in said
    assert "nan" not in said + headline.other_parts(results) + headline.details(results)


def test_params_choose_the_variant_and_not_its_place_in_the_list(tmp_path):
    results = numbers(tmp_path, highlight="text_to_pixel")
    assert results.highlight == "text_to_pixel"
    assert headline.headline(results) == (
        f"Text-to-pixel VLBA: +1.0 mIoU over the variant without it on testA [{MINUS}2.0, 4.0], not supported "
        "(2 seeds)."
    )
    others = headline.other_parts(results)
    assert others.startswith("Pixel-to-text VLBA: 0.0") and "chosen: Text-to-pixel VLBA: +1.0" in others


def test_without_scores_of_the_highlighted_variant_it_is_the_reference_and_says_so(tmp_path):
    results = numbers(tmp_path, missing={"alignformer": [0, 1]})
    assert results.highlight == "baseline"
    assert headline.headline(results) == (
        "The highlighted variant alignformer has no scores, so this is about the reference baseline: mIoU of "
        "55.0 [52.0, 58.0] on testA. alignformer has no scores: seeds 0, 1 failed or did not run."
    )
    others = headline.other_parts(results)
    assert others.startswith("Text-to-pixel VLBA: +1.0") and "Bidirectional VLBA: +3.1" in others
    assert "Where the epoch" not in others and "nan" not in others


def test_the_reference_may_be_highlighted(tmp_path):
    said = headline.headline(numbers(tmp_path, highlight="baseline"))
    assert said == (
        "baseline: mIoU of 55.0 [52.0, 58.0] on testA; it is both the highlighted variant and the reference, so "
        "there is no difference."
    )


def test_a_part_that_several_pairs_share_names_them(tmp_path):
    content = report_inputs.params(tmp_path)
    hot = content.variants["alignformer"].model_copy(update={"temperature": 0.1})
    variants = [*content.experiment.variants, "hot"]
    settings = content.model_copy(
        update={
            "variants": {**content.variants, "hot": hot},
            "experiment": content.experiment.model_copy(update={"variants": variants, "highlight": "hot"}),
        }
    )
    said = headline.headline(report_inputs.numbers(settings, {**MEANS, "hot": 0.6}))
    assert "Instance contrast, hot over vlba: +1.9" in said


def test_the_metric_is_the_protocols(tmp_path):
    assert "+3.1 oIoU over the variant without it" in headline.headline(numbers(tmp_path, protocol="lavt"))
