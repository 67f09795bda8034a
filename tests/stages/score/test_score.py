"""Predictions of others: the same scores as those of a variant, whatever the file; what is wrong is named."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from stages.data.prepared import PreparedDataset
from stages.data.samples import Expressions
from stages.runtime import layout
from stages.runtime.predictions import PredictionsError
from stages.score import predicted, scores
from stages.score.__main__ import main
from stages.scoring.metrics import METRICS, summarise_splits
from stages.scoring.protocols import PROTOCOLS
from stages.scoring.score import frame, score
from tests.stages.score import predictions_inputs as inputs

PARAMS = Path(__file__).parents[2] / "params.yaml"
ORIGINAL = PROTOCOLS["original"]


@pytest.fixture
def dataset(tmp_path, monkeypatch) -> PreparedDataset:
    """In `data/cups` of the current folder."""
    monkeypatch.chdir(tmp_path)
    return inputs.write_dataset(layout.prepared("cups"))


@pytest.fixture
def masks(dataset) -> inputs.Masks:
    """Random ones, of all expressions that are scored."""
    generator = np.random.default_rng(1)
    return {sent_id: generator.random(mask.shape) < 0.5 for sent_id, mask in inputs.true_masks(dataset).items()}


def metrics(dataset: PreparedDataset, path: Path, allow_missing: bool = False) -> dict:
    found = predicted.read(path, dataset, ORIGINAL, allow_missing)
    return summarise_splits(scores.scored(dataset, found, ORIGINAL, ""), ORIGINAL)


def error(dataset: PreparedDataset, path: Path, allow_missing: bool = False, protocol: str = "original") -> str:
    with pytest.raises(PredictionsError) as raised:
        predicted.read(path, dataset, PROTOCOLS[protocol], allow_missing)
    return str(raised.value)


def write_params(protocol: str = "original", also: tuple[str, ...] = (), **experiment) -> None:
    content = yaml.safe_load(PARAMS.read_text())
    content["evaluation"] |= {"protocol": protocol, "also": list(also)}
    content["datasets"]["cups"] = content["datasets"]["scenes"]
    content["experiment"] |= {"datasets": ["cups"], **experiment}
    Path("params.yaml").write_text(yaml.safe_dump(content))


# Formats


@pytest.mark.parametrize(
    ("write", "encode"),
    [
        (inputs.write_json, inputs.compressed),
        (inputs.write_json, inputs.uncompressed),
        (inputs.write_json, inputs.polygons),
        (inputs.write_lines, inputs.compressed),
        (inputs.write_parquet, inputs.compressed),
        (inputs.write_parquet, inputs.uncompressed),
        (inputs.write_parquet, inputs.polygons),
        (inputs.write_texts, inputs.uncompressed),
        (inputs.write_texts, inputs.polygons),
    ],
)
def test_every_format_gives_the_same_masks(dataset, masks, tmp_path, write, encode):
    found = predicted.read(write(tmp_path, inputs.entries(masks, encode)), dataset, ORIGINAL, False)
    assert found.missing == [] and found.of_train == 0
    for sent_id, mask in masks.items():
        np.testing.assert_array_equal(found.masks[sent_id].pixels(), mask)


@pytest.mark.parametrize(("values", "mode"), [((0, 255), "L"), ((0, 1), "L"), ((0, 1), "P")])
def test_png_masks(dataset, masks, tmp_path, values, mode):
    found = predicted.read(inputs.write_pngs(tmp_path, masks, values, mode), dataset, ORIGINAL, False)
    for sent_id, mask in masks.items():
        np.testing.assert_array_equal(found.masks[sent_id].pixels(), mask)


def test_one_entry_is_of_all_expressions_of_a_ref_with_its_text(dataset, tmp_path):
    rows = dataset.expressions[dataset.expressions["split"] != "train"].drop_duplicates(["ref_id", "text"])
    true = inputs.true_masks(dataset)
    found = [
        {key: getattr(row, key) for key in predicted.BY_TEXT} | {"segmentation": inputs.compressed(true[row.sent_id])}
        for row in rows.itertuples()
    ]
    assert {split: of["mIoU"] for split, of in metrics(dataset, inputs.write_json(tmp_path, found)).items()} == {
        "val": 1,
        "testA": 1,
    }
    twice = inputs.write_json(tmp_path, [*found, found[0]])
    assert "expression predicted more than once (1): entry 9: sent_id 506, before: entry 1" in error(dataset, twice)


# Scores


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_same_masks_have_the_same_rows_as_in_evaluate(shared_squares, taught, tmp_path, protocol):
    from stages.scoring import trained

    model, processor = trained.load(taught)
    data, protocol = shared_squares.prepared, PROTOCOLS[protocol]
    torch.set_num_threads(1)
    expressions = Expressions(data, data.split("val"), processor, frame(protocol))
    wanted = score(model, expressions, protocol, batch_size=8)
    assert wanted["intersection"].any() and (wanted["intersection"] < wanted["union"]).any()
    found = [
        {"sent_id": row.sent_id, "segmentation": {"size": [row.height, row.width], "counts": row.prediction}}
        for row in wanted.itertuples()
    ]
    read = predicted.read(inputs.write_json(tmp_path, found), data, protocol, False)
    pd.testing.assert_frame_equal(scores.scored(data, read, protocol, ""), wanted)


def test_perfect_empty_and_shuffled_predictions(dataset, tmp_path):
    true = inputs.true_masks(dataset)
    perfect = metrics(dataset, inputs.write_json(tmp_path, inputs.entries(true)))
    empty = metrics(dataset, inputs.write_json(tmp_path, []), allow_missing=True)
    for split in ("val", "testA"):
        assert all(perfect[split][metric] == 1 for metric in METRICS)
        assert all(empty[split][metric] == 0 for metric in METRICS)
    rows = dataset.expressions[dataset.expressions["split"] != "train"].set_index("sent_id")
    other = {sent_id: true[sent_id + (3 if row.ann_id % 10 == 0 else -3)] for sent_id, row in rows.iterrows()}
    shuffled = metrics(dataset, inputs.write_json(tmp_path, inputs.entries(other)))
    for split in ("val", "testA"):
        chosen = rows.index[rows["split"] == split]
        ious = [(true[i] & other[i]).sum() / (true[i] | other[i]).sum() for i in chosen]
        assert shuffled[split]["mIoU"] == pytest.approx(np.mean(ious)) and 0 < np.mean(ious) < 0.5


def test_masks_of_the_images_size_are_brought_to_the_inputs_grid_by_nearest(dataset, masks, tmp_path):
    """Against the pixel under the center of each output pixel, worked out in whole numbers."""
    protocol = PROTOCOLS["lavt"]
    read = predicted.read(inputs.write_json(tmp_path, inputs.entries(masks)), dataset, protocol, False)
    rows = scores.scored(dataset, read, protocol, "").set_index("sent_id")
    true, size = inputs.true_masks(dataset), protocol.size
    for sent_id, mask in masks.items():
        places = [(2 * np.arange(size) + 1) * side // (2 * size) for side in mask.shape]
        grown, grown_true = mask[np.ix_(*places)], true[sent_id][np.ix_(*places)]
        row = rows.loc[sent_id]
        assert (row["height"], row["width"]) == (size, size)
        ties = 4 * size * 4  # where a center lies on the border of two pixels, Pillow's rounding decides
        assert abs(row["intersection"] - (grown & grown_true).sum()) < ties
        assert abs(row["union"] - (grown | grown_true).sum()) < ties


def test_the_same_masks_under_each_convention(dataset, tmp_path, capsys):
    """Masks with an IoU of exactly one half: `original` counts them in Pr@0.5, `cris` and `cgformer` do not."""
    halves = inputs.true_masks(dataset)
    for true in halves.values():
        outside = np.argwhere(~true)[: true.sum()]
        true[tuple(outside.T)] = True
    inputs.write_json(tmp_path, inputs.entries(halves))
    others = {"theirs": {"predictions": "predictions.json"}}

    def scored_under(protocol: str, *also: str) -> dict:
        write_params(protocol, also, others=others)
        main(["--dataset", "cups"])
        return json.loads(layout.about_others("cups").read_text())["theirs"]

    about = scored_under("original", "cris", "cgformer", "lavt")
    assert "theirs, protocol lavt" in capsys.readouterr().out
    for split in ("val", "testA"):
        own, cris, cgformer = (each[split] for each in (about["splits"], *map(about["also"].get, ("cris", "cgformer"))))
        assert (own["mIoU"], own["Pr@0.5"]) == (cris["mIoU"], 1) == (0.5, 1)
        assert cris["Pr@0.5"] == 0 and cgformer == cris
    lavt = scored_under("lavt")
    assert lavt["splits"] == about["also"]["lavt"] and "also" not in lavt


def test_masks_of_one_grid_are_not_counted_on_another(dataset, masks, tmp_path, capsys):
    masks = {sent_id: np.ones((480, 480), dtype=bool) for sent_id in masks}
    inputs.write_json(tmp_path, inputs.entries(masks))
    write_params("lavt", ("rela", "cris"), others={"theirs": {"predictions": "predictions.json"}})
    main(["--dataset", "cups"])
    about = json.loads(layout.about_others("cups").read_text())["theirs"]
    assert about["also"] == {"rela": about["splits"], "cris": None}
    assert "theirs, protocol cris: masks of another size than it counts" in capsys.readouterr().out


# What is wrong


def test_everything_wrong_is_named_at_once_with_counts(dataset, masks, tmp_path):
    ids = list(masks)
    found = inputs.entries(masks)
    found[0]["sent_id"] = 7
    found[1]["segmentation"] = {"size": [3, 3], "counts": [9]}
    found[2]["sent_id"] = ids[3]
    found[4] |= {"image_id": 99}
    found[5]["segmentation"] = {"size": found[5]["segmentation"]["size"], "counts": [1]}
    found += [{"segmentation": []}, 5, {"sent_id": "12", "segmentation": []}, {"sent_id": ids[6]}]
    path = inputs.write_json(tmp_path, found)
    lines = error(dataset, path).splitlines()
    assert [line.removeprefix(f"{path}: ").partition("): ")[0] + ")" for line in lines] == [
        "sent_id that the dataset does not have (1)",
        "mask of another size than its image (height x width) (1)",
        "expression predicted more than once (2)",
        "sent_id of another image (1)",
        "RLE whose counts do not add up to its size (1)",
        "entry without sent_id, or else image_id, ref_id and text (1)",
        "entry is not an object with keys (1)",
        "sent_id is not a whole number (1)",
        "expressions without a prediction, of 12 (to score them as empty masks, set allow_missing) (3)",
    ]
    assert f"entry 2: [3, 3], not {masks[ids[1]].shape[0]} x {masks[ids[1]].shape[1]}" in lines[1]
    assert lines[-1].endswith(f": sent_id {ids[0]}; sent_id {ids[2]}; sent_id {ids[4]}")


def test_only_the_first_ten_are_named(dataset, tmp_path):
    assert error(dataset, inputs.write_json(tmp_path, [])).endswith("sent_id 515 and 2 more")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", b"[1", "not JSON"),
        ("a.json", b'{"sent_id": 1}', "expected a list of predictions"),
        ("a.jsonl", b'{}\n{"', "line 2 is not JSON"),
        ("a.parquet", b"PAR1", "not a Parquet file"),
        ("a.pkl", b"", "expected a folder of PNG masks, or a file that ends with .json, .jsonl, .parquet"),
    ],
)
def test_a_file_that_cannot_be_read(dataset, tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    message = error(dataset, tmp_path / name)
    assert message.startswith(f"{tmp_path / name}: ") and words in message


def test_pngs_that_are_no_masks(dataset, masks, tmp_path):
    folder = inputs.write_pngs(tmp_path, masks)
    first, second, third, fourth, *_ = masks
    Image.fromarray(np.arange(108, dtype=np.uint8).reshape(12, 9)).save(folder / f"{first}.png")
    Image.new("RGB", (9, 12)).save(folder / f"{second}.png")
    (folder / f"{third}.png").write_bytes(b"no picture")
    Image.new("L", (3, 4)).save(folder / f"{fourth}.png")
    Image.new("L", (9, 12)).save(folder / "mask.png")
    message = error(dataset, folder)
    for words in (
        f"PNG with other values than 0 and one more, not a mask (1): {first}.png: 108 values",
        f"PNG with several numbers for each pixel, not a mask (1): {second}.png: mode RGB",
        f"PNG that cannot be read (1): {third}.png",
        f"mask of another size than its image (height x width) (1): {fourth}.png: [4, 3], not 12 x 9",
        "sent_id is not a whole number (1): mask.png: 'mask'",
    ):
        assert words in message
    (empty := tmp_path / "none").mkdir()
    assert "holds no PNG file; a mask is called SENT_ID.png" in error(dataset, empty)


def test_a_mask_of_the_inputs_grid_is_right_only_where_that_counts(dataset, masks, tmp_path):
    sent_id = next(iter(masks))
    masks[sent_id] = np.ones((480, 480), dtype=bool)
    path = inputs.write_json(tmp_path, inputs.entries(masks))
    assert "[480, 480], not 12 x 9" in error(dataset, path)
    assert predicted.read(path, dataset, PROTOCOLS["rela"], False).masks[sent_id].height == 480


def test_missing_predictions_may_be_allowed_and_those_of_train_are_counted(dataset, masks, tmp_path):
    gone = [masks.popitem()[0] for _ in range(2)]
    found = [*inputs.entries(masks), {"sent_id": 500, "segmentation": "of train, not looked at"}]
    read = predicted.read(inputs.write_json(tmp_path, found), dataset, ORIGINAL, True)
    assert sorted(read.missing) == sorted(gone) and read.of_train == 1
    rows = scores.scored(dataset, read, ORIGINAL, "")
    about = scores.described(read, rows, ORIGINAL)
    assert about["missing"] == {"testA": 2} and about["of_train"] == 1
    assert (rows.set_index("sent_id").loc[gone, "intersection"] == 0).all()


# Commands


def test_the_stage_scores_all_that_params_list(dataset, masks, tmp_path, capsys):
    true = inputs.true_masks(dataset)
    inputs.write_json(tmp_path, inputs.entries(true))
    inputs.write_pngs(tmp_path, masks)
    some = {"predictions": "predictions", "label": "Theirs"}
    write_params(others={"best": {"predictions": "predictions.json"}, "theirs": some})
    main(["--dataset", "cups"])
    about = json.loads(layout.about_others("cups").read_text())
    assert list(about) == ["best", "theirs"] and about["best"]["splits"]["val"]["mIoU"] == 1
    assert sorted(path.name for path in layout.others("cups").iterdir()) == [
        "best.parquet",
        "others.json",
        "theirs.parquet",
    ]
    assert "theirs, protocol original" in capsys.readouterr().out
    write_params()
    main(["--dataset", "cups"])
    assert [path.name for path in layout.others("cups").iterdir()] == ["others.json"]
    assert json.loads(layout.about_others("cups").read_text()) == {}


def test_a_file_is_tried_compared_and_its_lines_are_told(dataset, masks, tmp_path, capsys):
    write_params(seeds=[0, 1])
    inputs.write_json(tmp_path, inputs.entries(masks))
    command = ["--dataset", "cups", "--predictions", "predictions.json", "--name", "theirs"]
    main(command)
    said = capsys.readouterr().out
    assert "it is not compared: no run of the reference baseline has scores" in said
    tried = pd.read_parquet(layout.tried("cups", "theirs") / "scores.parquet")
    for seed, changed in ((0, 0), (1, 2)):
        path = layout.scores("cups", "baseline", seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        tried.assign(intersection=(tried["intersection"] - changed).clip(lower=0)).to_parquet(path, index=False)
    main(command)
    said = capsys.readouterr().out
    lost = (tried["intersection"] - (tried["intersection"] - 2).clip(lower=0)) / tried["union"] / 2
    for split in ("val", "testA"):
        assert f"{split}: mIoU {100 * lost[tried['split'] == split].mean():+.1f}, oIoU " in said  # without brackets
    assert "points over baseline, mean of 2 seeds" in said
    added = yaml.safe_load(said.partition("params.yaml:\n")[2])
    assert added == {"others": {"theirs": {"predictions": {"cups": "predictions.json"}}}}
    write_params(seeds=[0, 1], **added)
    main(["--dataset", "cups"])
    pd.testing.assert_frame_equal(pd.read_parquet(layout.scores_of_other("cups", "theirs")), tried)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("baseline", "experiment.others.baseline: variant baseline has this name"),
        ("Text-To-Pixel", "variant text_to_pixel has this name, but for case, - and _"),
        ("a/b", "expected a name of letters, digits, _, + and -"),
    ],
)
def test_a_name_that_a_variant_could_not_have(dataset, tmp_path, name, words):
    write_params()
    inputs.write_json(tmp_path, [])
    with pytest.raises(SystemExit) as raised:
        main(["--dataset", "cups", "--predictions", "predictions.json", "--name", name, "--allow-missing"])
    assert words in str(raised.value)


def test_a_file_that_is_not_there(dataset):
    write_params(others={"theirs": {"predictions": "gone.json"}})
    with pytest.raises(SystemExit, match=r"gone\.json: no such file or folder of predictions"):
        main(["--dataset", "cups"])


def test_a_dataset_that_is_not_prepared(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_params()
    with pytest.raises(SystemExit, match="holds no prepared dataset"):
        main(["--dataset", "cups"])
    assert not layout.others("cups").exists()
