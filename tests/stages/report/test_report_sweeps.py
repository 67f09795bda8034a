"""Sweeps are found where variants differ in one number, and nowhere else."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.figure import Figure as Canvas

from stages.report import sweeps
from stages.report.figures import sweep_plots
from stages.report.sweeps import Sweep
from stages.runtime.params import Params

CONTENT = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
FULL = CONTENT["variants"]["alignformer"]


def params(**variants: dict) -> Params:
    """The project's parameters with `baseline` and these variants, each the full method but for what is given."""
    named = {name: {**FULL, **changes} for name, changes in variants.items()}
    return Params.model_validate(
        {
            **CONTENT,
            "variants": {**CONTENT["variants"], **named},
            "experiment": {**CONTENT["experiment"], "variants": ["baseline", *variants], "highlight": "baseline"},
        }
    )


def test_the_six_variants_are_no_sweep():
    assert sweeps.find(Params.model_validate(CONTENT)) == []


def test_a_sweep_is_ordered_by_its_value():
    found = sweeps.find(params(c={"temperature": 0.2}, a={"temperature": 0.02}, b={"temperature": 0.05}))
    assert found == [Sweep("temperature", ["a", "b", "c"], [0.02, 0.05, 0.2])]
    assert found[0].labels == ["0.02", "0.05", "0.2"]


def test_two_values_are_no_sweep():
    assert sweeps.find(params(a={"temperature": 0.02}, b={"temperature": 0.05})) == []
    assert sweeps.find(params(a={"temperature": 0.02}, b={"temperature": 0.05}, c={"temperature": 0.05})) == []


def test_variants_that_differ_in_something_else_are_no_sweep():
    others = {"a": {"temperature": 0.02}, "b": {"temperature": 0.05, "contrastive": "pixel"}}
    assert sweeps.find(params(**others, c={"temperature": 0.1, "contrastive_weight": 0.1})) == []


def test_without_a_number_of_levels_it_is_all_and_comes_last():
    found = sweeps.find(params(all={}, one={"vlba_levels": 1}, two={"vlba_levels": 2}))
    assert found == [Sweep("vlba_levels", ["one", "two", "all"], [1, 2, None])]
    assert found[0].labels == ["1", "2", "all"]


def test_a_variant_can_be_part_of_two_sweeps():
    cold = {"a": {"temperature": 0.02}, "b": {"temperature": 0.1}}
    light = {"d": {"contrastive_weight": 0.0}, "e": {"contrastive_weight": 0.1}}
    found = sweeps.find(params(full={}, **cold, **light))
    assert [(sweep.key, sweep.variants) for sweep in found] == [
        ("contrastive_weight", ["d", "full", "e"]),
        ("temperature", ["a", "full", "b"]),
    ]


@pytest.mark.parametrize("reference", ["baseline", "b"])
def test_the_plot_has_a_place_a_value_and_the_reference_as_a_level(reference):
    sweep = Sweep("temperature", ["a", "b", "c"], [0.02, 0.05, 0.2])
    rows = [
        {"variant": name, "split": split, "metric": "mIoU", "mean": mean, "low": mean - 0.1, "high": mean + 0.1}
        for name, mean in (("baseline", 0.4), ("a", 0.5), ("b", np.nan), ("c", 0.6))
        for split in ("val", "testA")
    ]
    figure = sweep_plots.figure(sweep, pd.DataFrame(rows), reference, "mIoU", 1, "images and seeds")
    assert len(figure.panels) == 2
    axes = Canvas().add_subplot()
    figure.panels[0].draw(axes)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.02", "0.05", "0.2"]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [50, np.nan, 60])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("temperature of the contrast", "mIoU on val (%)")
    assert [text.get_text() for text in axes.texts] == ["no result"]
    assert len(axes.lines) == (2 if reference == "baseline" else 1)
    assert [mark.label for mark in figure.legend[1:]] == (["baseline"] if reference == "baseline" else [])
