"""RefCOCO-M, written as the card of moondream/refcoco-m describes its columns; the real file was not at hand."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import yaml
from PIL import Image
from pycocotools import mask as coco_mask
from ruamel.yaml import YAML

from stages.data import prepared
from stages.data.prepared import MissingSplitError
from stages.prepare import detection, inspection, preparation, sources
from stages.prepare.formats import refcoco_m, release
from stages.prepare.formats.refcoco_m import RefcocoMFiles
from stages.prepare.problems import DatasetError
from stages.runtime import layout, params
from stages.runtime.params import RefcocoMSource

SAMPLE = pa.struct(
    {
        **{"id": pa.int64(), "image_id": pa.int64(), "category": pa.string(), "supercategory": pa.string()},
        **{"label": pa.string(), "sentences": pa.list_(pa.string()), "bbox": pa.list_(pa.float32())},
        "mask": pa.struct({"counts": pa.string(), "size": pa.list_(pa.int32())}),
    }
)
SCHEMA = pa.schema(
    {
        "image": pa.struct({"bytes": pa.binary(), "path": pa.string()}),
        **{"image_id": pa.int64(), "file_name": pa.string(), "samples": pa.list_(SAMPLE)},
    }
)
PARAMS = Path(__file__).parents[2] / "params.yaml"


def mask(height: int, width: int, top: int, left: int, side: int) -> np.ndarray:
    drawn = np.zeros((height, width), dtype=np.uint8)
    drawn[top : top + side, left : left + side] = 1
    return drawn


MASKS = {7: mask(20, 30, 2, 3, 9), 8: mask(20, 30, 10, 18, 8), 9: mask(24, 16, 5, 1, 12)}
IMAGES = {1: (20, 30, [7, 8]), 2: (24, 16, [9])}
TEXTS = {7: ["man on left", "left guy"], 8: ["Dog"], 9: ["the cup", "cup", "big cup"]}
CATEGORIES = {7: "person", 8: "dog", 9: "cup"}


def rows() -> list[dict]:
    found = []
    for image_id, (height, width, ids) in IMAGES.items():
        samples = []
        for number in ids:
            encoded = coco_mask.encode(np.asfortranarray(MASKS[number]))
            samples.append(
                {
                    **{"id": number, "image_id": image_id, "category": CATEGORIES[number], "supercategory": "thing"},
                    **{"label": CATEGORIES[number], "sentences": TEXTS[number]},
                    "bbox": coco_mask.toBbox(encoded).tolist(),
                    "mask": {"counts": encoded["counts"].decode(), "size": [height, width]},
                }
            )
        picture = io.BytesIO()
        Image.new("RGB", (width, height)).save(picture, "PNG")
        image = {"bytes": picture.getvalue(), "path": None}
        found.append({"image": image, "image_id": image_id, "file_name": name(image_id), "samples": samples})
    return found


def name(image_id: int) -> str:
    return f"COCO_train2014_{image_id:012d}.jpg"


def written(folder: Path, content: list[dict] | None = None) -> Path:
    path = folder / "data" / "validation-00000-of-00001.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pa.parquet.write_table(pa.Table.from_pylist(rows() if content is None else content, SCHEMA), path)
    return path


def read(folder: Path):
    return release.read(RefcocoMFiles(folder, refcoco_m.NAME, refcoco_m.SPLIT_BY), "sent", check_images=False)


def error(folder: Path, content: list[dict]) -> str:
    written(folder, content)
    with pytest.raises(DatasetError) as caught:
        read(folder)
    return str(caught.value)


def test_every_mask_has_its_expressions_and_the_split_is_val(tmp_path):
    written(tmp_path)
    tables = read(tmp_path)
    assert tables.expressions["split"].unique().tolist() == ["val"]
    assert tables.expressions["sent_id"].tolist() == list(range(6))
    assert tables.expressions.groupby("ann_id")["text"].agg(list).to_dict() == TEXTS
    instances = tables.instances.set_index("ann_id")
    assert instances["category"].to_dict() == CATEGORIES
    assert instances["image_id"].to_dict() == {7: 1, 8: 1, 9: 2}
    for number, expected in MASKS.items():
        row = instances.loc[number]
        counts = {"size": [int(row["height"]), int(row["width"])], "counts": row["mask"].encode()}
        np.testing.assert_array_equal(coco_mask.decode(counts), expected)
        assert row["image"].endswith(name(row["image_id"]))
    assert refcoco_m.MADE in tables.notes
    box = tables.boxes.set_index("ann_id").loc[8]
    assert [box[key] for key in ("x", "y", "width", "height")] == [18, 10, 8, 8]


def source(folder: Path, **more) -> RefcocoMSource:
    return RefcocoMSource(kind="refcoco_m", root=str(folder), sentence="sent", **more)


def test_less_than_the_published_set_is_said(tmp_path):
    written(tmp_path)
    with pytest.raises(DatasetError, match="val has 3 refs where 2,080 are published, 6 expressions where 5,598"):
        sources.read(source(tmp_path, check_images=False), tmp_path)
    tables = sources.read(source(tmp_path, check_images=False, allow_partial=True), tmp_path)
    assert tables.partial and tables.warnings[-1].startswith("not the whole refcoco-m (unc): val 3 of 2,080 refs")


def test_it_is_prepared_with_images_of_coco_and_has_no_train(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(Path("hub"))
    Path("train2014").mkdir()
    for image_id, (height, width, _) in IMAGES.items():
        Image.new("RGB", (width, height), "gray").save(Path("train2014", name(image_id)))
    entry = source(Path("hub"), images="train2014", allow_partial=True)
    preparation.fingerprint("m", entry)
    assert json.loads(layout.fingerprint("m").read_text())["images"]["train2014"]["files"] == 2
    preparation.prepare("m", entry)
    dataset = prepared.read(layout.prepared("m"))
    assert dataset.evaluation_splits == ["val"] and len(dataset.split("val")) == 6
    assert "val" in inspection.summary(dataset)
    with pytest.raises(MissingSplitError):
        dataset.split("train")
    Path("train2014", name(2)).unlink()
    with pytest.raises(DatasetError, match=name(2)):
        preparation.prepare("m", entry)


def changed(**changes) -> list[dict]:
    """Rows in which the second sample of the first image has other values."""
    content = rows()
    content[0]["samples"][1] |= changes
    return content


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask": None}, "malformed row (1): sample 1 of image 1: mask is None, expected dict"),
        ({"sentences": []}, "ref without sentences (1): ref 8"),
        ({"sentences": [" "]}, "empty sent (1): sentence 2 of ref 8"),
        ({"category": None}, "malformed row (1): sample 1 of image 1: category is None, expected str"),
        ({"id": 7}, "id of a sample not unique (1): 7"),
        ({"mask": {"counts": "abc", "size": [20, 30]}}, "RLE counts do not add up to the image (1): annotation 8"),
        ({"mask": {"counts": "PP3", "size": [9, 30]}}, "several names or sizes of one image (1): sample 1 of image 1"),
        ({"mask": {"counts": "PP3", "size": [9]}}, "size is [9], expected [height, width]"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, changes, message):
    assert message in error(tmp_path, changed(**changes))


def test_other_files_are_named(tmp_path):
    path = written(tmp_path)
    pa.parquet.write_table(pa.table({"image_id": [1], "answer": ["a"]}), path)
    with pytest.raises(DatasetError, match="no column file_name, samples, so it is not moondream/refcoco-m"):
        read(tmp_path)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(DatasetError, match="a pointer of Git LFS"):
        read(tmp_path)
    path.write_bytes(b"PAR1")
    with pytest.raises(DatasetError, match="not a whole Parquet file"):
        read(tmp_path)


def test_a_folder_is_described_and_its_entry_is_valid(tmp_path):
    path = written(tmp_path)
    found = detection.report(tmp_path)
    assert f"{tmp_path}: kind refcoco_m" in found and str(path) in found and "not read" not in found
    entry = YAML(typ="safe").load(found[found.index("datasets:") :])["datasets"]["refcoco_m"]
    assert RefcocoMSource(**entry).root == str(tmp_path) and entry["images"] == "FOLDER"


def test_an_experiment_cannot_be_trained_on_it(tmp_path):
    content = yaml.safe_load(PARAMS.read_text())
    content["datasets"]["m"] = {"kind": "refcoco_m", "root": "hub", "sentence": "sent"}
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(content))
    assert params.read(file).datasets["m"].kind == "refcoco_m"
    content["experiment"]["datasets"] = ["m"]
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(params.ParamsError, match=r"experiment.datasets: m is RefCOCO-M, which has no train split"):
        params.read(file)
