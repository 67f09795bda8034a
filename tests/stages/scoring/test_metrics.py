"""Metrics against closed forms, loops in float64, pycocotools and scikit-learn."""

import numpy as np
import pandas as pd
import pytest
import torch
from pycocotools import mask as coco_mask
from sklearn.metrics import jaccard_score

from stages.scoring import metrics as evaluation
from stages.scoring.metrics import METRICS, iou
from stages.scoring.protocols import PROTOCOLS
from stages.scoring.score import score

ORIGINAL = PROTOCOLS["original"]


def summarise(scores: pd.DataFrame) -> dict[str, float]:
    return evaluation.summarise(scores, ORIGINAL)


def table(*pairs: tuple[int, int], **columns) -> pd.DataFrame:
    return pd.DataFrame(pairs, columns=["intersection", "union"], dtype="int64").assign(**columns)


def precisions(metrics: dict[str, float]) -> list[float]:
    return [metrics[f"Pr@{threshold}"] for threshold in (0.5, 0.6, 0.7, 0.8, 0.9)]


def test_two_expressions_in_closed_form():
    metrics = summarise(table((3, 4), (10, 100)))
    assert metrics["expressions"] == 2
    assert metrics["oIoU"] == 13 / 104
    assert metrics["mIoU"] == (0.75 + 0.1) / 2
    assert precisions(metrics) == [0.5, 0.5, 0.5, 0, 0]
    assert set(metrics) == {"expressions", "both_empty", *METRICS}


@pytest.mark.parametrize(("tenths", "passed"), [(5, 1), (6, 2), (7, 3), (8, 4), (9, 5)])
@pytest.mark.parametrize("scale", [1, 3, 7, 1000003])
def test_an_iou_exactly_at_a_threshold_passes(tenths, passed, scale):
    assert precisions(summarise(table((tenths * scale, 10 * scale)))) == [1.0] * passed + [0.0] * (5 - passed)
    assert precisions(summarise(table((tenths * scale - 1, 10 * scale)))).count(1.0) == passed - 1


def test_a_perfect_and_a_missed_mask():
    assert precisions(summarise(table((9, 9)))) == [1.0] * 5
    assert [summarise(table((0, 9)))[name] for name in METRICS] == [0.0] * 7


def test_both_masks_empty_is_an_iou_of_one():
    assert [summarise(table((0, 0)))[name] for name in METRICS] == [1.0] * 7
    metrics = summarise(table((0, 0), (1, 4)))
    assert metrics["oIoU"] == 0.25
    assert metrics["mIoU"] == 0.625
    assert metrics["both_empty"] == 1
    np.testing.assert_array_equal(iou(np.array([0, 0, 2]), np.array([0, 5, 2]), ORIGINAL), [1, 0, 1])


def test_integers_are_summed_exactly():
    """In float32 the small ones vanish beside 2^24, and in float64 beside 2^53."""
    large = 2**54
    metrics = summarise(table((large, large), *[(1, 3)] * 4))
    assert metrics["oIoU"] == (large + 4) / (large + 12)
    pairs = [(2**24, 2**24)] + [(1, 1)] * 1000 + [(0, 1)] * 1000
    metrics = summarise(table(*pairs))
    assert metrics["oIoU"] == (2**24 + 1000) / (2**24 + 2000)
    assert metrics["oIoU"] != np.float32(2**24) / np.float32(2**24)
    assert metrics["mIoU"] == 1001 / 2001


@pytest.mark.parametrize("kind", ["uint8", "int16", "int32", "uint64"])
def test_narrow_integers_do_not_overflow(kind):
    scores = pd.DataFrame({"intersection": [200, 100, 100], "union": [200, 120, 110]})
    scores = scores.astype(kind) if kind != "uint8" else scores.clip(upper=120).astype(kind)
    total = scores.astype("int64").sum()
    assert summarise(scores)["oIoU"] == total["intersection"] / total["union"]


