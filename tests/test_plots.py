"""`dvc plots show` draws what dvc.yaml declares, with the templates in .dvc/plots."""

import json
import re

import pandas as pd
import pytest

from benchmarks.clones import run
from tests.project import clone

pytestmark = pytest.mark.programs

SHOWN = {
    "results/history/scenes/vlba/0.csv": {"epoch": [1, 2], "val_mIoU": [0.3, 0.4]},
    "results/comparison/scenes.csv": {
        "variant": ["baseline", "vlba"],
        "split": "val",
        "metric": "mIoU",
        "difference": [0.0, 0.02],
        "difference_low": [None, 0.01],
        "difference_high": [None, 0.03],
    },
    "results/slices/scenes.csv": {
        "variant": ["baseline", "vlba"],
        "split": "val",
        "family": "length",
        "slice": "1 to 2",
        "difference": [0.0, 0.02],
        "difference_low": [None, 0.01],
        "difference_high": [None, 0.03],
    },
}


@pytest.fixture(scope="module")
def plots(root, tmp_path_factory):
    folder = clone(root, tmp_path_factory.mktemp("project"))
    for name, columns in SHOWN.items():
        (folder / name).parent.mkdir(parents=True)
        pd.DataFrame(columns).to_csv(folder / name, index=False)
    run(folder, "dvc", "plots", "show", "--out", "plots")
    page = (folder / "plots" / "index.html").read_text()
    starts = (found.end() for found in re.finditer(r'var spec = (?={"\$schema")', page))
    return [json.JSONDecoder().raw_decode(page, start)[0] for start in starts]


def test_every_plot_has_its_rows(plots):
    assert [len(plot["data"]["values"]) for plot in plots] == [2, 2, 2]


def test_every_template_is_filled_in(plots):
    assert not any("<DVC_METRIC" in json.dumps(plot) for plot in plots)


def test_differences_and_slices_have_intervals_by_split(plots):
    for plot, rows in zip(plots[1:], ("variant", "name"), strict=True):
        assert plot["facet"]["column"]["field"] == "split"
        zero, interval, dot = plot["spec"]["layer"]
        assert zero["encoding"]["x"] == {"datum": 0}
        ends = (interval["encoding"]["x"]["field"], interval["encoding"]["x2"]["field"], dot["encoding"]["x"]["field"])
        assert ends == ("difference_low", "difference_high", "difference")
        assert interval["encoding"]["y"]["field"] == dot["encoding"]["y"]["field"] == rows
        assert interval["encoding"]["x"]["title"] == "difference to the reference, as a fraction"
