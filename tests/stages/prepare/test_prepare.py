"""The command that writes a prepared dataset, on rendered scenes and on real photographs."""

import json
import os
import pickle
import shutil
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw
from ruamel.yaml import YAML

from stages.data import prepared
from stages.prepare import __main__ as command
from stages.prepare import sources, tables
from stages.prepare.formats.refer import ReferFiles
from stages.prepare.problems import DatasetError
from stages.runtime.params import CocoSource
from stages.statistics.evidence import FEW_IMAGES, FEWEST_IMAGES
from tests.stages.prepare import written_formats


@dataclass
class Ended:
    """What a command left: its exit code and what it printed."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def prepare(tmp_path, small_params, monkeypatch, capsys):
    """Runs the command in an empty project folder with the parameters given."""
    monkeypatch.chdir(tmp_path)

    def run(dataset: str, task: str = "--dataset", **changes) -> Ended:
        small_params["datasets"].get(dataset, {}).update(changes)
        with (tmp_path / "params.yaml").open("w") as file:
            YAML(typ="safe").dump(small_params, file)
        code = None
        try:
            command.main([task, dataset])
        except SystemExit as end:
            code = end.code
        printed = capsys.readouterr()
        if isinstance(code, str):  # as Python ends a program
            return Ended(1, printed.out, f"{printed.err}{code}\n")
        return Ended(code or 0, printed.out, printed.err)

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
    assert set(dataset.instances.index) < set(dataset.boxes["ann_id"])
    assert set(dataset.instances["image_id"]) == set(dataset.boxes["image_id"])
    assert dataset.boxes.sort_values(["image_id", "ann_id"]).index.is_monotonic_increasing

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
    assert "--dataset 'scene' is not in params.yaml; it has: refcoco, refcoco+, " in result.stderr

    small_params["datasets"]["cups"] = {"kind": "refer"}
    result = prepare("cups")
    assert result.returncode == 2
    assert result.stderr.splitlines()[0] == "params.yaml is wrong:"
    assert "datasets.cups.root: missing" in result.stderr


def test_less_than_the_published_set_is_an_error_unless_allowed(tmp_path, prepare, shared_data):
    root = str(shared_data / "refer_true")
    result = prepare("refcoco", root=root)
    assert result.returncode == 1
    assert "train has 36 refs where 42,404 are published" in result.stderr
    assert list((tmp_path / "data").iterdir()) == []

    result = prepare("refcoco", root=root, allow_partial=True)
    assert result.returncode == 0
    summary = prepared.read(tmp_path / "data" / "refcoco").summary
    assert summary["partial"]
    images = {split: counts["images"] for split, counts in summary["counts"].items() if split != "train"}
    assert max(images.values()) < FEWEST_IMAGES
    assert summary["warnings"] == [
        "not the whole refcoco (unc): train 36 of 42,404 refs, val 14 of 3,811 refs, testA 6 of 1,975 refs, "
        "testB 6 of 1,810 refs",
        *(
            f"images of {split}: {number}, fewer than {FEWEST_IMAGES}, so its values get no interval and no verdict"
            for split, number in images.items()
        ),
    ]
    assert f"warning: {summary['warnings'][0]}" in result.stderr


def test_a_mix_of_photographs(tmp_path, prepare, shared_data):
    root = shared_data / "refer_mini"
    result = prepare("refcoco_mix", root=str(root), mix=["refcoco", "refcoco+"], allow_partial=True)
    assert result.returncode == 0, result.stderr
    dataset = prepared.read(tmp_path / "data" / "refcoco_mix")
    assert dataset.evaluation_splits == [
        f"{name}_{split}" for name in ("refcoco", "refcoco+") for split in ("val", "testA", "testB")
    ]
    held_out, trained = set(), set()
    for name in ("refcoco", "refcoco+"):
        for ref in pickle.loads((root / name / "refs(unc).p").read_bytes()):
            (trained if ref["split"] == "train" else held_out).add(ref["image_id"])
    assert set(dataset.split("train")["image_id"]) == trained - held_out
    assert set(dataset.expressions["image_id"]) == trained | held_out
    assert f"{len(trained & held_out):,} of {len(trained):,} images" in dataset.summary["notes"][0]
    assert dataset.summary["notes"][0] in result.stdout
    assert all(set(dataset.instances[key]) == set(dataset.boxes[key]) for key in ("image_id", "category"))
    assert set(dataset.boxes["ann_id"]) >= set(dataset.instances.index)


def test_the_fingerprint_changes_with_annotations_and_images(tmp_path, prepare, shared_data):
    root = tmp_path / "release"
    shutil.copytree(shared_data / "refer_true", root, copy_function=shutil.copyfile)

    def written() -> str:
        result = prepare("refer_true", "--fingerprint", root=str(root))
        assert result.returncode == 0, result.stderr
        return (tmp_path / "sources" / "refer_true.json").read_text()

    seen = {written()}
    assert written() in seen
    image = next((root / "images").rglob("*.jpg"))
    image.write_bytes(image.read_bytes() + b" ")
    seen.add(written())
    image.unlink()
    seen.add(written())
    refs = root / "refcoco" / "refs(unc).p"
    refs.write_bytes(refs.read_bytes() + b" ")
    seen.add(written())
    assert len(seen) == 4

    refs.unlink()
    result = prepare("refer_true", "--fingerprint", root=str(root))
    assert result.returncode == 1 and "refs(unc).p: No such file" in result.stderr


@pytest.fixture
def linked(tmp_path) -> CocoSource:
    """Own data whose images lie behind a link, without suffixes."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "kitchen").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "up").symlink_to(tmp_path / "images")
    listed = [{"id": number, "file_name": f"kitchen/{number}"} for number in range(3)]
    for entry in listed:
        (tmp_path / "images" / entry["file_name"]).write_bytes(bytes(7))
    (tmp_path / "instances.json").write_text(json.dumps({"images": listed}))
    (tmp_path / "expressions.csv").write_text("ann_id,expression\n")
    files = {name: str(tmp_path / name) for name in ("instances.json", "expressions.csv", "images")}
    return CocoSource(
        kind="coco", instances=files["instances.json"], expressions=files["expressions.csv"], images=files["images"]
    )