def test_a_loop_in_float64_and_the_libraries_agree():
    """Random masks from sparse to full, one pair of them empty."""
    random = np.random.default_rng(0)
    truths, predictions, expected = [], [], []
    for sample in range(60):
        truth = random.random((9, 13)) < random.random()
        prediction = np.where(random.random((9, 13)) < random.random(), truth, random.random((9, 13)) < 0.5)
        if sample == 0:
            truth, prediction = np.zeros((2, 9, 13), dtype=bool)
        truths.append(truth)
        predictions.append(prediction)
        if sample > 0:
            expected.append(jaccard_score(truth.ravel(), prediction.ravel()))
    pairs = []
    for truth, prediction in zip(truths, predictions, strict=True):
        both = [int(t and p) for t, p in zip(truth.ravel(), prediction.ravel(), strict=True)]
        either = [int(t or p) for t, p in zip(truth.ravel(), prediction.ravel(), strict=True)]
        pairs.append((sum(both), sum(either)))
    scores = table(*pairs)
    found = iou(scores["intersection"].to_numpy(), scores["union"].to_numpy(), ORIGINAL)
    np.testing.assert_allclose(found[1:], expected, rtol=1e-15)

    codes = [
        [coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)) for mask in masks] for masks in (truths, predictions)
    ]
    library = [coco_mask.iou([p], [t], [False])[0, 0] for t, p in zip(*codes, strict=True)]
    np.testing.assert_allclose(found[1:], library[1:], rtol=1e-15)
    merged = [coco_mask.merge([t, p], intersect=True) for t, p in zip(*codes, strict=True)]
    joined = [coco_mask.merge([t, p], intersect=False) for t, p in zip(*codes, strict=True)]
    np.testing.assert_array_equal(coco_mask.area(merged), scores["intersection"])
    np.testing.assert_array_equal(coco_mask.area(joined), scores["union"])

    metrics = summarise(scores)
    ious = [1.0, *expected]
    assert metrics["oIoU"] == sum(i for i, _ in pairs) / sum(u for _, u in pairs)
    assert metrics["mIoU"] == pytest.approx(sum(ious) / len(ious), rel=1e-14)
    for threshold in (0.5, 0.6, 0.7, 0.8, 0.9):
        passed = sum(value >= threshold for value in ious)
        assert metrics[f"Pr@{threshold}"] == passed / len(ious)
    assert metrics["Pr@0.5"] > metrics["Pr@0.9"] > 0


def test_the_order_of_expressions_does_not_matter():
    scores = table((1, 3), (5, 7), (0, 11), (13, 13))
    assert summarise(scores) == pytest.approx(summarise(scores.iloc[::-1]))


def test_splits_are_kept_apart_and_in_order():
    scores = table((1, 2), (3, 3), (0, 5), split=["testB", "val", "testB"])
    metrics = evaluation.summarise_splits(scores, ORIGINAL)
    assert list(metrics) == ["testB", "val"]
    assert metrics["testB"]["oIoU"] == 1 / 7
    assert metrics["val"]["mIoU"] == 1


def test_scores_that_cannot_be_are_errors():
    with pytest.raises(ValueError, match="no expression"):
        summarise(table())
    for pair in ((5, 4), (-1, 4), (-2, -1)):
        with pytest.raises(ValueError, match="0 <= I <= U"):
            summarise(table((1, 2), pair))
    for kind in ("float64", "float32", "bool"):
        with pytest.raises(ValueError, match="must be integers"):
            summarise(table((1, 1)).astype(kind))


class Scripted(torch.nn.Module):
    """Answers prepared logits, in order."""

    device = torch.device("cpu")

    def __init__(self, logits: torch.Tensor):
        super().__init__()
        self.answers = iter(logits)

    def forward(self, image_ids, **_):
        return type("Output", (), {"logits": torch.stack([next(self.answers) for _ in image_ids])})


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_scores_are_counted_at_the_original_size(squares, batch_size):
    """I and U of each expression against pycocotools on the predicted masks and the true ones."""
    expressions = squares.expressions("val")
    logits = torch.randn(len(expressions), 32, 32, generator=torch.Generator().manual_seed(0))
    model = Scripted(logits).train()
    scores = score(model, expressions, ORIGINAL, batch_size)

    assert not model.training
    rows = squares.prepared.split("val")
    for column in ("sent_id", "ref_id", "ann_id", "image_id", "split"):
        assert scores[column].tolist() == rows[column].tolist()
    assert scores["intersection"].dtype == scores["union"].dtype == "int64"
    for row, ann_id in enumerate(rows["ann_id"]):
        instance = squares.prepared.instances.loc[ann_id]
        size = [int(instance["height"]), int(instance["width"])]
        truth, prediction = (
            {"size": size, "counts": counts.encode()} for counts in (instance["mask"], scores["prediction"][row])
        )
        resized = torch.nn.functional.interpolate(logits[row][None, None].double(), size=size, mode="bilinear")[0, 0]
        np.testing.assert_array_equal(coco_mask.decode(prediction), (resized.sigmoid() > 0.5).numpy())
        assert scores["intersection"][row] == coco_mask.area(coco_mask.merge([truth, prediction], intersect=True))
        assert scores["union"][row] == coco_mask.area(coco_mask.merge([truth, prediction]))
        assert scores["iou"][row] == coco_mask.iou([prediction], [truth], [False])[0, 0]
