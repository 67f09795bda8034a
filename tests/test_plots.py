"""`dvc plots show` draws what dvc.yaml declares, with the templates in .dvc/plots."""

import json
import re

import pandas as pd
import pytest

from benchmarks.clones import VARIANTS


@pytest.fixture(scope="module")
def plots(reproduced):
    page = (reproduced.folder / "dvc_plots" / "index.html").read_text()
    starts = (found.end() for found in re.finditer(r'var spec = (?={"\$schema")', page))
    return [json.JSONDecoder().raw_decode(page, start)[0] for start in starts]


def test_every_plot_has_its_rows(plots, reproduced):
    drawn = ["results/comparison/scenes", "results/slices/scenes", "reports/data/scenes/learning"]
    rows = [len(pd.read_csv(reproduced.folder / f"{name}.csv")) for name in drawn]
    assert [len(plot["data"]["values"]) for plot in plots] == rows
    assert [plot["title"]["subtitle"] for plot in plots] == [f"{name}.csv" for name in drawn]


def test_every_template_is_filled_in(plots):
    assert not any("<DVC_METRIC" in json.dumps(plot) for plot in plots)


def test_differences_and_slices_have_intervals_by_split(plots):
    for plot, rows in zip(plots[:2], ("variant", "name"), strict=True):
        assert plot["facet"]["column"]["field"] == "split"
        zero, interval, dot = plot["spec"]["layer"]
        assert zero["encoding"]["x"] == {"datum": 0}
        ends = (interval["encoding"]["x"]["field"], interval["encoding"]["x2"]["field"], dot["encoding"]["x"]["field"])
        assert ends == ("difference_low", "difference_high", "difference")
        assert interval["encoding"]["y"]["field"] == dot["encoding"]["y"]["field"] == rows
        assert interval["encoding"]["x"]["title"] == "difference to the reference, in points"
        assert {"calculate": "100 * datum.difference_low", "as": "difference_low"} in plot["transform"]


def test_learning_curves_of_all_variants_are_one_plot(plots, reproduced):
    values, (single, mean) = plots[2]["data"]["values"], plots[2]["layer"]
    for variant, seed in {(row["variant"], row["seed"]) for row in values}:
        history = pd.read_csv(reproduced.folder / f"results/history/scenes/{variant}/{seed}.csv")
        found = [float(row["val"]) for row in values if (row["variant"], row["seed"]) == (variant, seed)]
        assert found == pytest.approx(list(history["val_mIoU"]))
    assert {row["variant"] for row in values} == set(VARIANTS)
    assert single["encoding"]["detail"]["field"] == "seed"
    assert mean["encoding"]["y"] == {"aggregate": "mean", "field": "val"}
