"""Figures: the same bytes in any process, axes with units, the theme of the page, numbers against a second way."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure as Canvas
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator
from PIL import Image

from stages.attention.tiles import AttentionTiles, tiles
from stages.report.figures import (
    alignment_plots,
    attention,
    calibration_curves,
    differences,
    dot_plots,
    embedding_maps,
    learning_curves,
    profile_plots,
    rendering,
    slice_plots,
)
from stages.report.figures.figure import THEME, Figure, line_style
from stages.report.figures.slice_plots import Slices
from stages.statistics import alignment
from stages.statistics.slices import Family
from tests.stages.diagnose import diagnosis_inputs

VARIANTS = ["baseline", "vlba", "alignformer"]
OVER, TITLES = "images and seeds", {"val": "val (chose the epoch)", "testA": "testA"}
HOSTILE = 'a "quoted" <b> & $x_1$ thing'
FAMILIES = {
    "length": Family("Length", "words", "", ("1 to 2", "3 and more")),
    "words": Family("Words", "", "", ("none",)),
}


def comparison(missing: str = "") -> pd.DataFrame:
    rows = [
        {
            "variant": variant,
            "split": split,
            "metric": metric,
            "difference": np.nan if variant == missing else 0.02 * place,
            "difference_low": np.nan if variant == missing else 0.02 * place - 0.03,
            "difference_high": np.nan if variant == missing else 0.02 * place + 0.03,
            "no_verdict": "",
            "supported": variant != missing and place == 2,
        }
        for place, variant in enumerate(VARIANTS)
        for split in ("val", "testA")
        for metric in ("mIoU", "oIoU")
    ]
    return pd.DataFrame(rows)


def slices_of_val() -> Slices:
    rows = [
        {
            "family": family,
            "slice": name,
            "variant": variant,
            "expressions": expressions,
            **{key: value if expressions > 9 else np.nan for key, value in columns.items()},
        }
        for family, name, expressions in (("length", "1 to 2", 300), ("length", "3 and more", 5), ("words", "none", 40))
        for place, variant in enumerate(VARIANTS)
        for columns in [
            dict(zip(dot_plots.MEAN, (0.5, 0.45, 0.55), strict=True))
            | dict(zip(dot_plots.DIFFERENCE, (0.01 * place, 0.01 * place - 0.02, 0.01 * place + 0.02), strict=True))
        ]
    ]
    return Slices(pd.DataFrame(rows), FAMILIES, VARIANTS, "val", "mIoU", OVER)


def aligned(expressions: int = 60, images: int = 20) -> pd.DataFrame:
    rows = pd.DataFrame(
        {"sent_id": np.arange(expressions), "image_id": np.arange(expressions) % images, "split": "val"}
    )
    parts = [
        diagnosis_inputs.alignment(rows, 0.5, np.random.default_rng([place, seed])).assign(variant=name, seed=seed)
        for place, name in enumerate(VARIANTS)
        for seed in (0, 1)
    ]
    return pd.concat(parts, ignore_index=True)


def calibrated() -> tuple[pd.DataFrame, pd.DataFrame]:
    runs = [(name, seed) for name in VARIANTS for seed in (0, 1)]
    low, cuts = np.arange(20) / 20, np.arange(1, 20) / 20
    bins = [
        pd.DataFrame({"split": "val", "low": low, "pixels": 200, "probability": low, "inside": low}).assign(
            variant=name, seed=seed
        )
        for name, seed in runs
    ]
    curve = [
        pd.DataFrame({"split": "val", "threshold": cuts, "mIoU": 0.6 - (cuts - 0.35) ** 2}).assign(
            variant=name, seed=seed
        )
        for name, seed in runs
    ]
    return pd.concat(bins), pd.concat(curve)


def profiles() -> pd.DataFrame:
    rows = [
        {"split": split, "variant": variant, "threshold": threshold, "share": share, "low": share - 0.1, "high": share}
        for split in ("val", "testA")
        for place, variant in enumerate(VARIANTS)
        for threshold, share in ((0.0, 1.0), (0.5, 0.6 + 0.1 * place), (0.9, 0.2))
    ]
    return pd.DataFrame(rows)


def words() -> list[AttentionTiles]:
    table = diagnosis_inputs.attention(7, np.random.default_rng(0))
    image, truth = Image.new("RGB", (96, 64), (90, 120, 60)), np.zeros((64, 96), bool)
    truth[16:32, 24:48] = True
    return tiles(table, HOSTILE, 7, image, truth, None)


def every_figure() -> list[Figure]:
    points = diagnosis_inputs.embedding(7, np.random.default_rng(0))
    sample = pd.DataFrame([{"sent_id": 7, "text": HOSTILE, "variance_x": 0.5, "variance_y": 0.2}])
    history = pd.DataFrame({"epoch": [1, 2], "val_mIoU": [0.3, 0.4], "mask_loss": [1.0, 0.5]})
    of_val = slices_of_val()
    return [
        differences.figure(comparison(), "baseline", "mIoU", OVER, TITLES),
        profile_plots.figure(profiles(), VARIANTS, ["baseline", "alignformer"], OVER, TITLES),
        slice_plots.means(of_val, ["baseline", "alignformer"]),
        slice_plots.differences(of_val, "alignformer", "baseline"),
        alignment_plots.figure(alignment.summarise(aligned()), VARIANTS, "val", OVER),
        calibration_curves.figure(*calibrated(), VARIANTS, "val", "mIoU"),
        embedding_maps.figure({"baseline": points, "vlba": points}, {"baseline": sample, "vlba": sample}),
        attention.figure(words(), "alignformer"),
        learning_curves.figure({name: {0: history, 1: history} for name in VARIANTS}, VARIANTS, [0, 1]),
    ]


def digests() -> str:
    contents = [
        content
        for figure in every_figure()
        for content in (*rendering.files(figure, "salt"), *map(str.encode, rendering.inline(figure, "a")))
    ]
    return " ".join(hashlib.sha256(content).hexdigest() for content in contents)


@pytest.mark.parametrize("figure", every_figure(), ids=lambda figure: figure.key)
def test_the_last_bits_of_a_layout_change_no_byte(figure, monkeypatch):
    before, execute = rendering.files(figure, "salt"), ConstrainedLayoutEngine.execute

    def nudged(self, canvas):
        execute(self, canvas)
        for axes in canvas.axes:
            axes.set_position([np.nextafter(edge, 1) for edge in axes.get_position().bounds])

    monkeypatch.setattr(ConstrainedLayoutEngine, "execute", nudged)
    assert rendering.files(figure, "salt") == before


@pytest.mark.programs
def test_another_process_draws_the_same_bytes(tmp_path):
    """Whatever Python's hashes of strings are, whatever the time is, and in a notebook of a user with own settings."""
    style = "font.family: monospace\nfont.size: 20\nlines.linewidth: 9\nsavefig.dpi: 33\naxes.grid: True\n"
    (tmp_path / "matplotlibrc").write_text(f"{style}xtick.direction: in\nfigure.facecolor: red\npath.snap: False\n")
    there = (
        "from stages.runtime.startup import start; start(); "
        "from tests.stages.report.test_report_figures import digests; print(digests())"
    )
    own = {"MATPLOTLIBRC": str(tmp_path), "MPLBACKEND": "module://matplotlib_inline.backend_inline_of_nobody"}
    own |= {"TZ": "Asia/Kathmandu", "LC_ALL": "C", "PYTHONUTF8": "0", "COLUMNS": "20"}
    environment = {**os.environ, **own, "PYTHONHASHSEED": "1", "SOURCE_DATE_EPOCH": "0"}
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", there], cwd=root, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == digests(), done.stderr


