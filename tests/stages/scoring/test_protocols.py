"""Protocols against computations in float64 that share nothing with them, in the cases where they must differ."""

import json
from fractions import Fraction
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from scipy.special import expit

from models.frames import Letterbox, Stretch
from stages.ablate.__main__ import main as ablate
from stages.data import prepared
from stages.data.samples import Expressions
from stages.evaluate import evaluation
from stages.runtime import layout
from stages.runtime.params import Evaluation
from stages.runtime.params import read as read_params
from stages.runtime.run import Run
from stages.scoring.metrics import summarise
from stages.scoring.protocols import PROTOCOLS
from stages.scoring.score import frame, score

PARAMS = Path(__file__).parents[2] / "params.yaml"
ALL = list(PROTOCOLS)


def summary(protocol: str, *pairs: tuple[int, int]) -> dict[str, float]:
    return summarise(pd.DataFrame(pairs, columns=["intersection", "union"], dtype="int64"), PROTOCOLS[protocol])


def test_params_and_protocols_have_the_same_names():
    assert set(get_args(Evaluation.model_fields["protocol"].annotation)) == set(PROTOCOLS)
    assert all(protocol.name == name for name, protocol in PROTOCOLS.items())


def test_frames_are_those_of_the_papers():
    assert {name: frame(protocol) for name, protocol in PROTOCOLS.items()} == {
        "original": None,
        "lavt": Stretch(480),
        "caris": Stretch(448),
        "cris": Letterbox(416),
        "cgformer": Stretch(480),
        "rela": Stretch(480),
    }


# Metrics


@pytest.mark.parametrize(("protocol", "strict"), [(name, name in ("cris", "cgformer")) for name in PROTOCOLS])
def test_an_iou_exactly_at_a_threshold(protocol, strict):
    """Every fraction of small numbers, compared as fractions."""
    pairs = [(intersection, union) for union in range(1, 41) for intersection in range(union + 1)]
    found = summary(protocol, *pairs)
    assert summary(protocol, (5, 10))["Pr@0.5"] == (0 if strict else 1)
    for tenths in range(5, 10):
        bound = Fraction(tenths, 10)
        passed = sum(Fraction(*pair) > bound or (Fraction(*pair) == bound and not strict) for pair in pairs)
        assert found[f"Pr@{tenths / 10}"] == passed / len(pairs)


@pytest.mark.parametrize(("protocol", "value"), [(name, float(name == "original")) for name in PROTOCOLS])
def test_both_masks_empty(protocol, value):
    found = summary(protocol, (0, 0), (1, 4), (0, 0), (3, 4))
    assert found["both_empty"] == 2 and found["expressions"] == 4
    assert found["mIoU"] == (2 * value + 0.25 + 0.75) / 4
    assert found["oIoU"] == 4 / 8
    assert found["Pr@0.5"] == (2 * value + 1) / 4
    assert summary(protocol, (0, 0))["oIoU"] == summary(protocol, (0, 0))["mIoU"] == value


# Masks


class Scripted(torch.nn.Module):
    """Answers the logits of each expression, whatever the order in which `by_image` serves them."""

    device = torch.device("cpu")

    def __init__(self, expressions: Expressions, logits: list[np.ndarray], batch_size: int):
        super().__init__()
        rows = [row for batch in expressions.by_image(batch_size) for row in batch.rows]
        self.answers = iter([torch.tensor(logits[row], dtype=torch.float32) for row in rows])

    def forward(self, image_ids, **_):
        return type("Output", (), {"logits": torch.stack([next(self.answers) for _ in image_ids])})


def run(squares, protocol: str, logits: list[np.ndarray], batch_size: int = 3) -> pd.DataFrame:
    """Scores of the val expressions, in an order in which images alternate; the logits in that order."""
    rows = squares.prepared.split("val").iloc[[2, 0, 3, 1]].reset_index(drop=True)
    expressions = Expressions(squares.prepared, rows, squares.processor, frame(PROTOCOLS[protocol]))
    scores = score(Scripted(expressions, logits, batch_size), expressions, PROTOCOLS[protocol], batch_size)
    assert scores["sent_id"].tolist() == rows["sent_id"].tolist()
    return scores


