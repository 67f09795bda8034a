"""MLflow's pages in a browser: an address of a view shows the variants, their numbers and verdicts without a click."""

import os
import sys

import numpy as np
import pytest

from benchmarks import servers
from pipelines.mlflow import views
from stages.tracking import mlruns, store
from tests.browser import chromium

pytestmark = pytest.mark.programs

LABELS = {
    "alignformer": "global_words: testA +25.0 undecided, testB +6.1 better",
    "baseline": "baseline: the reference",
}
SCORES = {"alignformer": (0.625, 0.875), "baseline": (0.25, 0.75)}  # of each seed, on each split
EPOCHS = 12  # few are never smoothed
PICTURES = ["predictions/1 red", "predictions/2 blue"]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Each view in headless Chromium: its kind -> a page that has loaded."""
    port, folder = servers.free_port(), tmp_path_factory.mktemp("pages")
    url = f"http://127.0.0.1:{port}"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        with store.opened() as opened:
            fill(opened)
            addresses = views.addresses(opened, url)
    serve = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    serve += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with (
        chromium() as browser,
        servers.running(url, serve, {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}, folder / "log", cwd=folder),
    ):

        def opened_page(kind: str):
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.set_default_timeout(300_000)
            page.goto(addresses[f"scenes: {kind}"])
            return page

        yield opened_page


def fill(opened: store.Store) -> None:
    """Two variants with two seeds each, and the views on them."""
    for place, (variant, scores) in enumerate(SCORES.items(), start=1):
        for seed, score in enumerate(scores):
            tags = {"dataset": "scenes", "variant": variant, "seed": str(seed), mlruns.CURRENT: "true"}
            tags |= {mlruns.PLACE: f"{place:02}", mlruns.COMPARED_AS: LABELS[variant]}
            run = opened.client.create_run(opened.experiment_id, tags=tags, run_name=f"{variant}-{seed}")
            named = {f"{split}/{metric}": score for split in ("val", "testA") for metric in mlruns.KEPT}
            store.send(opened, run.info.run_id, store.points(named, 0))
            for epoch in range(1, EPOCHS + 1):
                epoch_points = store.points(mlruns.by_epoch({"val_mIoU": score * epoch / EPOCHS}), epoch)
                store.send(opened, run.info.run_id, epoch_points)
            opened.client.log_param(run.info.run_id, "variant.vlba", "none")
            for name in PICTURES:
                black = np.zeros((8, 8, 3), np.uint8)
                opened.client.log_image(run.info.run_id, black, key=name, step=0, synchronous=True)
            opened.client.set_terminated(run.info.run_id)
    views.send(opened, views.Shown("scenes", ["val", "testA"], "mIoU", list(LABELS.values()), PICTURES, seed=0))


def test_the_table_of_variants_is_on_the_screen(pages):
    page = pages("variants")
    for label in LABELS.values():
        shown = page.get_by_text(label).first
        shown.wait_for()
        assert shown.evaluate("part => part.scrollWidth <= part.clientWidth"), f"{label} is cut off"
    cell = page.locator("[role=gridcell][col-id='metrics.`testA/mIoU`']")
    cell.first.wait_for()
    assert cell.all_inner_texts() == ["0.75 (average)", "0.5 (average)"], (
        "the mean over seeds, the best variant first; groups are closed"
    )
    assert cell.first.bounding_box()["x"] < 1000, "visible without scrolling"
    assert page.get_by_text("Model training").first.is_visible() and not page.get_by_text("Sessions").first.is_visible()


@pytest.mark.parametrize(("kind", "chart"), [("curves", "by_epoch/val_mIoU"), ("comparison", "testA/mIoU")])
def test_charts_are_of_variants(pages, kind, chart):
    page = pages(kind)
    page.get_by_text(chart).first.wait_for()
    page.get_by_text("alignformer").first.wait_for()


def test_curves_are_means_over_seeds_and_not_smoothed(pages):
    page = pages("curves")
    page.locator(".js-plotly-plot .trace").first.wait_for(state="attached")
    lines = page.locator(".js-plotly-plot").first.evaluate(
        "plot => plot.data.filter(line => line.mode === 'lines+markers').map(line => Array.from(line.y))"
    )
    expected = [np.mean(scores) * np.arange(1, EPOCHS + 1) / EPOCHS for scores in SCORES.values()]
    assert np.allclose(lines, expected)


def test_predictions_of_the_best_variant_come_first_under_its_name_alone(pages):
    page = pages("predictions")
    headers = page.get_by_role("columnheader")
    headers.filter(has_text="alignformer-0").wait_for()
    said = [text.splitlines()[-1] for text in headers.all_inner_texts()]  # a run's begins with its colour
    assert said == ["images", "alignformer-0", "baseline-0"], "no parameters below the names"
    page.get_by_text(PICTURES[1]).wait_for()
