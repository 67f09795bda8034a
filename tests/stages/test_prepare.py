"""The command that writes a prepared dataset, on rendered scenes and on real photographs."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw
from ruamel.yaml import YAML

from stages import prepared


@pytest.fixture
def prepare(tmp_path, root, small_params):
    """Runs the command in an empty project folder with the parameters given."""

    def run(dataset: str, **changes) -> subprocess.CompletedProcess:
        small_params["datasets"].get(dataset, {}).update(changes)
        with (tmp_path / "params.yaml").open("w") as file:
            YAML(typ="safe").dump(small_params, file)
        return subprocess.run(
            [sys.executable, "-m", "stages.prepare", "--dataset", dataset],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
        )

    return run


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_scenes_are_rendered_and_prepared_twice_the_same(tmp_path, prepare):
    result = prepare("scenes")
    assert result.returncode == 0, result.stderr
    assert "data/scenes" in result.stdout and "testB" in result.stdout
    first = files(tmp_path / "data")

    dataset = prepared.read(tmp_path / "data" / "scenes")
    assert {split: count["images"] for split, count in dataset.summary["counts"].items()} == {
        "train": 8,
        "val": 4,
        "testA": 4,
        "testB": 4,
    }
    assert set(dataset.expressions["ann_id"]) == set(dataset.instances.index)
    for row in dataset.instances.itertuples():
        assert row.image.startswith("data/scenes/refer/images/mscoco/images/train2014/")
        assert Image.open(tmp_path / row.image).size == (row.width, row.height)

    assert prepare("scenes").returncode == 0
    assert files(tmp_path / "data") == first
    assert os.listdir(tmp_path / "data") == ["scenes"]


def test_after_a_failure_nothing_half_written_is_left(tmp_path, prepare):
    result = prepare("refcoco")
    assert result.returncode == 1
    assert result.stderr.startswith("error: refer/refcoco/refs(unc).p: No such file or directory")
    assert list((tmp_path / "data").iterdir()) == []


def test_an_unknown_dataset_and_wrong_parameters_exit_with_2(prepare, small_params):
    result = prepare("scene")
    assert result.returncode == 2
    assert "unknown name 'scene'; allowed: refcoco, refcoco+, " in result.stderr

    small_params["datasets"]["cups"] = {"kind": "refer"}
    result = prepare("cups")
    assert result.returncode == 2
    assert result.stderr.splitlines()[0] == "params.yaml is wrong:"
    assert "datasets.cups.root: missing" in result.stderr


def test_photographs_with_true_masks(tmp_path, prepare, shared_data):
    result = prepare("refer_true", root=str(shared_data / "refer_true"))
    assert result.returncode == 0, result.stderr

    dataset = prepared.read(tmp_path / "data" / "refer_true")
    assert len(dataset.instances) == dataset.expressions["ref_id"].nunique() == 62
    assert len(dataset.expressions) == 177
    assert sum(count["images"] for count in dataset.summary["counts"].values()) == 24
    assert "woman" not in set(dataset.instances["category"]) and "person" in set(dataset.instances["category"])

    annotations = pd.read_json(shared_data / "refer_true" / "refcoco" / "instances.json", typ="series")["annotations"]
    segmentations = {annotation["id"]: annotation["segmentation"] for annotation in annotations}
    for row in dataset.instances.itertuples():
        canvas = Image.new("1", (row.width, row.height))
        for polygon in segmentations[row.Index]:
            ImageDraw.Draw(canvas).polygon(polygon, fill=1)
        mask = prepared.decode_mask(row.mask, row.height, row.width).astype(bool)
        drawn = np.array(canvas)
        assert (mask & drawn).sum() / (mask | drawn).sum() > 0.85


def test_small_photographs_with_predicted_masks(tmp_path, prepare, shared_data):
    result = prepare("refer_mini", root=str(shared_data / "refer_mini"))
    assert result.returncode == 0, result.stderr

    dataset = prepared.read(tmp_path / "data" / "refer_mini")
    refs = {split: count["refs"] for split, count in dataset.summary["counts"].items()}
    assert refs == {"train": 2488, "val": 206, "testA": 116, "testB": 111}
    assert len(dataset.expressions) == 8312
    assert dataset.expressions["image_id"].nunique() == 1183
