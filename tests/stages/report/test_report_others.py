"""Systems that others made, as rows of the report: in every table of scores, with what they cannot show."""

import io
import json

import pandas as pd
import pytest

from stages.report import assemble, dataset_numbers
from stages.report.dataset_numbers import DatasetNumbers, ReportError
from stages.report.figures import differences
from stages.report.page import headline
from stages.report.provenance import stage_hashes
from stages.report.tables import protocol_tables, wide_tables
from stages.scoring.metrics import METRICS
from stages.statistics.evidence import ONE_FILE
from tests.stages.report import report_inputs
from tests.stages.report.report_inputs import MEANS

THEIRS = {"predictions": {"scenes": "theirs.json"}, "label": "Theirs, 2026", "latex_label": r"Theirs~\cite{them}"}
UNDER = {"original": 0.581, "cris": 0.56}  # a protocol -> the value of every metric
OF_MODELS = {"contrasts", "controls", "learning", "plan", "costs"}  # tables without a row for it


def with_theirs(settings, means: dict[str, float], missing: dict[str, int], like: str = "vlba") -> dict[str, bytes]:
    """The files of a report in which `theirs` has the numbers of a variant, without what a file cannot have."""
    files = report_inputs.files(settings, means)
    nothing = {"p": None, "p_holm": None, "supported": False, "verdict": "", "no_verdict": ONE_FILE}
    for file in (dataset_numbers.COMPARISON, dataset_numbers.SLICES, dataset_numbers.AVERAGES):
        table = pd.read_csv(io.BytesIO(files[file]), dtype={"missing": str})
        own = table[table["variant"] == like]
        if "against" in table:
            own = own[own["against"].isna() | (own["against"] == "baseline")]
        changes = {"variant": "theirs", "seeds": 1, "missing": "", "std": None, **nothing}
        own = own.assign(**{key: value for key, value in changes.items() if key in table})
        files[file] = report_inputs.csv(pd.concat([table, own]))
    files[dataset_numbers.OTHERS] = json.dumps({"theirs": {"missing": missing}}).encode()
    return files


@pytest.fixture
def settings(tmp_path):
    return report_inputs.params(tmp_path, others={"theirs": THEIRS})


@pytest.fixture
def results(settings) -> DatasetNumbers:
    return dataset_numbers.from_files("scenes", settings, with_theirs(settings, MEANS, {"testA": 12}))


def test_every_table_of_scores_has_its_row(results):
    for table in [*assemble.all_tables(results), *assemble.common_tables([results])]:
        names = [row[0] for block in table.blocks for group in block.groups for row in group.rows]
        heads = [heading for block in table.blocks for heading in block.headings]
        own = [cell for cell in names if cell.text.startswith("Theirs, 2026")]
        if table.key in OF_MODELS:
            assert not own
            continue
        assert own or any(heading.startswith("Δ Theirs, 2026") for heading in heads), table.key
        assert all(cell.latex == r"Theirs~\cite{them}" for cell in own)
        (note,) = [line for line in table.notes if ONE_FILE in line]
        assert "Δ is to the mean over the seeds of baseline" in note
        assert "Expressions without a prediction, scored as empty masks: 12 of 1,001 on testA of scenes." in note


def test_it_has_numbers_and_differences_but_no_verdict(results):
    tables = {table.key: table for table in assemble.all_tables(results)}
    *_, row = tables["main"].blocks[0].groups[-1].rows
    assert [str(cell) for cell in row[1:4]] == ["58.1 [55.1, 61.1]", row[2].text, "+3.1 [0.1, 6.1]"]
    assert row[2].text.startswith("\N{EM DASH}") and not any(cell.bold for cell in row)
    *_, row = tables["differences"].blocks[0].groups[-1].rows
    assert row[1].text == "+3.1" and row[2].text.startswith("\N{EM DASH}") and row[3].text.startswith("\N{EM DASH}")
    groups = tables["ablation-testA"].blocks[0].groups
    assert [group.title for group in groups] == ["this project, recipe small", "predictions of others"]
    assert [cell.text for cell in groups[1].rows[0][1:4]] == ["", "", ""]
    vlba = next(row for row in tables["main"].blocks[0].groups[-1].rows if row[0].text == "vlba")
    assert vlba[3].bold  # the verdicts of variants are as they were


