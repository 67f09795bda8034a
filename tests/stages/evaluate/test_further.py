"""Expressions of other images, and a further dataset: what is scored, and what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from stages.data import prepared
from stages.data.prepared import PreparedDataset
from stages.evaluate import evaluation, trained_on
from stages.evaluate.other_expressions import of_other_images
from stages.evaluate.trained_on import TrainedOnError
from stages.runtime import layout, params
from stages.runtime.run import Run

PARAMS = Path(__file__).parents[2] / "params.yaml"
RUN = Run("scenes", "baseline", 0)


def settings_in(folder: Path) -> params.Params:
    content = yaml.safe_load(PARAMS.read_text())
    content["evaluation"] = {"protocol": "original", "also": ["cris"], "batch_size": 3, "threads": 1}
    (folder / "params.yaml").write_text(yaml.safe_dump(content))
    return params.read(folder / "params.yaml")


def in_no_order(images: int, most: int, seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    ids = np.repeat(random.permutation(1000)[:images], random.integers(1, most + 1, size=images))
    return pd.DataFrame({"image_id": random.permutation(ids)})


@pytest.mark.parametrize(("images", "most"), [(2, 1), (2, 5), (3, 4), (40, 9)])
def test_every_expression_is_replaced_by_one_of_another_image(images, most):
    for seed in range(5):
        rows = in_no_order(images, most, seed)
        places = of_other_images(rows)
        own, given = rows["image_id"].to_numpy(), rows["image_id"].to_numpy()[places]
        assert len(places) == len(rows) and (own != given).all()
        pairs = pd.DataFrame({"own": own, "given": given}).drop_duplicates()
        assert pairs["own"].is_unique and pairs["given"].is_unique  # every image gives to one, and all give
        of_image = pd.DataFrame({"own": own, "place": places}).groupby("own")["place"]
        lengths = pd.Series(given).map(rows["image_id"].value_counts())
        few = pd.Series(own).map(rows["image_id"].value_counts()) <= lengths
        assert all(not places.duplicated().any() for image, places in of_image if few[own == image].all())
        np.testing.assert_array_equal(places, of_other_images(rows.copy()))


def test_a_single_image_has_no_other():
    assert of_other_images(pd.DataFrame({"image_id": [4, 4, 4]})).shape == (0,)


class Deaf(torch.nn.Module):
    """Segments what is bright in one channel, whatever the words say."""

    device = torch.device("cpu")

    def forward(self, pixel_values, image_index=None, **_):
        brightness = pixel_values[:, 0]  # (P, S, S)
        return type("Output", (), {"logits": brightness if image_index is None else brightness[image_index]})


def test_a_model_that_ignores_words_scores_the_same_with_other_expressions(squares, tmp_path):
    splits, settings = evaluation.own_splits(squares.prepared), settings_in(tmp_path)
    found = evaluation.with_other_expressions(squares.prepared, splits, Deaf(), squares.processor, settings)
    own = pd.concat(
        evaluation.shared_passes.scores(
            Deaf(), squares.expressions(split), [evaluation.PROTOCOLS["original"]], batch_size=3
        )["original"]
        for split in splits
    )
    pd.testing.assert_frame_equal(found.drop(columns="given"), own.drop(columns="prediction"))
    assert own["intersection"].sum() > 0
    image = squares.prepared.expressions.set_index("sent_id")["image_id"]
    assert (image[found["given"]].to_numpy() != image[found["sent_id"]].to_numpy()).all()
    assert list(found.columns) == evaluation.CONTROL_COLUMNS


def test_a_control_is_the_models_answer_to_the_expression_that_was_given(shared_squares, taught, tmp_path):
    """The model asked directly, about each image with the text that stands in `given`."""
    model, processor = evaluation.trained.load(taught)
    data, settings = shared_squares.prepared, settings_in(tmp_path)
    found = evaluation.with_other_expressions(data, evaluation.own_splits(data), model, processor, settings)
    texts = data.expressions.set_index("sent_id")["text"]
    for row in found.itertuples():
        image = Image.open(data.instances.at[row.ann_id, "image"])
        inputs = processor(images=image, text=texts[row.given], return_tensors="pt")
        with torch.no_grad():
            logits = model(**inputs).logits[None]  # (1, 1, S, S)
        truth = shared_squares.masks[row.ann_id]
        mask = torch.nn.functional.interpolate(logits, truth.shape, mode="bilinear")[0, 0].numpy() > 0
        assert abs((mask & truth).sum() - row.intersection) <= 1 and abs((mask | truth).sum() - row.union) <= 1


@pytest.fixture
def project(squares, taught, tmp_path, monkeypatch) -> Path:
    """A folder with the prepared squares, the model that has learned them, and further squares in other files."""
    monkeypatch.chdir(tmp_path)
    logged = []
    monkeypatch.setattr(evaluation.live, "log_evaluation", lambda *run, **told: logged.append((run, told)))
    write("scenes", squares.prepared)
    write("more", changed(squares.prepared, tmp_path))
    layout.model(*RUN).parent.mkdir(parents=True)
    layout.model(*RUN).symlink_to(taught)
    return tmp_path


def write(name: str, data: PreparedDataset) -> None:
    summary = {**data.summary, "name": name}
    prepared.write(layout.prepared(name), data.expressions, data.instances.reset_index(), summary)


def changed(data: PreparedDataset, folder: Path, by: int = 1, kind: str | None = None) -> PreparedDataset:
    """The same squares in files of other bytes, the images with other ids."""
    instances = data.instances.copy()
    for path in instances["image"].unique():
        pixels = np.asarray(Image.open(path)).copy()
        pixels[-1, -1] += 1
        target = folder / f"further-{Path(path).name}"
        Image.fromarray(pixels).save(target)
        instances["image"] = instances["image"].replace(path, str(target))
    expressions = data.expressions.assign(image_id=data.expressions["image_id"] + by)
    instances["image_id"] += by
    return replace(
        data, expressions=expressions, instances=instances, summary=data.summary | {"source": {"kind": kind}}
    )


def test_every_expression_of_a_further_dataset_is_scored_as_one_split(project):
    settings = settings_in(project)
    evaluation.evaluate(RUN, settings, "more")
    data = prepared.read(layout.prepared("more"))
    scores = pd.read_parquet(layout.scores(*RUN, "more"))
    assert layout.scores(*RUN, "more").parent == layout.scores(*RUN).parent and not layout.scores(*RUN).exists()
    assert scores["sent_id"].tolist() == data.expressions["sent_id"].tolist()
    assert scores["split"].unique().tolist() == ["more"] and data.expressions["split"].nunique() == 2
    control = pd.read_parquet(layout.controls(*RUN, "more"))
    assert control["sent_id"].tolist() == scores["sent_id"].tolist()
    metrics = json.loads(layout.metrics(*RUN, "more").read_text())
    assert [*metrics] == ["protocol", "more"]
    assert metrics["more"]["mIoU"] == pytest.approx(scores["iou"].mean())
    assert pd.read_csv(layout.protocols(*RUN, "more"))["protocol"].unique().tolist() == ["original", "cris"]


def test_a_further_dataset_with_trained_images_is_refused_before_anything_is_scored(project, squares):
    write("same", replace(changed(squares.prepared, project), instances=squares.prepared.instances))
    with pytest.raises(TrainedOnError, match=r"2 of 2 images of same are in train of scenes.*take same out of"):
        evaluation.evaluate(RUN, settings_in(project), "same")
    assert not layout.scores(*RUN, "same").exists()


def test_a_further_dataset_that_is_not_prepared(project):
    with pytest.raises(FileNotFoundError, match=r"data/gone holds no prepared dataset.*prepare_on@gone"):
        evaluation.evaluate(RUN, settings_in(project), "gone")


def test_the_same_bytes_under_another_name_are_the_same_image(squares, tmp_path):
    further = changed(squares.prepared, tmp_path)
    trained_on.refuse(further, squares.prepared)
    first = further.instances["image"].iloc[0]
    shutil.copy(squares.prepared.instances["image"].iloc[0], first)
    with pytest.raises(TrainedOnError, match=r"^1 of 2 images of squares .* image_id 2, .*further-1.png, is .*/1.png"):
        trained_on.refuse(further, squares.prepared)


def test_images_that_are_not_of_train_may_be_the_same(squares):
    later = squares.prepared.expressions.assign(split="val").query("image_id == 2")
    trained = replace(squares.prepared, expressions=squares.prepared.expressions.query("image_id == 1"))
    further = replace(squares.prepared, expressions=later)
    trained_on.refuse(further, replace(trained, expressions=pd.concat([trained.expressions, later])))


@pytest.mark.parametrize(
    ("kinds", "by", "same"),
    [
        (("refer", "mix"), 0, 2),
        (("refer", "mix"), 1, 1),  # one image has the id that the other has there
        (("refer", "coco"), 0, 0),  # ids of one's own data say nothing
        (("scenes", "scenes"), 0, 0),
    ],
)
def test_images_of_coco_are_known_by_their_id(squares, tmp_path, kinds, by, same):
    further = changed(squares.prepared, tmp_path, by, kinds[0])
    trained = replace(squares.prepared, summary=squares.prepared.summary | {"source": {"kind": kinds[1]}})
    if not same:
        return trained_on.refuse(further, trained)
    with pytest.raises(TrainedOnError, match=f"^{same} of 2 images"):
        trained_on.refuse(further, trained)


def test_images_of_coco_in_data_of_ones_own_are_known_by_their_name(squares, tmp_path):
    further = changed(squares.prepared, tmp_path, by=7, kind="coco")
    renamed = tmp_path / "COCO_val2014_000000000002.jpg"
    old = further.instances["image"].iloc[-1]
    Path(old).rename(renamed)
    further = replace(
        further, instances=further.instances.assign(image=further.instances["image"].replace(old, str(renamed)))
    )
    trained = replace(squares.prepared, summary=squares.prepared.summary | {"source": {"kind": "refer"}})
    with pytest.raises(
        TrainedOnError, match=r"^1 of 2 images .* image_id 9, .*COCO_val2014_000000000002.jpg, is .*2.png"
    ):
        trained_on.refuse(further, trained)


def test_an_image_that_cannot_be_compared(squares, tmp_path):
    further = changed(squares.prepared, tmp_path)
    Path(further.instances["image"].iloc[0]).unlink()
    with pytest.raises(FileNotFoundError, match=r"further-1\.png is missing, so whether it was trained on cannot be"):
        trained_on.refuse(further, squares.prepared)
