"""Predictions in MLflow: the same expressions for every run, drawn as the masks say, each sent once."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipelines.mlflow import pictures
from stages.data.prepared import PreparedDataset, encode_mask
from stages.drawing.mask_comparison import CORRECT, WRONG
from stages.tracking import store


@pytest.fixture
def dataset(tmp_path) -> PreparedDataset:
    """Ten expressions on val and ten on testA, all of the left half of one white image of 96 x 96 pixels."""
    Image.new("RGB", (96, 96), "white").save(tmp_path / "white.png")
    left = np.zeros((96, 96), np.uint8)
    left[:, :48] = 1
    splits = ["val"] * 10 + ["testA"] * 10
    expressions = pd.DataFrame({"sent_id": range(20), "split": splits, "ann_id": 0, "text": "left / half?"})
    instance = {"image": str(tmp_path / "white.png"), "width": 96, "height": 96, "mask": encode_mask(left)}
    return PreparedDataset(expressions, pd.DataFrame([instance]).rename_axis("ann_id"), {})


def test_twelve_expressions_evenly_spread_over_the_splits(dataset):
    assert pictures.chosen(dataset)["sent_id"].tolist() == [0, 2, 4, 5, 7, 9, 10, 12, 14, 15, 17, 19]
    assert pictures.keys(dataset)[0] == "predictions/01 val left   half_"


def test_each_is_sent_once_with_hits_and_false_alarms(dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    whole = encode_mask(np.ones((96, 96)))
    pd.DataFrame({"sent_id": range(20), "height": 96, "width": 96, "prediction": whole}).to_parquet("scores.parquet")
    with store.opened() as opened:
        run = opened.client.create_run(opened.experiment_id)
        sent = [pictures.send(opened, run, dataset, tmp_path / "scores.parquet") for _ in range(2)]
        files = [name for name in store.files_of_run(opened, run.info.run_id) if name.endswith(".png")]
        shown = Image.open(opened.client.download_artifacts(run.info.run_id, files[0])).convert("RGB")
    assert sent == [True, False] and len(files) == 12 and shown.size == (192, 192)
    for x, region in ((40, CORRECT), (150, WRONG)):
        drawn = np.array(shown.getpixel((x, 96)), dtype=float)
        named = np.array([int(region.colour[at : at + 2], 16) for at in (1, 3, 5)], dtype=float)
        assert np.abs(drawn - (0.7 * named + 0.3 * (70 + 0.7 * 255))).max() <= 1.5
