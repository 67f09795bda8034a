"""The published counts, and what happens where a source has others."""

import pandas as pd
import pytest

from stages.prepare import published
from stages.prepare.formats import refcoco_m
from stages.prepare.problems import DatasetError
from stages.prepare.tables import Tables, count
from stages.runtime import params

TOTALS = {  # refs and expressions, stated by the papers for the whole sets
    ("refcoco", "unc"): (50000, 142210),
    ("refcoco+", "unc"): (49856, 141564),
    ("refcocog", "umd"): (49822, 95010),
}


def expressions(counts: dict[str, tuple[int, int, int]]) -> pd.DataFrame:
    """A table with so many refs, expressions and images in each split."""
    parts, start = [], 0
    for split, (refs, sentences, images) in counts.items():
        number = pd.Series(range(sentences))
        part = {"sent_id": start + number, "ref_id": start + number % refs, "image_id": start + number % images}
        parts.append(pd.DataFrame({**part, "ann_id": part["ref_id"], "split": split, "text": "cup"}))
        start += sentences
    return pd.concat(parts, ignore_index=True)


def judged(tmp_path, counts, name="refcocog", split_by="umd", allow_partial=False) -> Tables:
    tables = Tables(
        expressions(counts), pd.DataFrame(), pd.DataFrame(), [tmp_path / "refcocog" / "refs(umd).p"], {}, []
    )
    published.judge(tables, name, split_by, allow_partial)
    return tables


def test_every_set_that_the_parameters_know_has_its_counts():
    others = {(name, by) for name, choices in params.SPLIT_BY.items() for by in choices}
    assert set(published.COUNTS) == others | {(refcoco_m.NAME, refcoco_m.SPLIT_BY)}


@pytest.mark.parametrize("release", TOTALS)
def test_the_splits_add_up_to_the_published_totals(release):
    refs, sentences, _ = (sum(column) for column in zip(*published.COUNTS[release].values(), strict=True))
    assert (refs, sentences) == TOTALS[release]


@pytest.mark.parametrize("release", [key for key in published.COUNTS if key != ("refcoco", "google")])
def test_the_published_set_passes(tmp_path, release):
    table = expressions(published.COUNTS[release])
    assert {split: tuple(row.values()) for split, row in count(table).items()} == published.COUNTS[release]
    tables = judged(tmp_path, published.COUNTS[release], *release)
    assert not tables.partial and tables.warnings == [] and tables.checks == ["counts as published"]


def test_expressions_that_nobody_counted_are_not_compared(tmp_path):
    counts = {"train": (40000, 40001, 19213), "val": (5000, 5001, 4559), "test": (5000, 5000, 4527)}
    tables = judged(tmp_path, counts, "refcoco", "google")
    assert not tables.partial and tables.checks == ["counts as published"]
    with pytest.raises(DatasetError, match="test has 4,999 refs where 5,000 are published"):
        judged(tmp_path, counts | {"test": (4999, 5000, 4527)}, "refcoco", "google")


def test_a_difference_is_an_error_with_both_numbers(tmp_path):
    counts = published.COUNTS["refcocog", "umd"] | {"val": (2573, 4895, 1300)}
    with pytest.raises(DatasetError) as caught:
        judged(tmp_path, counts)
    assert f"{tmp_path}/refcocog is not the published refcocog (umd): val has 4,895 expressions where 4,896" in str(
        caught.value
    )
    assert "allow_partial: true" in str(caught.value)
    with pytest.raises(DatasetError, match="test has 0 refs where 5,023 are published, 0 expressions"):
        judged(tmp_path, {split: row for split, row in counts.items() if split != "test"})
    with pytest.raises(DatasetError, match="testA has 1 refs where 0 are published"):
        judged(tmp_path, published.COUNTS["refcocog", "umd"] | {"testA": (1, 1, 1)})


def test_where_it_is_allowed_a_difference_is_a_warning_with_both_numbers(tmp_path):
    counts = published.COUNTS["refcocog", "umd"] | {"val": (2573, 4895, 1300), "test": (23, 40, 7)}
    tables = judged(tmp_path, counts, allow_partial=True)
    assert tables.partial and "counts as published" not in tables.checks
    assert tables.warnings == ["not the whole refcocog (umd): val 4,895 of 4,896 expressions, test 23 of 5,023 refs"]
