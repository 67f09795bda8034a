"""A factorial in the report: its table, its plot and its sentences, and none of them without one."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from matplotlib.figure import Figure as Canvas

from stages.report import assemble, dataset_numbers
from stages.report.dataset_numbers import DatasetNumbers
from stages.report.figures import factorial_plots
from stages.report.page import headline
from stages.report.tables import contrast_tables, factorial_tables, markdown
from stages.runtime import layout
from stages.runtime.params import Params
from tests.stages.report import report_inputs

MEANS = {
    **{"baseline": 0.50, "baseline_pixel": 0.51, "baseline_instance": 0.52},
    **{"vlba": 0.60, "vlba_pixel": 0.61, "alignformer": 0.66},
}
CONTRAST = {"contrastive_weight": 0.01, "temperature": 0.05}
MINUS = "\N{MINUS SIGN}"


@pytest.fixture
def settings(tmp_path, monkeypatch) -> Params:
    """No VLBA and both directions, with no, pixel and instance contrast."""
    monkeypatch.chdir(tmp_path)
    content = yaml.safe_load(report_inputs.PARAMS.read_text())
    content["variants"] |= {
        f"baseline_{kind}": {"vlba": "none", "contrastive": kind, **CONTRAST} for kind in ("pixel", "instance")
    }
    path = tmp_path / "all.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report_inputs, "PARAMS", path)
        return report_inputs.params(tmp_path, variants=list(MEANS), highlight="alignformer")


@pytest.fixture
def results(settings) -> DatasetNumbers:
    return report_inputs.numbers(settings, MEANS)


def test_the_table_has_main_effects_and_interactions(results):
    """By hand: VLBA adds .10, .10 and .14, the pixel contrast .01 and .01, the instance contrast .02 and .06."""
    table = factorial_tables.table(results)
    assert table is not None
    (block,) = table.blocks
    assert block.headings == ["effect", "Δ mIoU", "adj. p", "Δ oIoU", "adj. p"]
    assert [[str(cell) for cell in row[:3]] for row in block.groups[1].rows] == [
        ["bidirectional VLBA", "+11.3 [8.3, 14.3]", "0.020"],
        ["pixel contrast", f"+1.0 [{MINUS}2.0, 4.0]", "1.000"],
        ["instance contrast", "+4.0 [1.0, 7.0]", "0.020"],
        ["interaction of bidirectional VLBA and pixel contrast", f"0.0 [{MINUS}3.0, 3.0]", "1.000"],
        ["interaction of bidirectional VLBA and instance contrast", "+4.0 [1.0, 7.0]", "0.020"],
    ]
    assert [row[1].bold for row in block.groups[1].rows] == [True, False, True, False, True]
    footer = " ".join(table.footer)
    assert "every VLBA (none, bidirectional) with every contrast (none, pixel, instance)" in footer
    assert "after Holm's adjustment for all effects of the factorial" in footer


def test_the_effects_in_words(results):
    assert headline.effects(results) == (
        "Bidirectional VLBA: +11.3 mIoU in the mean over contrasts on testA [8.3, 14.3], supported. "
        f"Pixel contrast: +1.0 mIoU in the mean over kinds of VLBA on testA [{MINUS}2.0, 4.0], not supported. "
        "Instance contrast: +4.0 on testA [1.0, 7.0], supported. "
        "2 interactions on testA: 1 not supported and 1 supported, from 0.0 to +4.0. "
        "Interaction of bidirectional VLBA and instance contrast: +4.0 on testA [1.0, 7.0], supported."
    )


def test_a_single_interaction_is_always_told(tmp_path, settings):
    chosen = ["baseline", "baseline_instance", "vlba", "alignformer"]
    two = settings.model_copy(update={"experiment": settings.experiment.model_copy(update={"variants": chosen})})
    said = headline.effects(report_inputs.numbers(two, MEANS | {"alignformer": 0.62}))
    told = (
        f"Interaction of bidirectional VLBA and instance contrast: 0.0 mIoU on testA [{MINUS}3.0, 3.0], not supported."
    )
    assert said.endswith(told)


def test_cells_without_scores_leave_dashes(settings):
    results = report_inputs.numbers(settings, MEANS, missing={"vlba_pixel": [0, 1]})
    table = factorial_tables.table(results)
    assert table is not None and table.notes == ["¹ Its cells have no seed in common."]
    rows = {row[0].text: row for row in table.blocks[0].groups[1].rows}
    assert rows["bidirectional VLBA"][1].text == rows["pixel contrast"][2].text == "—¹"
    assert rows["interaction of bidirectional VLBA and instance contrast"][1].text == "+4.0"
    assert "nan" not in markdown.to_markdown(table)
    said = headline.effects(results)
    assert "Bidirectional VLBA: no seed in common, so no difference." in said
    assert "2 interactions on testA: 1 supported, from +4.0 to +4.0." in said and "nan" not in said


def test_a_pair_is_known_by_its_part_and_what_it_is_added_to(results, monkeypatch):
    table = contrast_tables.table(results)
    assert table is not None and "with the part and one without it." in " ".join(table.footer)
    first = [row[0].text for row in table.blocks[0].groups[0].rows]
    assert {"bidirectional VLBA over baseline", "instance contrast over vlba"} < set(first)
    assert len(set(first)) == len(first) == 7
    assert f"Pixel contrast over vlba: +1.0 on testA [{MINUS}2.0, 4.0], not supported." in headline.other_parts(results)
    monkeypatch.setattr(headline, "PAIRS", 4)
    told = "5 other differences of one part on testA: 2 not supported and 3 supported, from +1.0 to +14.0. Where the"
    assert headline.other_parts(results).startswith(told)


def test_one_seed_has_no_verdict_on_effects(tmp_path, settings):
    one = settings.model_copy(update={"experiment": settings.experiment.model_copy(update={"seeds": [0]})})
    results = report_inputs.numbers(one, MEANS)
    assert "upported" not in headline.effects(results)
    assert "2 interactions on testA: from 0.0 to +4.0." in headline.effects(results)
    table = factorial_tables.table(results)
    assert table is not None and "**" not in markdown.to_markdown(table)


def test_the_plot_has_a_line_a_contrast(results):
    comparison = results.comparison.reset_index()
    figure = factorial_plots.figure(results.factorial, comparison, "mIoU", "images and seeds")
    assert [mark.label for mark in figure.legend] == ["contrast: none", "contrast: pixel", "contrast: instance"]
    axes = Canvas().add_subplot()
    figure.panels[0].draw(axes)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["none", "both"]
    np.testing.assert_allclose([line.get_ydata() for line in axes.lines], [[50, 60], [51, 61], [52, 66]])
    ends = np.array([segment[:, 1] for each in axes.collections for segment in each.get_segments()])
    np.testing.assert_allclose(ends, [[mean - 3, mean + 3] for mean in (50, 60, 51, 61, 52, 66)])
    assert "Contrast instance: VLBA none 52.0, VLBA bidirectional 66.0" in figure.panels[0].alt


def test_the_kept_data_have_the_effects(settings):
    folder = layout.REPORTS / "data" / "scenes"
    folder.mkdir(parents=True)
    for name, content in report_inputs.files(settings, MEANS).items():
        (folder / name).write_bytes(content)
    text = assemble.of_kept_data(settings)[Path("tables/scenes.md")].decode()
    assert "Effects of VLBA and contrast in a factorial on scenes." in text and "2 interactions on testA: " in text
    (folder / dataset_numbers.FACTORIAL).unlink()
    with pytest.raises(dataset_numbers.MissingInputError, match=r"factorial\.csv"):
        assemble.of_kept_data(settings)


def test_without_a_factorial_nothing_is_said(tmp_path, settings):
    chosen = {"variants": ["baseline", "vlba", "alignformer"]}
    fewer = settings.model_copy(update={"experiment": settings.experiment.model_copy(update=chosen)})
    assert dataset_numbers.FACTORIAL not in report_inputs.files(fewer, MEANS)
    results = report_inputs.numbers(fewer, MEANS)
    assert results.factorial is results.effects is factorial_tables.table(results) is None
    assert headline.effects(results) == ""
