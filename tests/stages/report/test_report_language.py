"""Does language matter? The table of controls, the line of the headline, and further datasets as columns."""

import pytest

from stages.report import assemble
from stages.report.page import glance, headline
from stages.report.tables import comparison_tables, language_tables, wide_tables
from tests.stages.report import report_inputs
from tests.stages.report.report_inputs import MEANS

SPLITS = ("val", "testA", "refer_true")
MINUS = "\N{MINUS SIGN}"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def numbers(folder, splits=SPLITS, dataset="scenes", **changes):
    settings = report_inputs.params(folder, dataset, evaluate_on=["refer_true"])
    return report_inputs.numbers(settings, MEANS, splits, **changes)


def test_the_table_has_masks_controls_and_differences(tmp_path):
    table = language_tables.table(numbers(tmp_path, contributes={"vlba": 0.25}, images={"testA": 5}))
    (block,) = table.blocks
    assert block.headings == ["", "val (chose the epoch)", "testA (too few images)", "refer_true"]
    masks, controls, differences = [
        {row[0].text: [str(cell) for cell in row[1:]] for row in group.rows} for group in block.groups
    ]
    assert masks["whole image"] == ["10.0 [7.0, 13.0]", "10.0", "10.0 [7.0, 13.0]"]
    assert [*masks] == ["whole image", "center box"] and [*controls] == [*differences] == [*MEANS]
    assert controls["vlba"] == ["33.1 [30.1, 36.1]", "33.1", "33.1 [30.1, 36.1]"]
    assert differences["vlba"] == ["+25.0 [22.0, 28.0]", "+25.0", "+25.0 [22.0, 28.0]"]


def test_a_variant_without_scores_has_a_dash(tmp_path):
    table = language_tables.table(numbers(tmp_path, missing={"vlba": [0, 1]}))
    rows = [row for group in table.blocks[0].groups for row in group.rows if row[0].text.startswith("vlba¹")]
    assert len(rows) == 2 and all(cell.text == "—¹" for row in rows for cell in row[1:])
    assert any("vlba has no scores" in note for note in table.notes)


def test_nothing_is_said_where_language_matters(tmp_path):
    assert language_tables.warning(numbers(tmp_path)) == ""
    assert "Language" not in headline.headline(numbers(tmp_path))


def test_the_headline_names_the_variants_for_which_language_does_not_clearly_matter(tmp_path):
    results = numbers(tmp_path, contributes={"baseline": 0.0, "alignformer": 0.02})
    said = (
        f"Language is not shown to matter for baseline (0.0 [{MINUS}3.0, 3.0] on testA and 0.0 [{MINUS}3.0, 3.0] on "
        f"refer_true) and alignformer (+2.0 [{MINUS}1.0, 5.0] on testA and +2.0 [{MINUS}1.0, 5.0] on refer_true): mIoU "
        "with its own expressions minus that with expressions of other images, in points."
    )
    assert language_tables.warning(results) == said
    assert said in headline.headline(results) and said in glance.glance(results).remarks
    about_reference = report_inputs.params(tmp_path, variants=["baseline"], highlight="baseline")
    alone = report_inputs.numbers(about_reference, MEANS, contributes={"baseline": 0.0})
    assert "Language is not shown to matter for baseline (0.0" in headline.headline(alone)


def test_an_interval_above_zero_is_needed_and_enough(tmp_path):
    for change, warned in ((0.0299, True), (0.0301, False)):
        assert bool(language_tables.warning(numbers(tmp_path, contributes={"vlba": change}))) == warned
    few = numbers(tmp_path, contributes={"vlba": 0.0}, images=dict.fromkeys(SPLITS, 5))
    assert language_tables.warning(few) == ""  # no interval, so nothing can be said


@pytest.mark.parametrize(
    ("dataset", "splits"),
    [
        ("scenes", SPLITS),
        ("refcoco", SPLITS),
        ("refcoco_mix", ("refcoco_val", "refcoco_testA", "refcoco+_val", "refer_true")),
    ],
)
def test_a_further_dataset_is_a_column_of_its_own_name(tmp_path, dataset, splits):
    results = numbers(tmp_path, splits, dataset)
    (table, *_) = wide_tables.tables([results])
    spans = [title for title, width in table.blocks[0].spans for _ in range(width)]
    place = table.blocks[0].headings.index("refer_true")
    assert spans[place] == "" and table.blocks[0].headings[place + 1] == "test average"
    assert [split for found in comparison_tables.by_set(results).values() for split in found] == [*splits]
    assert "full" in [table.key for table in assemble.all_tables(results)]
    assert "refer_true" in results.unseen
