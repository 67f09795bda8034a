"""Figures on photographs: intervals against scipy and a plain loop, baselines against the known figures."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import bootstrap

from benchmarks import baselines, photographs
from stages import params, prepared
from stages.evaluate.metrics import summarise
from stages.prepare.__main__ import prepare

KNOWN = {  # mIoU in percent, measured elsewhere on the same expressions
    ("refer_mini", "val"): {"everything": 14.3, "centre_box": 14.4},
    ("refer_true", None): {"everything": 10.4, "centre_box": 10.8},
}


def made_up(pictures: int, most: int, seed: int = 0) -> pd.DataFrame:
    """Scores of 1 to `most` expressions of each picture, the pictures in no order."""
    random = np.random.default_rng(seed)
    ids = np.repeat(random.permutation(1000)[:pictures], random.integers(1, most + 1, size=pictures))
    union = random.integers(50, 5000, size=len(ids))
    return pd.DataFrame({"image_id": ids, "intersection": random.integers(0, union + 1), "union": union})


def test_the_value_is_the_metric_that_every_other_table_has():
    scores = made_up(pictures=20, most=5)
    found = photographs.resampled(scores, photographs.draws(20))
    metrics = summarise(scores, photographs.PROTOCOL)
    assert {name: values[0] for name, values in found.items()} == pytest.approx(
        {name: metrics[name] for name in ("mIoU", "oIoU")}
    )


def test_the_interval_is_that_of_scipy_where_each_picture_has_one_expression():
    scores = made_up(pictures=60, most=1)
    intersection, union = scores["intersection"].to_numpy(), scores["union"].to_numpy()
    expected = {
        "mIoU": bootstrap((intersection / union,), np.mean, method="percentile", n_resamples=10_000, rng=1),
        "oIoU": bootstrap(
            (intersection, union),
            lambda i, u, axis: i.sum(axis) / u.sum(axis),
            paired=True,
            method="percentile",
            n_resamples=10_000,
            rng=1,
        ),
    }
    found = photographs.interval(photographs.resampled(scores, photographs.draws(60)))
    for metric, result in expected.items():
        noise = 0.1 * result.standard_error  # of the end of an interval; its own standard error is 0.03 of this
        assert found[f"{metric} low"] == pytest.approx(result.confidence_interval.low, abs=noise)
        assert found[f"{metric} high"] == pytest.approx(result.confidence_interval.high, abs=noise)


def test_a_resample_takes_every_expression_of_a_picture_as_often_as_the_picture():
    scores = made_up(pictures=7, most=4)
    weights = photographs.draws(7, resamples=50)
    assert (weights.sum(axis=1) == 7).all()
    found = photographs.resampled(scores, weights)
    for place, drawn in enumerate(weights):
        rows = pd.concat(
            scores[scores["image_id"] == image_id]
            for image_id, times in zip(sorted(scores["image_id"].unique()), drawn, strict=True)
            for _ in range(times)
        )
        assert found["mIoU"][place] == pytest.approx((rows["intersection"] / rows["union"]).mean())
        assert found["oIoU"][place] == pytest.approx(rows["intersection"].sum() / rows["union"].sum())


def test_expressions_of_one_picture_do_not_count_as_independent():
    one = made_up(pictures=40, most=1)
    nine = pd.concat([one] * 9, ignore_index=True)
    weights = photographs.draws(40)
    assert photographs.interval(photographs.resampled(nine, weights)) == pytest.approx(
        photographs.interval(photographs.resampled(one, weights))
    )


@pytest.fixture
def methods() -> dict[str, pd.DataFrame]:
    """Scores of a model and of the shuffled one, which has exactly 0.2 of IoU less on every expression."""
    scores = made_up(pictures=30, most=3).assign(union=1000)
    scores["intersection"] = scores["intersection"] % 700 + 200
    worse = scores.assign(intersection=scores["intersection"] - 200)
    return {photographs.MODEL: scores, photographs.SHUFFLED: worse}


def test_differences_are_paired(methods):
    rows = pd.DataFrame(photographs.rows_of(("refer_mini", "val"), methods)).set_index("method")
    difference = rows.loc[f"{photographs.MODEL} minus the same, expressions of other pictures"]
    assert difference[["mIoU", "mIoU low", "mIoU high", "oIoU", "oIoU low", "oIoU high"]].tolist() == [0.2] * 6
    model = rows.loc[photographs.MODEL]
    assert model["mIoU high"] - model["mIoU low"] > 0.05


def test_the_quoted_head_has_no_interval_and_its_difference_that_of_the_model(methods):
    rows = pd.DataFrame(photographs.rows_of(("refer_mini", "val"), methods)).set_index("method")
    quoted = rows[rows["source"] == "quoted"]
    assert quoted["mIoU"].tolist() == [0.373, 0.182] and quoted["mIoU low"].isna().all()
    columns = ["mIoU", "mIoU low", "mIoU high"]
    above = rows.loc[f"{photographs.MODEL} minus plain head", columns].astype(float)
    np.testing.assert_allclose(above, rows.loc[photographs.MODEL, columns].astype(float) - 0.373, atol=2e-4)


def test_a_second_run_replaces_its_rows_and_keeps_those_of_other_models(tmp_path):
    def rows(variant, seed, value):
        table = pd.DataFrame({"dataset": "d", "split": "val", "method": ["everything", "model"], "mIoU": value})
        table["variant"], table["seed"] = [None, variant], pd.array([None, seed], dtype="Int64")
        return table

    path = tmp_path / "photographs.csv"
    for variant, seed, value in (("baseline", 0, 0.1), ("vlba", 0, 0.2), ("vlba", 1, 0.3), ("vlba", 0, 0.4)):
        photographs.write(rows(variant, seed, value), path)
    written = pd.read_csv(path)
    found = {(row.method, row.variant, row.seed): row.mIoU for row in written.dropna().itertuples()}
    assert found == {("model", "baseline", 0): 0.1, ("model", "vlba", 1): 0.3, ("model", "vlba", 0): 0.4}
    assert written.loc[written["method"] == "everything", "mIoU"].tolist() == [0.4]


@pytest.mark.parametrize("size", [(40, 60), (7, 9)])
def test_the_centre_box_is_half_as_high_and_wide_and_in_the_middle(size):
    height, width = size
    mask = baselines.centre_box(np.zeros((*size, 3), np.uint8), "")
    rows, columns = mask.any(axis=1), mask.any(axis=0)
    assert (mask == rows[:, None] & columns).all()
    assert abs(rows.sum() - height / 2) <= 0.5 and abs(columns.sum() - width / 2) <= 0.5
    for side in (rows, columns):
        assert abs(side.argmax() - side[::-1].argmax()) <= 1


@pytest.mark.parametrize("seed", range(5))
def test_shuffled_gives_every_expression_the_text_of_another_picture(seed):
    rows = made_up(pictures=8, most=4)[["image_id"]]
    rows["text"] = [f"{image_id}: {place}" for place, image_id in enumerate(rows["image_id"])]
    texts = baselines.shuffled(rows, seed)
    givers = [int(text.partition(":")[0]) for text in texts]
    assert len(texts) == len(rows) and set(texts) <= set(rows["text"])
    assert all(giver != image_id for giver, image_id in zip(givers, rows["image_id"], strict=True))
    assert set(givers) == set(rows["image_id"])


def test_a_sheet_inside_the_project_is_refused(monkeypatch, capsys, root):
    monkeypatch.chdir(root)
    monkeypatch.setattr("sys.argv", ["photographs", "--sheet", "reports/sheet.png"])
    with pytest.raises(SystemExit):
        photographs.main()
    assert "reports/sheet.png lies in the project, which holds no photographs" in capsys.readouterr().err


@pytest.fixture(scope="module")
def photos(shared_data, root, tmp_path_factory):
    """Both sets of photographs, prepared."""
    sources = params.read(root / "params.yaml").datasets
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("photographs"))
        for name in ("refer_mini", "refer_true"):
            prepare(name, sources[name].model_copy(update={"root": str(shared_data / name)}))
        return {name: prepared.read(photographs.layout.prepared(name)) for name in ("refer_mini", "refer_true")}


@pytest.mark.parametrize(("name", "split"), KNOWN)
def test_the_baselines_have_their_known_figures(photos, name, split):
    rows = photos[name].split(split) if split else photos[name].expressions
    for method, value in KNOWN[name, split].items():
        counts = baselines.counted(photos[name], rows, getattr(baselines, method))
        assert 100 * summarise(counts, photographs.PROTOCOL)["mIoU"] == pytest.approx(value, abs=0.05)


def test_no_picture_with_a_true_mask_was_trained_on(photos):
    photographs.refuse_seen_pictures(photos["refer_mini"], photos["refer_true"])
    assert len(photos["refer_true"].expressions) == 177
    with pytest.raises(ValueError, match="24 pictures of refer_true are in refer_mini too, such as image_id"):
        photographs.refuse_seen_pictures(photos["refer_true"], photos["refer_true"])


def test_the_sheet_shows_samples_from_worst_to_best(photos, tmp_path):
    dataset = photos["refer_true"]
    rows = dataset.expressions.tail(13)
    truths = [baselines.true_mask(dataset, row) for row in rows.itertuples()]
    scores = rows.drop(columns="text").assign(iou=np.linspace(1, 0, len(rows)))
    scores["height"], scores["width"] = zip(*(truth.shape for truth in truths), strict=True)
    scores["prediction"] = [prepared.encode_mask(truth) for truth in truths]
    photographs.draw(tmp_path / "new" / "sheet.png", dataset, scores)
    with Image.open(tmp_path / "new" / "sheet.png") as sheet:
        colours = {colour[:3] for _, colour in sheet.getcolors(2**24)}
    assert len(colours) > 10_000  # photographs, not empty axes