def test_the_fingerprint_is_of_what_prepare_reads(tmp_path, linked):
    first = sources.external(linked)
    (found,) = first["images"].values()
    assert (found["files"], found["bytes"]) == (3, 21)
    (tmp_path / "images" / "notes.txt").write_text("nothing lists it")
    assert sources.external(linked) == first
    (tmp_path / "elsewhere" / "2").write_bytes(b"broken")
    assert sources.external(linked) != first
    for path in (tmp_path / "elsewhere").iterdir():
        path.unlink()
    with pytest.raises(DatasetError, match="images: holds none of the 3 images of the source, such as kitchen/0"):
        sources.external(linked)


def test_images_of_one_name_in_two_folders_are_told_apart(tmp_path):
    (tmp_path / "a").write_text("")

    def fingerprint(**sizes: int) -> str:
        named = {f"{folder}/1.png": size for folder, size in sizes.items()}
        return sources.fingerprint(tables.Tables(*[pd.DataFrame()] * 3, [tmp_path / "a"], named, []))

    assert fingerprint(kitchen=5, hall=6) != fingerprint(kitchen=6, hall=5)


def test_small_splits_are_a_warning_or_a_note():
    counts = {"train": 5, "val": FEWEST_IMAGES - 1, "testA": FEWEST_IMAGES, "testB": FEW_IMAGES - 1, "test": FEW_IMAGES}
    warnings, notes = tables.few_images({split: {"images": number} for split, number in counts.items()})
    assert [line.split(":")[0] for line in warnings] == ["images of val"]
    assert [line.split(":")[0] for line in notes] == ["images of testA", "images of testB"]


def test_a_rendered_dataset_has_a_fingerprint_too(prepare, tmp_path):
    assert prepare("scenes", "--fingerprint").returncode == 0
    content = json.loads((tmp_path / "sources/scenes.json").read_text())
    assert content == {"rendered": "by the project, from its entry in params.yaml"}


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


def test_parquet_gives_the_bytes_that_the_release_gives(tmp_path, prepare, small_params, shared_data):
    source = ReferFiles(shared_data / "refer_mini", "refcoco", "unc")
    written_formats.parquet(written_formats.Source.of(source), tmp_path / "hub")
    entry = {"kind": "parquet", "root": "hub", "images": str(source.image_folder()), "name": "refcoco"}
    small_params["datasets"]["hub"] = {**entry, "split_by": "unc", "sentence": "sent", "allow_partial": True}
    for name in ("hub", "refer_mini"):
        result = prepare(name, **({} if name == "hub" else {"root": str(source.root)}))
        assert result.returncode == 0, result.stderr
    for name in ("expressions.parquet", "instances.parquet", "boxes.parquet"):
        assert (tmp_path / "data/hub" / name).read_bytes() == (tmp_path / "data/refer_mini" / name).read_bytes()
    assert prepare("hub", "--fingerprint").returncode == 0


def test_detect_tells_what_lies_in_a_folder(prepare, shared_data):
    found = prepare(str(shared_data / "refer_mini"), "--detect")
    assert found.returncode == 0 and "kind refer, refcoco+ split by unc" in found.stdout
    nothing = prepare("absent", "--detect")
    assert nothing.returncode == 1 and nothing.stderr == "error: absent: no such folder\n"
