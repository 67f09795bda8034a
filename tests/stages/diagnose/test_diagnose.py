"""The diagnosis against scikit-learn, SciPy, closed forms and evaluate itself, and the command on a tiny model."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from scipy.ndimage import distance_transform_cdt
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, brier_score_loss
from torch.nn import functional as F

from models.frames import Letterbox, Stretch
from stages.attention.shares import look_inside
from stages.data import prepared
from stages.data.prepared import boxes_of
from stages.data.samples import Expressions
from stages.diagnose import __main__ as command
from stages.diagnose import closeup
from stages.diagnose import diagnosis as stage
from stages.diagnose.alignment import COLUMNS, average_precision, measured, summarise
from stages.diagnose.calibration import THRESHOLDS, Calibration, best_threshold
from stages.diagnose.predictions import GridPrediction, predictions
from stages.diagnose.regions import regions, regions_by_row, ring_width
from stages.runtime import layout
from stages.scoring.protocols import PROTOCOLS
from stages.scoring.score import frame, score

GRID = (8, 8)
FILES = {
    "alignment.parquet": ["sent_id", "image_id", "split", *COLUMNS],
    "calibration.csv": ["split", "low", "high", "pixels", "probability", "inside"],
    "thresholds.csv": ["split", "threshold", "mIoU", "oIoU"],
    "samples.csv": ["sent_id", "image_id", "ann_id", "text", "words", "variance_x", "variance_y"],
    "embedding.parquet": ["sent_id", "row", "column", "x", "y", "kind", "distractor", "similarity"],
    "attention.parquet": ["sent_id", "level", "direction", "word_index", "word", "row", "column", "share"],
}


@pytest.fixture(scope="module")
def squares(shared_squares):
    instances = shared_squares.prepared.instances.reset_index()
    shared_squares.prepared = replace(shared_squares.prepared, boxes=boxes_of(instances))
    return shared_squares


# Alignment


def test_a_small_average_precision_in_closed_form():
    """Ranks 1, 3 and 4 are inside: precisions 1, 2/3 and 3/4."""
    inside = np.array([True, False, True, True, False])
    assert average_precision(np.array([0.9, 0.8, 0.7, 0.6, -1]), inside) == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert average_precision(np.zeros(5), inside) == pytest.approx(3 / 5)


@pytest.mark.parametrize("values", [3, 40, 10**9])
def test_average_precision_is_that_of_scikit_learn(values):
    """Few values: many cells score the same."""
    random = np.random.default_rng(values)
    for size in (2, 7, 256):
        scores = (random.integers(values, size=size) / values).astype(np.float32)
        inside = random.permutation(np.arange(size) < max(1, size // 5))
        assert average_precision(scores, inside) == pytest.approx(average_precision_score(inside, scores), abs=1e-12)


def test_average_precision_needs_an_inside_and_an_outside():
    assert np.isnan(average_precision(np.arange(3.0), np.ones(3, dtype=bool)))
    assert np.isnan(average_precision(np.arange(3.0), np.zeros(3, dtype=bool)))
    assert np.isnan(average_precision(np.array([]), np.array([], dtype=bool)))


def test_alignment_of_a_model_is_that_of_its_output(squares):
    model, expressions = squares.model(), squares.expressions("val")
    by_row = regions_by_row(squares.prepared, expressions)
    found = {prediction.row: prediction for prediction in predictions(model, expressions, 4)}
    assert sorted(found) == [0, 1, 2, 3]
    for row, prediction in found.items():
        batch = expressions[[row]]
        with torch.no_grad():
            output = model(**batch.inputs(torch.device("cpu")))
        similarity = output.similarity[0].numpy()
        shares = F.avg_pool2d(batch.masks.float(), 4)[0].numpy()
        where = by_row(row, GRID)
        values = measured(prediction, where)
        assert values["base"] == pytest.approx((shares >= 0.5).mean())
        expected = average_precision_score((shares >= 0.5).ravel(), similarity.ravel())
        assert values["ap"] == pytest.approx(expected, abs=1e-4)
        inside, score_in_ring = (shares >= 0.5)[where.ring], similarity[where.ring]
        assert values["ap_ring"] == pytest.approx(average_precision_score(inside, score_in_ring), abs=1e-4)
        upsampled = F.interpolate(torch.from_numpy(prediction.grouping)[None, None], size=(32, 32), mode="bilinear")
        torch.testing.assert_close(upsampled[0, 0], output.logits[0])
    assert not model.grouping._forward_hooks


def test_means_leave_out_what_is_undefined_and_say_so():
    table = pd.DataFrame({name: [0.25, 0.75, np.nan] for name in COLUMNS}).assign(ap_ring=np.nan)
    summary = summarise(table)
    assert summary["ap"] == summary["logit_ap_distractors"] == 0.5 and summary["ap_ring"] is None
    assert (summary["expressions"], summary["expressions_ring"], summary["undefined"]) == (2, 0, 1)


# Regions


def test_the_ring_is_what_lies_within_its_width_of_the_other_side():
    """A disc that the image's edge cuts, on a fine grid; distances by SciPy."""
    rows, columns = np.indices((120, 120))
    disc = (rows - 90) ** 2 + (columns - 100) ** 2 < 30**2
    found = regions(disc, np.zeros_like(disc), Stretch(120), (120, 120))
    width = ring_width((120, 120))
    assert width == 3  # 2 % of 169.7
    to_outside, to_inside = (distance_transform_cdt(area, "chessboard") for area in (disc, ~disc))
    np.testing.assert_array_equal(found.inside, disc)
    np.testing.assert_array_equal(found.ring, np.where(disc, to_outside, to_inside) <= width)
    assert found.image.all() and not found.distractors.any()


