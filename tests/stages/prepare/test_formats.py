"""Every format gives the dataset that the REFER release gives; what must not be read is refused with a way out."""

from collections import Counter

import pandas as pd
import pytest

from stages.data.prepared import BOX_COLUMNS, EXPRESSION_COLUMNS, INSTANCE_COLUMNS
from stages.prepare.formats import coco_categories, release
from stages.prepare.formats.refer import ReferFiles
from stages.prepare.tables import Tables
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
