"""Every format gives the dataset that the REFER release gives; what must not be read is refused with a way out."""

from collections import Counter
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from ruamel.yaml import YAML

from stages.data import prepared
from stages.data.prepared import BOX_COLUMNS, EXPRESSION_COLUMNS, INSTANCE_COLUMNS
from stages.prepare import detection, sources
from stages.prepare.formats import coco_categories, refused, release
from stages.prepare.formats.cris import CrisFiles
from stages.prepare.formats.parquet import ParquetFiles
from stages.prepare.formats.refer import ReferFiles
from stages.prepare.formats.seqtr import SeqtrFiles
from stages.prepare.problems import DatasetError
from stages.prepare.tables import Tables
from stages.runtime.errors import exit_on_error
from stages.runtime.params import ReferSource
from tests.stages.prepare import written_formats
from tests.stages.prepare.written_formats import FORMATS, Source

IDS = {  # of the REFER release, that a format keeps
    "parquet": ["sent_id", "ref_id", "ann_id"],
    "mdetr": ["ann_id"],
    "seqtr": [],
    "seqtr_with_ids": ["ref_id", "ann_id"],
    "cris": ["sent_id", "ref_id"],
}
SETS = [("refer_true", "refcoco"), ("refer_true", "refcoco+"), ("refer_mini", "refcoco")]


def samples(tables: Tables, ids: list[str]) -> pd.DataFrame:
    """Each expression with the image and the mask that it means, and some of its ids."""
    both = tables.expressions.merge(tables.instances, on=["ann_id", "image_id"], validate="many_to_one")
    columns = ["image_id", "image", "width", "height", "split", "text", "category", "mask", *ids]
    return both[columns].sort_values(columns).reset_index(drop=True)


def refs(tables: Tables) -> Counter:
    """How often each split, image, mask and group of texts is a ref."""
    both = tables.expressions.merge(tables.instances, on=["ann_id", "image_id"])
    groups = both.groupby(["ref_id", "split", "image_id", "mask"])["text"].agg(lambda texts: tuple(sorted(texts)))
    return Counter((key[1:], texts) for key, texts in groups.items())