def test_no_ring_is_thinner_than_a_cell():
    assert [ring_width((side, side)) for side in (8, 16, 56, 120)] == [1, 1, 2, 3]


def test_a_cell_is_inside_from_half_of_its_area_on():
    mask = np.zeros((16, 16), dtype=bool)
    mask[0:2, 0:4] = True  # half of a cell
    mask[4:8, 4:6] = True
    mask[5, 5] = False  # 7 of 16 pixels
    assert regions(mask, np.zeros_like(mask), Stretch(16), (4, 4)).inside.nonzero() == ([0], [0])


def test_distractors_are_the_other_squares_less_the_true_mask(squares):
    """Their boxes are their masks here. Image 1 is 40 x 60 pixels: seen through the frame as the masks are."""
    expressions = squares.expressions("val")
    by_row = regions_by_row(squares.prepared, expressions)
    for row, ann_id in enumerate(expressions.rows["ann_id"]):
        found = by_row(row, GRID)
        (other,) = (other for other in squares.masks if other != ann_id and other // 10 == ann_id // 10)
        area = torch.from_numpy(expressions.frame.mask(squares.masks[other])).float()
        expected = (F.avg_pool2d(area[None], 4)[0] >= 0.5).numpy() & ~found.inside
        np.testing.assert_array_equal(found.distractors, expected)
        assert found.distractors.any() and not (found.distractors & found.inside).any()
        np.testing.assert_array_equal(found.compared["_distractors"], found.inside | found.distractors)


def test_things_of_other_categories_are_no_distractors(squares):
    boxes = squares.prepared.boxes.assign(category=["square", "disc", "square", "square"])
    expressions = squares.expressions("val")
    by_row = regions_by_row(replace(squares.prepared, boxes=boxes), expressions)
    assert [by_row(row, GRID).distractors.any() for row in range(4)] == [False, False, True, True]
    flat = GridPrediction(0, np.zeros(GRID), np.zeros(GRID), torch.zeros(32, 32))
    assert np.isnan(measured(flat, by_row(0, GRID))["ap_distractors"])
    assert np.isnan(measured(flat, by_row(0, GRID))["base_distractors"])
    alike = measured(flat, by_row(2, GRID))
    assert alike["ap_distractors"] == pytest.approx(alike["base_distractors"])


def test_the_border_that_a_letterbox_adds_is_not_measured():
    mask = np.zeros((20, 40), dtype=bool)
    mask[:, :20] = True
    found = regions(mask, ~mask, Letterbox(40), (8, 8))
    np.testing.assert_array_equal(found.image.sum(axis=1), [0, 0, 8, 8, 8, 8, 0, 0])
    np.testing.assert_array_equal(found.inside.sum(axis=1), [0, 0, 4, 4, 4, 4, 0, 0])
    np.testing.assert_array_equal(found.ring[2:6].sum(axis=0), [0, 0, 0, 4, 4, 0, 0, 0])
    assert not found.ring[[0, 1, 6, 7]].any()
    np.testing.assert_array_equal(found.distractors, found.image & ~found.inside)


# Calibration


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_cuts_at_a_threshold_of_the_curve(name):
    assert PROTOCOLS[name].threshold in THRESHOLDS


@pytest.mark.parametrize("name", PROTOCOLS)
def test_at_the_threshold_of_the_protocol_the_curve_is_what_evaluate_says(squares, name):
    """I and U of every expression, under every protocol."""
    protocol, model = PROTOCOLS[name], squares.model()
    expressions = Expressions(squares.prepared, squares.prepared.split("val"), squares.processor, frame(protocol))
    calibration = calibration_of(model, expressions, protocol)
    expected = score(model, expressions, protocol, batch_size=4)
    at = list(THRESHOLDS).index(protocol.threshold)
    intersection, union = calibration.counts()[:, at]
    assert intersection.tolist() == expected["intersection"].tolist()
    assert union.tolist() == expected["union"].tolist()
    assert calibration.curve()["mIoU"][at] == expected["iou"].mean()
    assert calibration.pixels.sum() == (expected["height"] * expected["width"]).sum()


def calibration_of(model, expressions, protocol) -> Calibration:
    calibration = Calibration(protocol, expressions.frame)
    for found in predictions(model, expressions, 4):
        calibration.add(found.row, found.logits, expressions.true_mask(found.row))
    return calibration


def test_calibration_is_that_of_scikit_learn(squares):
    """All pixels of all expressions at once, at the original size."""
    model, protocol, expressions = squares.model(), PROTOCOLS["original"], squares.expressions("val")
    model.grouping.weight.weight.data *= 30  # probabilities from 0 to 1, not all near one half
    calibration = calibration_of(model, expressions, protocol)
    probabilities, truths = [], []
    for found in sorted(predictions(model, expressions, 4), key=lambda found: found.row):
        truth = expressions.true_mask(found.row)
        logits = F.interpolate(found.logits[None, None].double(), size=truth.shape, mode="bilinear")
        probabilities.append(logits.sigmoid().flatten().numpy())
        truths.append(truth.ravel())
    p, y = np.concatenate(probabilities), np.concatenate(truths)
    assert p.min() < 0.05 and p.max() > 0.95
    inside, probability = calibration_curve(y, p, n_bins=20)
    bins = calibration.bins()
    filled = bins[bins["pixels"] > 0]
    np.testing.assert_allclose(filled["inside"], inside, atol=1e-3)
    np.testing.assert_allclose(filled["probability"], probability, atol=1e-4)
    assert bins["pixels"].sum() == len(p)
    assert calibration.brier == pytest.approx(brier_score_loss(y, p), abs=1e-6)
    weights = np.histogram(p, bins=20, range=(0, 1))[0]
    weights = weights[weights > 0] / len(p)
    assert calibration.expected_error == pytest.approx((weights * abs(inside - probability)).sum(), abs=1e-4)
    by_hand = [np.mean([iou(q > t, m) for q, m in zip(probabilities, truths, strict=True)]) for t in THRESHOLDS]
    np.testing.assert_allclose(calibration.curve()["mIoU"], by_hand, atol=2e-3)
    assert best_threshold([calibration]) == THRESHOLDS[calibration.curve()["mIoU"].argmax()]


def iou(predicted: np.ndarray, truth: np.ndarray) -> float:
    return (predicted & truth).sum() / (predicted | truth).sum()


def test_a_probability_at_the_end_of_a_bin_does_not_exceed_its_threshold():
    calibration = Calibration(PROTOCOLS["original"], Stretch(2))
    calibration.add(0, torch.tensor([[0.0, 1e-6], [20.0, -20.0]]), np.array([[True, False], [True, False]]))
    assert calibration.bins()["pixels"].to_numpy().nonzero()[0].tolist() == [0, 9, 10, 19]
    at_half = list(THRESHOLDS).index(0.5)
    assert calibration.counts()[:, at_half, 0].tolist() == [1, 3]
    assert np.isnan(calibration.bins()["inside"][5])
    assert calibration.bins()["inside"][[0, 9, 10, 19]].tolist() == [0, 1, 0, 1]


# Samples from close up


def test_the_samples_follow_from_the_dataset_alone():
    rows = pd.DataFrame(
        {
            "sent_id": range(60),
            "image_id": np.repeat(np.arange(100, 120), 3),
            "text": ["the red one", "the red one there", "the big red one"] * 20,
        }
    )
    chosen = closeup.choose(rows)
    assert chosen["image_id"].tolist() == [101, 105, 108, 111, 115, 118]
    assert set(chosen["text"]) == {"the red one there"}  # the most words, the first of them
    pd.testing.assert_frame_equal(closeup.choose(rows.sample(frac=1, random_state=0)), chosen)
    assert closeup.choose(rows.head(6))["image_id"].tolist() == [100, 101]


def test_the_map_of_embeddings_is_the_plane_of_the_first_two_singular_vectors(squares):
    model, expressions = squares.model(), squares.expressions("val")
    batch = expressions[[0, 1]]
    found = look_inside(model, batch.inputs(model.device))
    with torch.no_grad():
        output = model(**batch.inputs(torch.device("cpu")))
    torch.testing.assert_close(found.similarity, output.similarity)
    where = regions_by_row(squares.prepared, expressions)(1, GRID)
    table, variance = closeup.embedding_map(found.pixels[1], found.center[1], found.similarity[1], where)
    assert len(table) == 8 * 8 + 1
    assert (table["kind"] == "inside").sum() == where.inside.sum()
    assert table["distractor"].sum() == where.distractors.sum()

    vectors, center = found.pixels[1].flatten(0, 1).double().numpy(), found.center[1].double().numpy()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(vectors @ center, table["similarity"][:-1], atol=1e-6)
    _, sizes, axes = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    plane = (np.vstack([vectors, center]) - vectors.mean(axis=0)) @ axes[:2].T
    np.testing.assert_allclose(abs(table[["x", "y"]]), abs(plane), atol=1e-6)
    np.testing.assert_allclose(variance, (sizes**2 / (sizes**2).sum())[:2])


# The whole way


@pytest.fixture
def project(squares, small_params, tmp_path, monkeypatch) -> Path:
    """A folder with `params.yaml`, the squares as the prepared dataset `scenes` and two untrained models."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    Path("params.yaml").write_text(yaml.safe_dump(small_params))
    data = squares.prepared
    prepared.write(layout.prepared("scenes"), data.expressions, data.instances.reset_index(), {"name": "scenes"})
    for variant, changes in (("baseline", {"vlba": "none", "contrastive": "none"}), ("alignformer", {})):
        squares.model(**changes).save_pretrained(layout.model("scenes", variant, 0))
        squares.processor.save_pretrained(layout.model("scenes", variant, 0))
    threads = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(threads)


def run_command(monkeypatch, variant: str) -> None:
    monkeypatch.setattr(sys, "argv", ["diagnose", "--dataset", "scenes", "--variant", variant, "--seed", "0"])
    command.main()


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)


def test_a_split_whose_masks_are_all_empty_is_told_as_such():
    aligned = {
        "val": dict.fromkeys(("ap", "logit_ap", "base")),
        "testA": {"ap": 0.5, "logit_ap": 0.25, "base": 0.125},
    }
    calibration = {split: {"expected_error": 0.03} for split in aligned}
    assert stage.told({"alignment": aligned, "calibration": calibration}) == [
        "val: no ap, as no true mask has pixels both inside and outside, calibration error 0.0300",
        "testA: ap 0.5000, logit_ap 0.2500, base 0.1250, calibration error 0.0300",
    ]


def test_the_command_writes_everything_and_the_same_again(project, squares, monkeypatch, capsys):
    chosen = {}
    for variant in ("baseline", "alignformer"):
        folder = layout.diagnosis("scenes", variant, 0)
        run_command(monkeypatch, variant)
        content = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert set(content) == {*FILES, "summary.json"}
        for name, columns in FILES.items():
            assert list(read(folder / name)) == columns
        run_command(monkeypatch, variant)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == content
        chosen[variant] = read(folder / "samples.csv")[["sent_id", "text", "words"]]
        embedding = read(folder / "embedding.parquet")
        assert embedding.groupby("sent_id").size().tolist() == [8 * 8 + 1] * 2
        assert read(folder / "attention.parquet").empty == (variant == "baseline")
        assert read(folder / "alignment.parquet")["ap"].between(0, 1).all()
    pd.testing.assert_frame_equal(chosen["baseline"], chosen["alignformer"])
    assert chosen["baseline"]["words"].str.startswith("[CLS] the ").all()
    assert "val: ap 0." in capsys.readouterr().out


def test_the_summary_of_a_run(project, squares, monkeypatch):
    run_command(monkeypatch, "alignformer")
    folder = layout.diagnosis("scenes", "alignformer", 0)
    summary, model = json.loads((folder / "summary.json").read_text()), squares.model()
    nothing = dict.fromkeys(["train", *squares.prepared.evaluation_splits], 0)
    assert summary["cut_expressions"] == summary["vanished_masks"] == nothing
    assert (summary["protocol"], summary["image_size"], summary["words"]) == ("original", 32, 8)
    assert (summary["grid"], summary["ring_width"]) == ([8, 8], 1)
    assert summary["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert summary["flops"] == sum(part["flops"] for part in summary["parts"].values())
    assert summary["parts"]["center"] == {"parameters": 2 * 16 + 2 * (16 * 16 + 16), "flops": 2 * 2 * 16 * 16}
    projected = 8 * 8 + 1  # pixels and center
    assert summary["parts"]["projection"] == {"parameters": 16 * 16 + 16, "flops": 2 * projected * 16 * 16}

    curve = read(folder / "thresholds.csv").set_index("threshold")["mIoU"]
    val = summary["calibration"]["val"]
    assert (val["mIoU"], val["mIoU_best_threshold"]) == (curve[summary["threshold"]], curve.max())
    assert curve.idxmax() == summary["best_threshold"]
    scores = score(model, squares.expressions("val"), PROTOCOLS["original"], batch_size=4)
    assert val["mIoU"] == scores["iou"].mean()
    alignment = read(folder / "alignment.parquet")
    assert summary["alignment"]["val"]["ap_ring"] == pytest.approx(alignment["ap_ring"].mean())


def test_a_model_that_is_not_trained_is_named(project, monkeypatch):
    (layout.model("scenes", "baseline", 0) / "model.safetensors").unlink()
    with pytest.raises(SystemExit, match=r"error: .*dvc repro train@scenes-baseline-0"):
        run_command(monkeypatch, "baseline")


def test_several_processes_are_refused(project, monkeypatch):
    monkeypatch.setattr(stage.processes, "here", lambda: type("State", (), {"num_processes": 2}))
    with pytest.raises(SystemExit, match="a diagnosis is one process"):
        run_command(monkeypatch, "baseline")