def test_its_masks_stand_under_each_protocol_that_can_count_them(tmp_path):
    also = ["cris", "lavt"]
    settings = report_inputs.params(tmp_path, others={"theirs": THEIRS}, also=also)
    files = with_theirs(settings, MEANS, {})
    under = {
        name: {split: dict.fromkeys(METRICS, value) for split in ("val", "testA")} for name, value in UNDER.items()
    }
    own = under.pop("original")
    said = {"protocol": "original", "missing": {}, "splits": own, "also": {**under, "lavt": None}}
    files[dataset_numbers.OTHERS] = json.dumps({"theirs": said}).encode()
    table, *_ = protocol_tables.tables(dataset_numbers.from_files("scenes", settings, files))
    *_, row = table.blocks[0].groups[-1].rows
    assert [str(cell) for cell in row[1:3]] == ["58.1 (1)", "56.0 (1)"] and str(row[4]) == "2.1"
    assert row[0].text.startswith("Theirs, 2026") and row[3].text.startswith("\N{EM DASH}")
    assert "Masks of the size at which original counts, and this protocol does not." in " ".join(table.notes)
    assert protocol_tables.SAME_MASKS in table.footer
    said["also"].pop("lavt")
    files[dataset_numbers.OTHERS] = json.dumps({"theirs": said}).encode()
    with pytest.raises(
        ReportError, match=r"also scored under \['cris'\], not \['cris', 'lavt'\].*dvc repro score@scenes"
    ):
        dataset_numbers.from_files("scenes", settings, files)


def test_words_and_figure_say_so_too(results):
    assert headline.others(results) == (
        f"theirs: +3.1 mIoU over baseline on testA [0.1, 6.1]. Of others there is {ONE_FILE}."
    )
    assert "No verdict" not in headline.headline(results) and not results.no_verdict("testA")
    table = results.comparison.reset_index()
    figure = differences.figure(table, "baseline", "mIoU", "images", {"val": "", "testA": ""}, ["theirs"])
    assert f"theirs: {ONE_FILE}, and there is no verdict." in figure.caption
    assert [mark.label for mark in figure.legend] == ["supported", "not supported", "no verdict"]


def test_a_system_without_predictions_on_one_dataset_has_dashes_there(tmp_path, settings, results):
    other = report_inputs.numbers(report_inputs.params(tmp_path), MEANS)
    (table, *_) = wide_tables.tables([results, other])
    *_, row = table.blocks[0].groups[-1].rows
    assert row[0].text.startswith("Theirs, 2026")
    assert [cell.text[:1] == "\N{EM DASH}" for cell in row[1:]] == [False, False, True, True, True]
    assert any("theirs has no predictions on scenes" in line for line in table.notes)


def test_what_is_said_of_a_system_on_every_dataset_is_said_once(settings, results):
    (alone, *_), (twice, *_) = wide_tables.tables([results]), wide_tables.tables([results, results])
    other = dataset_numbers.from_files("scenes", settings, with_theirs(settings, MEANS, {"val": 1}))
    (apart, *_) = wide_tables.tables([results, other])
    names = [table.blocks[0].groups[-1].rows[-1][0].text for table in (alone, twice, apart)]
    assert names == ["Theirs, 2026¹", "Theirs, 2026¹", "Theirs, 2026¹²"]


def test_a_report_of_other_systems_than_those_listed_is_refused(settings):
    files = with_theirs(settings, MEANS, {})
    files[dataset_numbers.OTHERS] = b"{}"
    with pytest.raises(ReportError, match=r"params\.yaml lists \['theirs'\].*dvc repro score@scenes"):
        dataset_numbers.from_files("scenes", settings, files)


def test_the_stage_is_part_of_where_a_report_comes_from_only_with_others(tmp_path, settings):
    assert "score@scenes" in stage_hashes(settings, {})
    assert "score@scenes" not in stage_hashes(report_inputs.params(tmp_path), {})
