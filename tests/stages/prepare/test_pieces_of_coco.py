"""COCO's own annotations, read piece by piece: what the whole file holds on some images, however it is written."""

import json
from collections.abc import Collection

import orjson
import pytest
from hypothesis import given

from stages.prepare import coco
from stages.prepare.coco import Annotations
from stages.prepare.problems import DatasetError, Problems
from tests.stages.prepare.fuzzing import INSTANCES, JSON_VALUES, damaged, fuzzed, restructured

ON = {1, 300}  # images
MEANT = [{12}, set()]
STYLES = [{}, {"separators": (",", ":")}, {"indent": 1}]
ORDERS = [("images", "annotations", "categories"), ("categories", "annotations", "images"), ("annotations", "images")]


@pytest.fixture(params=[1, 64, 2**22], ids="{} bytes".format)
def piece(request, monkeypatch) -> int:
    monkeypatch.setattr(coco, "PIECE", request.param)
    return request.param


def written(content: dict, order: tuple[str, ...] = ORDERS[0], **style) -> bytes:
    return json.dumps({key: content[key] for key in dict.fromkeys([*order, *content])}, **style).encode()


def read(path, content: bytes, meant: Collection[int] = ()) -> Annotations:
    path.write_bytes(content)
    problems = Problems()
    found = coco.load_on(path, ON, meant, problems)
    problems.stop()
    return found


def expected(content: dict, key: str, of: str) -> dict[int, dict]:
    return {entry["id"]: entry for entry in content[key] if entry.get(of) in ON}


def assert_same(found: Annotations, content: dict) -> None:
    assert found.images == expected(content, "images", "id")
    every = expected(content, "annotations", "image_id")
    assert list(found.annotations) == list(every)
    for ann_id, annotation in found.annotations.items():
        assert {"segmentation": every[ann_id].get("segmentation"), **annotation} == {"segmentation": None} | every[
            ann_id
        ]
    assert found.categories == {entry["id"]: entry for entry in content["categories"]}


@pytest.fixture
def never_whole(monkeypatch):
    monkeypatch.setattr(coco, "read_lists", lambda *_: pytest.fail("the whole file was parsed"))


@pytest.mark.parametrize("order", ORDERS, ids=" ".join)
@pytest.mark.parametrize("style", STYLES, ids=str)
def test_the_file_of_coco_is_never_parsed_as_a_whole(tmp_path, piece, never_whole, style, order):
    info = {"description": 'a "annotations": [{"id": 1}, {"id": 2}] b'}
    for meant in MEANT:
        assert_same(read(tmp_path / "a.json", written({"info": info, **INSTANCES}, order, **style), meant), INSTANCES)


def test_segmentations_are_kept_where_they_are_needed(tmp_path, piece):
    def kept(annotations: list[dict], meant: Collection[int]) -> set[int]:
        found = read(tmp_path / "a.json", written({**INSTANCES, "annotations": annotations}), meant).annotations
        assert set(found) == {11, 12, 14, 15, 16}
        return {ann_id for ann_id, annotation in found.items() if "segmentation" in annotation}

    assert kept(INSTANCES["annotations"], ()) == {11, 12, 14}  # without a box
    sound = {11: [1, 2, 5, 5], 12: [1, 2, 9, 7.25], 14: [0, 0, 16, 12]}
    boxed = [{"bbox": sound.get(entry["id"]), **entry} for entry in INSTANCES["annotations"]]
    assert kept(boxed, ()) == set()
    assert kept(boxed, {12, 16}) == {12, 16}
    boxed[0]["bbox"] = [10, 0, 8, 12]  # leaves its image
    assert kept(boxed, ()) == {11}


@pytest.mark.parametrize(
    "odd",
    [
        {"name": "}, {"},
        {"name": '}] "annotations": ['},
        {"parts": [{"id": 1}, {"id": 2}]},
        {"annotations": [{"id": 1}, {"id": 2}]},
    ],
    ids=str,
)
def test_what_looks_like_the_end_of_an_annotation_is_none(tmp_path, piece, odd):
    content = {**INSTANCES, "annotations": [{**entry, **odd} for entry in INSTANCES["annotations"]]}
    for meant in MEANT:
        assert_same(read(tmp_path / "a.json", written(content), meant), content)
        assert_same(read(tmp_path / "a.json", written({"info": odd, **content}), meant), content)


def test_of_two_lists_the_last_counts_as_in_any_json(tmp_path, piece):
    twice = written(INSTANCES)[:-1] + b', "annotations": []}'
    assert read(tmp_path / "a.json", twice).annotations == {}


def test_a_file_cut_off_anywhere_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(coco, "PIECE", 64)
    whole = written(INSTANCES)
    for length in range(0, len(whole), 7):
        with pytest.raises(DatasetError, match=r"a\.json: not JSON"):
            read(tmp_path / "a.json", whole[:length])


@given(restructured(INSTANCES, JSON_VALUES).map(lambda content: json.dumps(content, default=repr).encode()))
@fuzzed(150)
def test_restructured_files_hold_the_same(tmp_path_factory, content):
    assert_as_whole(tmp_path_factory.getbasetemp() / "restructured.json", content)


@given(damaged([written(INSTANCES), written(INSTANCES, indent=1)]))
@fuzzed(150)
def test_damaged_files_hold_the_same(tmp_path_factory, content):
    assert_as_whole(tmp_path_factory.getbasetemp() / "damaged.json", content)


def assert_as_whole(path, content: bytes) -> None:
    """What is read in pieces of 64 bytes is what is read of the whole, or both are errors."""
    for meant in MEANT:
        path.write_bytes(content)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(coco, "PIECE", 64)
            found = found_or_none(path, meant)
            patch.setattr(coco, "_piecewise", refuse)
            whole = found_or_none(path, meant)
        if found is None or whole is None:
            assert whole is None and (found is None or not meant)  # of polygons not needed, pieces do not tell
        else:
            assert found == whole


def found_or_none(path, meant: Collection[int]) -> tuple[dict, ...] | None:
    try:
        found = coco.load_on(path, ON, meant, Problems())
    except DatasetError:
        return None
    return found.images, found.annotations, found.categories


def refuse(*_):
    raise orjson.JSONDecodeError("not in pieces", "", 0)