def decoded(scores: pd.DataFrame, row: int) -> np.ndarray:
    one = scores.iloc[row]
    return prepared.decode_mask(one["prediction"], int(one["height"]), int(one["width"])).astype(bool)


SIZES = {"original": 32, "lavt": 480, "caris": 448, "cris": 416, "cgformer": 480, "rela": 480}


def blocks(size: int, samples: int = 4) -> list[np.ndarray]:
    """Logits from sure to unsure with sharp edges: (size, size) each, constant over 32 x 32 pixels, or 4 x 4."""
    side = 32 if size > 32 else 4
    random = np.random.default_rng(size)
    coarse = random.normal(0, 1, (samples, size // side, size // side)) * random.choice([0.5, 8], (samples, 1, 1))
    return list(np.kron(coarse, np.ones((side, side))))


def resampling(positions: np.ndarray, size: int, cubic: bool, border: str) -> np.ndarray:
    """Weights (len(positions), size) of interpolation at positions between pixel centers 0..size - 1, in float64."""

    def weight(distance: float, a: float = -0.75) -> float:
        if not cubic:
            return max(0.0, 1 - distance)
        if distance <= 1:
            return (a + 2) * distance**3 - (a + 3) * distance**2 + 1
        return a * (distance**3 - 5 * distance**2 + 8 * distance - 4) if distance < 2 else 0.0

    matrix = np.zeros((len(positions), size))
    for row, position in enumerate(positions):
        for tap in range(int(np.floor(position)) - 1, int(np.floor(position)) + 3):
            if border == "edge" or 0 <= tap < size:
                matrix[row, min(max(tap, 0), size - 1)] += weight(abs(position - tap))
    return matrix


def stretched_back(values: np.ndarray, height: int, width: int, cubic: bool) -> np.ndarray:
    """From the square to the image; pixels are areas, so a center k lies at k + 0.5."""
    rows, columns = ((np.arange(n) + 0.5) * len(values) / n - 0.5 for n in (height, width))
    weights = [resampling(positions, len(values), cubic, "edge") for positions in (rows, columns)]
    return weights[0] @ values @ weights[1].T


def warped_back(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """As cv2.warpAffine with the inverse of CRIS's matrix, INTER_CUBIC and a border of 0, without its rounding."""
    size = len(values)
    scale = min(size / height, size / width)
    forward = np.array([[scale, 0, (size - width * scale) / 2], [0, scale, (size - height * scale) / 2]])
    columns = forward[0] @ np.stack([np.arange(width), np.zeros(width), np.ones(width)])
    rows = forward[1] @ np.stack([np.zeros(height), np.arange(height), np.ones(height)])
    weights = [resampling(positions, size, True, "zero") for positions in (rows, columns)]
    return weights[0] @ values @ weights[1].T


def expected(protocol: str, logits: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and true mask on the protocol's grid, as the papers' code does it, in float64."""
    height, width = truth.shape
    match protocol:
        case "original":
            return stretched_back(logits, height, width, cubic=False) > 0, truth
        case "lavt" | "rela" | "caris":
            return logits > 0, np.asarray(Image.fromarray(truth).resize(logits.shape, Image.Resampling.NEAREST))
        case "cris":
            return warped_back(expit(logits), height, width) > 0.35, truth
        case "cgformer":
            return stretched_back(expit(logits), height, width, cubic=True) > 0.5, truth


@pytest.mark.parametrize("batch_size", [1, 100])
@pytest.mark.parametrize("protocol", ALL)
def test_masks_and_counts_agree_with_float64(squares, protocol, batch_size):
    logits = blocks(SIZES[protocol])
    scores = run(squares, protocol, logits, batch_size)
    assert set(scores["protocol"]) == {protocol}
    for row, ann_id in enumerate(scores["ann_id"]):
        predicted, truth = expected(protocol, logits[row], squares.masks[ann_id])
        np.testing.assert_array_equal(decoded(scores, row), predicted)
        assert scores["intersection"][row] == np.count_nonzero(predicted & truth) > 0
        assert scores["union"][row] == np.count_nonzero(predicted | truth)
        assert scores["iou"][row] == scores["intersection"][row] / scores["union"][row]


def test_counts_on_the_input_grid_are_others_than_at_the_original_size(squares):
    """The same probabilities: other I and U, and another IoU."""
    logits = blocks(480)
    at_input, at_original = run(squares, "lavt", logits), run(squares, "cgformer", logits)
    assert (at_input["height"] == 480).all() and (at_input["width"] == 480).all()
    assert sorted(set(zip(at_original["height"], at_original["width"], strict=True))) == [(40, 60), (50, 36)]
    assert (at_input["union"] > 50 * at_original["union"]).all()
    assert (at_input["iou"] != at_original["iou"]).all()


def test_probabilities_between_the_thresholds_are_inside_for_cris_alone(squares):
    """A probability of 0.4 everywhere. The warp back mixes the image's first row and column with the border."""
    unsure = float(np.log(0.4 / 0.6))
    for protocol, size in SIZES.items():
        scores = run(squares, protocol, [np.full((size, size), unsure)] * 4)
        for row in range(4):
            assert decoded(scores, row)[2:-2, 2:-2].all() if protocol == "cris" else not decoded(scores, row).any()
    scores = run(squares, "cris", [np.full((416, 416), float(np.log(0.34 / 0.66)))] * 4)
    assert not any(decoded(scores, row)[2:-2, 2:-2].any() for row in range(4))


@pytest.mark.parametrize("protocol", ["cris", "cgformer"])
def test_probabilities_are_interpolated_and_not_logits(squares, protocol):
    """Beside a sure pixel an unsure one counts for more as a logit than as a probability."""
    logits = blocks(SIZES[protocol])
    scores = run(squares, protocol, logits)
    back = {"cris": warped_back, "cgformer": lambda *arguments: stretched_back(*arguments, cubic=True)}[protocol]
    cut = PROTOCOLS[protocol].threshold
    of_logits = [
        back(logits[row], *squares.masks[ann_id].shape) > np.log(cut / (1 - cut))
        for row, ann_id in enumerate(scores["ann_id"])
    ]
    assert any((decoded(scores, row) != mask).any() for row, mask in enumerate(of_logits))


def test_expressions_with_the_frame_of_another_protocol_are_refused(squares):
    with pytest.raises(ValueError, match=r"protocol cris needs Letterbox\(size=416\), .* have Stretch\(size=32\)"):
        score(squares.model(), squares.expressions("val"), PROTOCOLS["cris"], 4)


# The whole way


@pytest.mark.parametrize("protocol", ALL)
def test_a_model_is_evaluated_and_compared_under_each_protocol(squares, protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evaluation.live, "log_evaluation", lambda *_, **__: None)
    content = yaml.safe_load(PARAMS.read_text())
    content["experiment"] |= {"datasets": ["scenes"], "variants": ["baseline"], "highlight": "baseline", "seeds": [0]}
    content["evaluation"]["protocol"] = protocol
    Path("params.yaml").write_text(yaml.safe_dump(content))
    data, run = squares.prepared, Run("scenes", "baseline", 0)
    prepared.write(layout.prepared("scenes"), data.expressions, data.instances.reset_index(), data.summary)
    squares.model().save_pretrained(layout.model(*run))
    squares.processor.save_pretrained(layout.model(*run))

    evaluation.evaluate(run, read_params())
    scores = pd.read_parquet(layout.scores(*run))
    metrics = json.loads(layout.metrics(*run).read_text())
    assert set(scores["protocol"]) == {metrics["protocol"]} == {protocol}
    assert metrics["val"]["expressions"] == len(scores) == 4
    assert metrics["val"]["oIoU"] == scores["intersection"].sum() / scores["union"].sum()
    for row in range(4):
        mask = decoded(scores, row)
        assert mask.sum() <= scores["union"][row] and 0 <= scores["intersection"][row] <= mask.sum()

    ablate(["--dataset", "scenes"])
    table = pd.read_csv(layout.comparison("scenes")).set_index("metric")
    assert set(table["protocol"]) == {protocol}
    assert table.loc["mIoU", "mean"] == pytest.approx(metrics["val"]["mIoU"], rel=1e-12)
