"""Readers of predictions on anything: masks of the right sizes or one clear error; no crash, no hang."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from stages.runtime.predictions import PredictionsError
from stages.score import predicted
from stages.score.segmentations import Wrong, encode
from stages.scoring.protocols import PROTOCOLS
from tests.stages.prepare.fuzzing import fuzzed
from tests.stages.score import predictions_inputs as inputs

NUMBERS = st.one_of(
    st.integers(-3, 20),
    st.sampled_from([0, 5, 60, 515, 2**31, 2**63 - 1, -(2**63), 2**64]),
    st.floats(),
    st.floats(-2, 13),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=8), st.sampled_from(["0`3", "PPYo0", "a\ud800"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=7),
        st.dictionaries(st.sampled_from(["sent_id", "segmentation", "size", "counts", "text"]), inner, max_size=3),
    ),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def dataset(folder):
    return inputs.write_dataset(folder / "cups")


def check(path: Path, dataset) -> None:
    try:
        found = predicted.read(path, dataset, PROTOCOLS["original"], False)
    except PredictionsError as error:
        lines = str(error).splitlines()
        assert lines and all(line.startswith(f"{path}: ") for line in lines)
        assert all(len(line) < 2500 for line in lines)
        return
    true = inputs.true_masks(dataset)
    assert {sent_id: mask.pixels().shape for sent_id, mask in found.masks.items()} == {
        sent_id: mask.shape for sent_id, mask in true.items()
    }


@fuzzed(60)
@given(st.data())
def test_json_with_a_changed_part(dataset, folder, data):
    found = inputs.entries(inputs.true_masks(dataset), data.draw(st.sampled_from([inputs.compressed, inputs.polygons])))
    place = data.draw(st.integers(0, len(found) - 1))
    match data.draw(st.sampled_from(["entry", "sent_id", "image_id", "segmentation", "size", "counts"])):
        case "entry":
            found[place] = data.draw(VALUES)
        case ("size" | "counts") as key if isinstance(found[place]["segmentation"], dict):
            found[place]["segmentation"][key] = data.draw(VALUES)
        case key:
            found[place][key] = data.draw(VALUES)
    check(inputs.write_json(folder, found), dataset)
    check(inputs.write_lines(folder, found), dataset)


@fuzzed(40)
@given(st.binary(max_size=60), st.sampled_from(["json", "jsonl", "parquet"]))
@example(b"", "json")
@example(b"", "jsonl")
@example(b"", "parquet")
def test_bytes(dataset, folder, content, suffix):
    path = folder / f"bytes.{suffix}"
    path.write_bytes(content)
    check(path, dataset)


@fuzzed(60)
@given(st.data())
def test_files_that_are_cut_or_damaged(dataset, folder, data):
    true = inputs.true_masks(dataset)
    write = data.draw(st.sampled_from([inputs.write_json, inputs.write_lines, inputs.write_parquet]))
    path = write(folder, inputs.entries(true))
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        del content[place:]
    else:
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    check(path, dataset)


@fuzzed(60)
@given(st.data())
def test_damaged_pngs(dataset, folder, data):
    path = inputs.write_pngs(folder, inputs.true_masks(dataset))
    chosen = data.draw(st.sampled_from(sorted(path.iterdir())))
    content = bytearray(chosen.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    chosen.write_bytes(content)
    check(path, dataset)


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"sent_id": [506.0, None]},
        {"sent_id": [506, 507], "segmentation": [None, None]},
        {"sent_id": [506, 507], "segmentation": ["{", "[]"]},
        {"sent_id": ["506", "507"], "segmentation": [b"[]", b"[]"]},
        {"image_id": [2, 2], "ref_id": [120, None], "text": ["the cup", None], "segmentation": [[], []]},
        {"sent_id": [506, 507], "segmentation": [[[float("nan")] * 6], [[float("inf")] * 6]]},
    ],
)
def test_parquet_with_other_columns(dataset, folder, columns):
    path = folder / "other.parquet"
    pa.parquet.write_table(pa.table(columns), path)
    check(path, dataset)


@fuzzed(50)
@given(st.integers(1, 12), st.integers(1, 12), st.randoms(use_true_random=False))
def test_a_compressed_rle_is_what_cocos_own_code_reads(height, width, random):
    mask = np.array([[random.random() < 0.5 for _ in range(width)] for _ in range(height)])
    rle = inputs.compressed(mask)
    np.testing.assert_array_equal(encode(rle, [(height, width)]).pixels(), mask)
    np.testing.assert_array_equal(encode(rle | {"counts": rle["counts"].encode()}, [(height, width)]).pixels(), mask)
    assert encode(rle, [(height, width)]).counts == rle["counts"]


@fuzzed(50)
@given(st.lists(st.lists(st.floats(-1, 13), min_size=6, max_size=12).filter(lambda p: len(p) % 2 == 0), max_size=4))
def test_polygons_are_what_cocos_own_code_draws(polygons):
    try:
        found = encode(polygons, [(12, 12)]).pixels()
    except Wrong as wrong:
        pytest.fail(f"{wrong.kind}: {wrong.found}")
    wanted = np.zeros((12, 12), dtype=bool)
    for polygon in polygons:
        (rle,) = coco_mask.frPyObjects([polygon], 12, 12)
        wanted |= coco_mask.decode(rle).astype(bool)
    np.testing.assert_array_equal(found, wanted)
