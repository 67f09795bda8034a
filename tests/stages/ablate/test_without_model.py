"""Masks without a model, counted again from the images' sizes and the true masks alone."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages.ablate import without_model
from stages.data.prepared import PreparedDataset, encode_mask
from stages.scoring.protocols import PROTOCOLS

SIZES = [(40, 60), (7, 9), (31, 30), (90, 91)]


@pytest.fixture
def dataset() -> tuple[PreparedDataset, list[np.ndarray]]:
    """An instance an image; two expressions of the first."""
    random = np.random.default_rng(0)
    truths = [random.random(size) < 0.4 for size in SIZES]
    instances = pd.DataFrame(
        [(10 + place, *truth.shape, encode_mask(truth)) for place, truth in enumerate(truths)],
        columns=["ann_id", "height", "width", "mask"],
    ).set_index("ann_id")
    expressions = pd.DataFrame({"sent_id": [5, 3, 8, 1, 2], "ann_id": [10, 11, 12, 13, 10]})
    return PreparedDataset(expressions, instances, {}), [truths[place] for place in (0, 1, 2, 3, 0)]


@pytest.mark.parametrize("protocol", ["original", "cris", "lavt"])
def test_counts_are_those_of_the_pixels(dataset, protocol):
    data, truths = dataset
    order = [4, 0, 2, 1, 3]
    found = without_model.counted(data, data.expressions.iloc[order], PROTOCOLS[protocol])
    assert list(found) == ["whole image", "center box"]
    for place, row in enumerate(order):
        truth = truths[row]
        if protocol == "lavt":
            truth = np.asarray(Image.fromarray(truth).resize((480, 480), Image.Resampling.NEAREST))
        height, width = truth.shape
        assert found["whole image"].iloc[place].tolist() == [truth.sum(), height * width]
        inside = [
            (y, x)
            for y in range((height - round(height / 2)) // 2, (height - round(height / 2)) // 2 + round(height / 2))
            for x in range((width - round(width / 2)) // 2, (width - round(width / 2)) // 2 + round(width / 2))
        ]
        both = sum(bool(truth[at]) for at in inside)
        assert found["center box"].iloc[place].tolist() == [both, len(inside) + int(truth.sum()) - both]


@pytest.mark.parametrize("size", [(40, 60), (7, 9)])
def test_the_center_box_is_half_as_high_and_wide_and_in_the_middle(size):
    height, width = size
    mask = without_model.center_box(height, width)
    rows, columns = mask.any(axis=1), mask.any(axis=0)
    assert (mask == rows[:, None] & columns).all()
    assert abs(rows.sum() - height / 2) <= 0.5 and abs(columns.sum() - width / 2) <= 0.5
    for side in (rows, columns):
        assert abs(side.argmax() - side[::-1].argmax()) <= 1
