"""Figures on photographs: metrics and differences as elsewhere, baselines against the known figures."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from benchmarks import baselines, photographs
from stages.ablate import without_model
from stages.data import prepared
from stages.evaluate import trained_on
from stages.evaluate.trained_on import TrainedOnError
from stages.prepare.preparation import prepare
from stages.runtime import params
from stages.scoring.metrics import summarise

KNOWN = {  # mIoU in percent, measured elsewhere on the same expressions
    ("refer_mini", "val"): {"whole image": 14.3, "center box": 14.4},
    ("refer_true", None): {"whole image": 10.4, "center box": 10.8},
}


def made_up(images: int, most: int, seed: int = 0) -> pd.DataFrame:
    """Scores of 1 to `most` expressions of each image, the images in no order."""
    random = np.random.default_rng(seed)
    ids = np.repeat(random.permutation(1000)[:images], random.integers(1, most + 1, size=images))
    union = random.integers(50, 5000, size=len(ids))
    return pd.DataFrame({"image_id": ids, "intersection": random.integers(0, union + 1), "union": union})


def test_the_value_is_the_metric_that_every_other_table_has():
    scores = made_up(images=20, most=5)
    found = photographs.estimated({photographs.MODEL: scores})
    metrics = summarise(scores, photographs.PROTOCOL)
    assert {name: of.mean(photographs.MODEL).value for name, of in found.items()} == pytest.approx(
        {name: metrics[name] for name in ("mIoU", "oIoU")}
    )


@pytest.fixture
def methods() -> dict[str, pd.DataFrame]:
    """Scores of a model and of the same model on shuffled texts, whose IoU is exactly 0.2 lower on every expression."""
    scores = made_up(images=30, most=3).assign(union=1000)
    scores["intersection"] = scores["intersection"] % 700 + 200
    worse = scores.assign(intersection=scores["intersection"] - 200)
    return {photographs.MODEL: scores, photographs.SHUFFLED: worse}


def test_differences_are_paired(methods):
    rows = pd.DataFrame(photographs.rows_of(("refer_mini", "val"), methods)).set_index("method")
    difference = rows.loc[f"{photographs.MODEL} minus the same, expressions of other images"]
    assert difference[["mIoU", "mIoU low", "mIoU high", "oIoU", "oIoU low", "oIoU high"]].tolist() == [0.2] * 6
    model = rows.loc[photographs.MODEL]
    assert model["mIoU high"] - model["mIoU low"] > 0.05


def test_the_quoted_head_has_no_interval_and_its_difference_has_that_of_the_model(methods):
    rows = pd.DataFrame(photographs.rows_of(("refer_mini", "val"), methods)).set_index("method")
    quoted = rows[rows["source"] == "quoted"]
    assert quoted["mIoU"].tolist() == [0.373, 0.182] and quoted["mIoU low"].isna().all()
    columns = ["mIoU", "mIoU low", "mIoU high"]
    above = rows.loc[f"{photographs.MODEL} minus plain head", columns].astype(float)
    np.testing.assert_allclose(above, rows.loc[photographs.MODEL, columns].astype(float) - 0.373, atol=2e-4)


def test_a_second_run_replaces_its_rows_and_keeps_those_of_other_models(tmp_path):
    def rows(variant, seed, value):
        table = pd.DataFrame({"dataset": "d", "split": "val", "method": ["whole image", "model"], "mIoU": value})
        table["variant"], table["seed"] = [None, variant], pd.array([None, seed], dtype="Int64")
        return table

    path = tmp_path / "photographs.csv"
    for variant, seed, value in (("baseline", 0, 0.1), ("vlba", 0, 0.2), ("vlba", 1, 0.3), ("vlba", 0, 0.4)):
        photographs.write(rows(variant, seed, value), path)
    written = pd.read_csv(path)
    found = {(row.method, row.variant, row.seed): row.mIoU for row in written.dropna().itertuples()}
    assert found == {("model", "baseline", 0): 0.1, ("model", "vlba", 1): 0.3, ("model", "vlba", 0): 0.4}
    assert written.loc[written["method"] == "whole image", "mIoU"].tolist() == [0.4]


def test_a_sheet_inside_the_project_is_refused(monkeypatch, capsys, root):
    monkeypatch.chdir(root)
    monkeypatch.setattr("sys.argv", ["photographs", "--sheet", "reports/sheet.png"])
    with pytest.raises(SystemExit):
        photographs.main()
    assert "reports/sheet.png lies in the project, which holds no photographs" in capsys.readouterr().err


@pytest.fixture(scope="module")
def images(shared_data, root, tmp_path_factory):
    """Both sets of photographs, prepared."""
    sources = params.read(root / "experiments/photographs/params.yaml").datasets
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("photographs"))
        for name in ("refer_mini", "refer_true"):
            prepare(name, sources[name].model_copy(update={"root": str(shared_data / name)}))
        return {name: prepared.read(photographs.layout.prepared(name)) for name in ("refer_mini", "refer_true")}


@pytest.mark.parametrize(("name", "split"), KNOWN)
def test_the_baselines_have_their_known_figures(images, name, split):
    rows = images[name].split(split) if split else images[name].expressions
    found = without_model.counted(images[name], rows, photographs.PROTOCOL)
    for method, value in KNOWN[name, split].items():
        assert 100 * summarise(found[method], photographs.PROTOCOL)["mIoU"] == pytest.approx(value, abs=0.05)


def test_no_image_with_a_true_mask_was_trained_on(images):
    true = images["refer_true"]
    trained_on.refuse(true, images["refer_mini"])
    assert len(true.expressions) == 177
    with pytest.raises(TrainedOnError, match=r"^24 of 24 images of refer_true are in train of refer_true, so"):
        trained_on.refuse(true, replace(true, expressions=true.expressions.assign(split="train")))


def test_the_sheet_shows_samples_from_worst_to_best(images, tmp_path):
    dataset = images["refer_true"]
    rows = dataset.expressions.tail(13)
    truths = [baselines.true_mask(dataset, row) for row in rows.itertuples()]
    scores = rows.drop(columns="text").assign(iou=np.linspace(1, 0, len(rows)))
    scores["height"], scores["width"] = zip(*(truth.shape for truth in truths), strict=True)
    scores["prediction"] = [prepared.encode_mask(truth) for truth in truths]
    photographs.draw(tmp_path / "new" / "sheet.png", dataset, scores)
    with Image.open(tmp_path / "new" / "sheet.png") as sheet:
        colours = {colour[:3] for _, colour in sheet.getcolors(2**24)}
    assert len(colours) > 10_000  # photographs, not empty axes