def rows(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    return table[columns].sort_values(columns[:2]).reset_index(drop=True)


@pytest.fixture(scope="module", params=SETS, ids="/".join)
def original(request, shared_data) -> tuple[ReferFiles, Source, Tables]:
    folder, name = request.param
    files = ReferFiles(shared_data / folder, name, "unc")
    return files, Source.of(files), release.read(files, "sent", check_images=folder == "refer_true")


@pytest.mark.parametrize("name", FORMATS)
def test_photographs_are_the_same_in_every_format(tmp_path, original, name):
    files, source, expected = original
    write, kind = FORMATS[name]
    write(source, tmp_path)
    tables = release.read(kind(tmp_path, "refcoco", "unc", files.image_folder()), "sent", bool(expected.sizes))
    pd.testing.assert_frame_equal(samples(tables, IDS[name]), samples(expected, IDS[name]))
    assert refs(tables) == refs(expected)
    assert (tables.sizes, tables.warnings) == (expected.sizes, expected.warnings)
    assert set(expected.checks) == set(tables.checks)


def test_parquet_and_mdetr_with_coco_count_all_distractors(tmp_path, original):
    files, source, expected = original
    for name in ("parquet", "mdetr"):
        write, kind = FORMATS[name]
        write(source, tmp_path / name)
        written_formats.coco(source, tmp_path / name)
        tables = release.read(kind(tmp_path / name, "refcoco", "unc", files.image_folder()), "sent", False)
        pd.testing.assert_frame_equal(rows(tables.boxes, BOX_COLUMNS), rows(expected.boxes, BOX_COLUMNS))
        pd.testing.assert_frame_equal(
            rows(tables.instances, INSTANCE_COLUMNS), rows(expected.instances, INSTANCE_COLUMNS)
        )
        if name == "parquet":
            assert rows(tables.expressions, EXPRESSION_COLUMNS).equals(rows(expected.expressions, EXPRESSION_COLUMNS))
            assert coco_categories.NOTE not in tables.notes


def test_names_of_categories_are_those_of_coco(original):
    assert {entry["id"]: entry["name"] for entry in original[1].instances["categories"]} == {
        number: entry["name"] for number, entry in coco_categories.BY_ID.items()
    }


def small(refs: list[dict] | None = None) -> Source:
    """Two images of two refs each, named as COCO names them."""
    square = [[1, 1, 5, 1, 5, 5, 1, 5]]
    images = [{"id": n, "file_name": f"COCO_train2014_{n:012d}.jpg", "height": 8, "width": 9} for n in (1, 2)]
    annotations = [
        {"id": n, "image_id": n // 10, "category_id": 1, "segmentation": square, "bbox": [1, 1, 4, 4], "iscrowd": 0}
        for n in (11, 12, 21, 22)
    ]
    for annotation in annotations[1::2]:
        annotation["segmentation"] = [[2, 2, 7, 2, 7, 7, 2, 7]]
    usual = [ref(n, "train" if n < 20 else "val") for n in (11, 12, 21, 22)]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
    return Source(usual if refs is None else refs, content)


def ref(number: int, split: str) -> dict:
    sentences = [
        {"sent_id": 10 * number + place, "raw": f"Man {number}!", "sent": f"man {number} {place}", "tokens": []}
        for place in range(2)
    ]
    ids = {"ref_id": 100 + number, "ann_id": number, "image_id": number // 10, "category_id": 1}
    return {**ids, "split": split, "sentences": sentences, "sent_ids": [], "file_name": ""}


def read(kind: type[release.Release], root: Path, sentence: str = "sent") -> Tables:
    return release.read(kind(root, "refcoco", "unc"), sentence, check_images=False)


def error(kind: type[release.Release], root: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        read(kind, root)
    return str(caught.value)


def test_parquet_has_the_text_as_it_was_typed(tmp_path):
    written_formats.parquet(small(), tmp_path)
    assert set(read(ParquetFiles, tmp_path, "raw").expressions["text"]) == {f"Man {n}!" for n in (11, 12, 21, 22)}
    assert set(read(ParquetFiles, tmp_path).expressions["split"]) == {"train", "val"}


def test_overlapping_polygons_of_a_png_are_one_mask(tmp_path):
    source = small()
    source.annotations[11]["segmentation"] = [[1, 1, 5, 1, 5, 5, 1, 5], [3, 3, 8, 3, 8, 7, 3, 7]]
    written_formats.cris(source, tmp_path)
    instances = read(CrisFiles, tmp_path).instances.set_index("ann_id")
    mask = prepared.decode_mask(instances["mask"][111], 8, 9)
    assert mask.sum() == 16 + 20 - 4


def test_what_a_format_lacks_is_made_and_noted(tmp_path):
    written_formats.seqtr(small(), tmp_path)
    first, again = read(SeqtrFiles, tmp_path), read(SeqtrFiles, tmp_path)
    assert first.expressions.equals(again.expressions)
    assert len(first.instances) == 4 and first.expressions["ref_id"].nunique() == 4
    assert any(note.startswith("ids are made") for note in first.notes)
    assert coco_categories.NOTE in first.notes


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("unc_train.pth", "a list in a pickle of PyTorch"),
        ("lmdb/refcoco/train.lmdb", "an LMDB, whose values are pickles"),
        ("refcoco_train.tsv", "a table of PolyFormer"),
        ("grefs(unc).json", "gRefCOCO, whose expressions mean several things or none"),
        ("annotations/mixed-seg/instances.json", "SeqTR's JSON of several sets together"),
        ("annotations/mixed-seg/instances_nogoogle_withid.json", "SeqTR's JSON of several sets together"),
    ],
)
def test_files_that_are_not_read_are_named_with_those_to_use_instead(tmp_path, name, message):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(b"never read")
    for kind in (CrisFiles, ParquetFiles):
        told = error(kind, tmp_path)
        assert f"{tmp_path / name}: {message}" in told and "Use " in told
    source = ReferSource(kind="cris", root=str(tmp_path), name="refcoco", split_by="unc", sentence="sent")
    with pytest.raises(DatasetError, match="what is there is not read"):
        sources.external(source)


def test_weights_of_a_model_are_no_list_of_expressions(tmp_path):
    assert refused.of_name(tmp_path / "best_model.pth") is None


def test_the_file_of_one_set_is_not_one_of_several(tmp_path):
    assert refused.of_name(tmp_path / "annotations" / "refcoco-unc" / "instances.json") is None


@pytest.mark.parametrize("column", ["question_id", "samples"])
def test_other_parquet_files_are_refused(tmp_path, column):
    names = ["question_id", "answer"] if column == "question_id" else ["samples"]
    pa.parquet.write_table(pa.table({name: ["a"] for name in names}), tmp_path / "val.parquet")
    expected = "of lmms-lab, for chat models" if column == "question_id" else "RefCOCO-M"
    assert f"val.parquet: {expected}" in error(ParquetFiles, tmp_path)
    assert expected in detection.report(tmp_path)


def test_other_columns_and_files_are_named(tmp_path):
    pa.parquet.write_table(pa.table({"a": ["a"]}), tmp_path / "a.parquet")
    assert "a.parquet: no column ref_id, ann_id, image_id, split" in error(ParquetFiles, tmp_path)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    assert "a.parquet: not a whole Parquet file" in error(ParquetFiles, tmp_path)
    (tmp_path / "a.parquet").unlink()
    assert "*.parquet: No such file" in error(ParquetFiles, tmp_path)


def test_mdetr_without_coco_says_which_file_is_missing(tmp_path):
    written_formats.mdetr(small(), tmp_path)
    (tmp_path / "instances_train2014.json").unlink()
    assert "instances_train2014.json: No such file" in error(FORMATS["mdetr"][1], tmp_path)


def test_a_missing_and_a_broken_mask_are_named(tmp_path):
    written_formats.cris(small(), tmp_path)
    (tmp_path / "masks" / "refcoco" / "111.png").unlink()
    (tmp_path / "masks" / "refcoco" / "112.png").write_bytes(b"an image")
    told = error(CrisFiles, tmp_path)
    assert "mask cannot be read (2): 111.png: it does not exist; 112.png: it is not an image" in told


def test_a_folder_is_described_and_its_entries_are_valid(tmp_path):
    for name, (write, _) in FORMATS.items():
        write(small(), tmp_path / ("refcoco" if name == "parquet" else name))
    (tmp_path / "lmdb").mkdir()
    (tmp_path / "lmdb" / "data.mdb").write_bytes(b"never read")
    found = detection.report(tmp_path)
    assert f"{tmp_path}/lmdb/data.mdb: an LMDB" in found
    entries = YAML(typ="safe").load(found[found.index("datasets:") :])["datasets"]
    assert [ReferSource(**entry).kind for entry in entries.values()] == ["cris", "mdetr", "parquet", "seqtr", "seqtr"]
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DatasetError, match="neither it nor a folder up to 4 below holds"):
        detection.report(empty)
    with pytest.raises(DatasetError, match="absent: no such folder"):
        detection.report(tmp_path / "absent")


@pytest.mark.parametrize("name", FORMATS)
def test_the_fingerprint_follows_every_file(tmp_path, name):
    write, _ = FORMATS[name]
    write(small(), tmp_path)
    kind = "seqtr" if name == "seqtr_with_ids" else name
    source = ReferSource(
        kind=kind, root=str(tmp_path), name="refcoco", split_by="unc", sentence="sent", check_images=False
    )
    first = sources.external(source)
    assert sources.external(source) == first
    for path in sorted(path for path in tmp_path.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if path.suffix != ".parquet":
            path.write_bytes(content + b" ")
            assert sources.external(source) != first, path
            path.write_bytes(content)


def test_the_text_as_typed_is_refused_where_there_is_none():
    with pytest.raises(ValueError, match="sentence: files of kind cris have no 'raw'; allowed: sent"):
        ReferSource(kind="cris", root="a", name="refcoco", split_by="unc", sentence="raw")


def incomplete(root: Path, name: str, path: str) -> Path:
    FORMATS[name][0](small(), root)
    (root / path).unlink()
    return root


def test_parts_of_a_set_are_told_with_what_they_lack(tmp_path):
    incomplete(tmp_path / "a", "mdetr", "finetune_refcoco_testA.json")
    incomplete(tmp_path / "b", "mdetr", "instances_train2014.json")
    incomplete(tmp_path / "c", "cris", "anns/refcoco/val.json")
    written_formats.parquet(small(), tmp_path / "d")
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "half.parquet").write_bytes(b"PAR1")
    *told, half = detection.report(tmp_path).splitlines()
    assert half.startswith(f"  {tmp_path}/e/half.parquet: not a whole Parquet file: ")
    assert told == [
        "not whole:",
        f"  {tmp_path}/a/finetune_refcoco_testA.json: missing; kind mdetr, refcoco",
        f"  {tmp_path}/b/instances_train2014.json: missing; kind mdetr, refcoco",
        f"  {tmp_path}/c/anns/refcoco/val.json: missing; kind cris, refcoco",
        f"  {tmp_path}/d/data: as many refs as no set has, so give its name and split_by yourself; kind parquet",
    ]


def test_the_wrong_kind_is_answered_with_what_is_there(tmp_path):
    written_formats.cris(small(), tmp_path)
    told = error(ReferFiles, tmp_path)
    assert f"{tmp_path} holds ['anns', 'masks']" in told
    assert told.endswith(f"`python -m stages.prepare --detect {tmp_path}` tells what is there")


def test_masks_that_are_all_gone_are_the_only_error(tmp_path):
    written_formats.cris(small(), tmp_path)
    for mask in (tmp_path / "masks" / "refcoco").iterdir():
        mask.unlink()
    assert len(error(CrisFiles, tmp_path).splitlines()) == 1


def test_a_pointer_in_place_of_a_file_is_named(tmp_path):
    (tmp_path / "a.parquet").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n")
    assert "a.parquet: a pointer of Git LFS in place of the file: run `git lfs pull`" in error(ParquetFiles, tmp_path)


def test_expressions_in_two_files_are_named(tmp_path):
    source = small()
    source.refs[1]["sentences"] = source.refs[0]["sentences"]
    written_formats.parquet(source, tmp_path)
    assert error(ParquetFiles, tmp_path) == f"{tmp_path}: sent_id not unique (2): 110; 111"


def test_a_file_that_may_not_be_read_ends_the_command_with_one_line(tmp_path, monkeypatch):
    def forbidden(path: Path):
        raise PermissionError(13, "Permission denied", str(path))

    written_formats.parquet(small(), tmp_path)
    monkeypatch.setattr(Path, "iterdir", forbidden)
    with pytest.raises(SystemExit, match=r"error: .*Permission denied"), exit_on_error():
        read(ParquetFiles, tmp_path)