@pytest.mark.parametrize("figure", every_figure(), ids=lambda figure: figure.key)
def test_every_axis_is_named(figure):
    for panel in figure.panels:
        axes = Canvas().add_subplot()
        panel.draw(axes)
        assert axes.get_xlabel()
        assert axes.get_ylabel() or isinstance(axes.yaxis.get_major_locator(), FixedLocator)  # names, no numbers
        assert panel.alt
    assert "Look for" in figure.caption


@pytest.mark.parametrize("figure", every_figure(), ids=lambda figure: figure.key)
def test_a_figure_in_the_page_follows_its_theme_and_is_named(figure):
    elements = rendering.inline(figure, "own")
    assert len(elements) == len(figure.panels)
    for element in elements:
        assert element.startswith('<svg role="img" aria-label="') and element.endswith("</svg>")
        assert not any(colour in element for colour in THEME)
        assert "<style" not in element and "xmlns" not in element and "<b>" not in element
        referred = re.findall(r'(?:href="|url\()#([^")]+)', element)
        assert sorted(re.findall(r'\bid="([^"]*)"', element)) == sorted(set(referred))
        assert "font-family" not in element and not re.search(r"<[^>]* [xy]=\"-?\d+\.\d{3}", element)
    assert len(set(elements)) == len(elements)


