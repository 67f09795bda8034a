"""The readers of all formats but REFER's on anything: a sound dataset or one clear error; no crash, no hang."""

import copy
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from stages.prepare import coco
from stages.prepare.formats import release
from stages.prepare.formats.release import Release
from stages.prepare.problems import DatasetError
from tests.stages.prepare import written_formats
from tests.stages.prepare.fuzzing import (
    HEIGHT,
    INSTANCES,
    JSON_VALUES,
    REFS,
    WIDTH,
    assert_clear,
    assert_sound,
    damaged,
    fuzzed,
    restructured,
)
from tests.stages.prepare.written_formats import FORMATS, Source


def with_boxes() -> dict:
    """COCO's entries, each with the box of its mask where it has none."""
    instances = copy.deepcopy(INSTANCES)
    for entry in instances["annotations"]:
        if "bbox" not in entry:
            entry["bbox"] = coco_mask.toBbox(coco.encode(entry["segmentation"], HEIGHT, WIDTH, "")).tolist()
    return instances


SOURCE = Source(REFS, with_boxes())
ROWS = [
    {**row, "raw_anns": json.loads(row["raw_anns"]), "raw_image_info": json.loads(row["raw_image_info"])}
    for row in (written_formats.row(SOURCE, ref) for ref in REFS)
]


class Written:
    """The formats on disk, each with its images; what a test changes is put back by the next one."""

    def __init__(self, root: Path):
        self.files: dict[str, Release] = {}
        self.contents: dict[str, dict[Path, bytes]] = {}
        for name, (write, kind) in FORMATS.items():
            images = root / name / "train2014"
            images.mkdir(parents=True)
            for image in INSTANCES["images"]:
                Image.new("RGB", (WIDTH, HEIGHT)).save(images / image["file_name"])
            write(SOURCE, root / name)
            self.files[name] = kind(root / name, "refcoco", "unc")
            masks = sorted((root / name).glob("masks/*/*.png"))
            self.contents[name] = {path: path.read_bytes() for path in (*self.files[name].annotations, *masks)}

    def is_sound(self, name: str, changed: dict[Path, bytes]) -> bool:
        """Whether it was a sound dataset; if not, its error is clear."""
        files = self.files[name]
        for path, content in {**self.contents[name], **changed}.items():
            path.write_bytes(content)
        shutil.rmtree(files.root / "written", ignore_errors=True)
        try:
            files.listed()
            tables = release.read(files, "sent")
        except DatasetError as error:
            assert_clear(str(error), files)
            return False
        assert_sound(tables, files)
        return True


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Written:
    return Written(tmp_path_factory.mktemp("formats"))


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_damaged_was_sound(written, name):
    assert written.is_sound(name, {})


@pytest.mark.parametrize("name", FORMATS)
@given(st.data())
@fuzzed(40)
def test_damaged_bytes(written, name, data):
    path = data.draw(st.sampled_from(sorted(written.contents[name])))
    written.is_sound(name, {path: data.draw(damaged([written.contents[name][path]]))})


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "parquet"])
@given(st.data())
@fuzzed(60)
def test_restructured_json(written, name, data):
    files = [path for path, content in written.contents[name].items() if path.suffix == ".json" and content != b"[]"]
    path = data.draw(st.sampled_from(files))
    content = data.draw(restructured(json.loads(written.contents[name][path]), JSON_VALUES))
    written.is_sound(name, {path: json.dumps(content, default=repr).encode()})


@given(restructured(ROWS, JSON_VALUES))
@fuzzed(100)
def test_restructured_rows(written, rows):
    try:
        table = pa.Table.from_pylist([dumped(row) for row in rows])
    except (pa.ArrowException, AttributeError, TypeError, OverflowError, ValueError):
        return  # Arrow holds rows of one type
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(table, sink)
    first, *others = [path for path in written.contents["parquet"]]
    empty = pa.BufferOutputStream()
    pa.parquet.write_table(table.slice(0, 0), empty)
    contents = [sink.getvalue().to_pybytes(), *(empty.getvalue().to_pybytes() for _ in others)]
    written.is_sound("parquet", dict(zip([first, *others], contents, strict=True)))


def dumped(row: dict) -> dict:
    return {key: json.dumps(value, default=repr) if key.startswith("raw_") else value for key, value in row.items()}


def test_a_page_that_claims_many_values_is_refused(tmp_path):
    table = pa.table({"split": pa.array(["train"] * 200), "samples": [[]] * 200})
    pa.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DatasetError, match=r"a\.parquet: RefCOCO-M"):
        release.read(FORMATS["parquet"][1](tmp_path, "refcoco", "unc"), "sent")
