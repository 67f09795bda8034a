"""Flat curves and speed of learning, as the report says them."""

import pytest

from stages.report.tables import learning_tables
from tests.stages.report import report_inputs

MEANS = {"baseline": 0.5, "alignformer": 0.8}


@pytest.fixture
def settings(tmp_path):
    return report_inputs.params(tmp_path, variants=list(MEANS), seeds=[0, 1, 2], highlight="alignformer")


def test_flat_curves_need_no_warning(settings):
    assert learning_tables.warning(report_inputs.numbers(settings, MEANS)) == ""


def test_rising_curves_are_named_with_what_they_gain(settings):
    said = learning_tables.warning(report_inputs.numbers(settings, MEANS, rising=True))
    assert said.startswith("Still rising: more epochs could change the comparison.")
    assert "baseline (+4.0) and alignformer (+6.4)" in said


def test_the_table_compares_area_and_epochs_with_the_reference(settings):
    table = learning_tables.table(report_inputs.numbers(settings, MEANS))
    assert table is not None
    baseline, full = ([cell.text for cell in row] for row in table.blocks[0].groups[0].rows)
    assert baseline[:3] == ["baseline", "0.0", "40.1"]  # 0.8 of 50, and 0.1 for the seeds
    assert full[:4] == ["alignformer", "0.0", "64.1", "+24.0"]
    assert float(full[4]) < float(baseline[4])


def test_runs_that_never_reach_the_level_are_told(settings):
    table = learning_tables.table(report_inputs.numbers(settings, {"baseline": 0.8, "alignformer": 0.5}))
    assert table is not None
    assert any("3 of 3 runs of alignformer never reach the level" in note for note in table.notes)