def test_dots_stand_where_the_numbers_are_and_gaps_are_named():
    (panel, _) = differences.figure(comparison(missing="vlba"), "baseline", "mIoU", OVER, TITLES).panels
    axes = Canvas().add_subplot()
    panel.draw(axes)
    dots = {
        (float(x), float(y))
        for line in axes.lines
        for x, y in zip(*line.get_data(), strict=True)
        if line.get_marker() == "o"
    }
    assert dots == {(4.0, 1.0)}
    filled = [line.get_markerfacecolor() for line in axes.lines if line.get_marker() == "o" and len(line.get_xdata())]
    assert filled == [line_style(2)[0]]
    assert [text.get_text() for text in axes.texts] == ["no scores"]
    assert panel.alt == "Difference in mIoU to baseline on val: vlba no result; alignformer 4.0"


def test_profiles_are_lines_with_a_band_for_some():
    (panel, _) = profile_plots.figure(profiles(), VARIANTS, ["baseline", "alignformer"], OVER, TITLES).panels
    axes = Canvas().add_subplot()
    panel.draw(axes)
    assert [line.get_ydata()[1] for line in axes.lines] == pytest.approx([60, 70, 80])
    bands = [band.get_paths()[0].get_extents() for band in axes.collections]
    assert [end for band in bands for end in (band.y0, band.y1)] == pytest.approx([10, 100] * 2)
    assert panel.alt.endswith("at 0.5: baseline 60.0; vlba 70.0; alignformer 80.0")


def test_nothing_is_filled_without_a_verdict():
    reason = "a verdict needs something"
    nowhere = differences.figure(
        comparison().assign(supported=False, no_verdict=reason), "baseline", "mIoU", "images alone", TITLES
    )
    assert [mark.label for mark in nowhere.legend] == ["no verdict"]
    assert "upported" not in nowhere.caption and f"No verdict on a split: {reason}." in nowhere.caption
    assert "over images alone" in nowhere.caption
    table = comparison()
    table.loc[table["split"] == "val", "no_verdict"] = reason
    partly = differences.figure(table, "baseline", "mIoU", OVER, TITLES)
    assert [mark.label for mark in partly.legend] == ["supported", "not supported", "no verdict"]


def test_small_slices_have_no_dot():
    (length, _) = slice_plots.differences(slices_of_val(), "alignformer", "baseline").panels
    axes = Canvas().add_subplot()
    length.draw(axes)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["1 to 2 (300)", "3 and more (5)"]
    assert [text.get_text() for text in axes.texts] == ["too few images", "Length", "words"]


def test_a_measure_that_is_nowhere_defined_is_drawn_without_dots():
    summary = alignment.summarise(aligned().assign(ap_distractors=np.nan))
    assert rendering.inline(alignment_plots.figure(summary, VARIANTS, "val", OVER), "a")


def test_bins_of_seeds_are_pooled_by_their_pixels():
    bins = pd.DataFrame(
        {
            "variant": "vlba",
            "low": [0.0, 0.5, 0.0, 0.5],
            "pixels": [10, 0, 30, 20],
            "probability": [0.1, np.nan, 0.3, 0.7],
            "inside": [0.0, np.nan, 0.2, 0.5],
        }
    )
    pooled = calibration_curves.pooled(bins).loc["vlba"]
    assert pooled["pixels"].tolist() == [40, 20]
    assert pooled["probability"].tolist() == pytest.approx([(0.1 * 10 + 0.3 * 30) / 40, 0.7])
    assert pooled["inside"].tolist() == pytest.approx([0.2 * 30 / 40, 0.5])


def test_many_points_are_drawn_as_an_image():
    points = pd.concat([diagnosis_inputs.embedding(7, np.random.default_rng(seed)) for seed in range(80)])
    sample = pd.DataFrame([{"sent_id": 7, "text": "text", "variance_x": 0.5, "variance_y": 0.2}])
    (element,) = rendering.inline(embedding_maps.figure({"vlba": points}, {"vlba": sample}), "a")
    assert "data:image/png;base64," in element and len(element) < 150_000
