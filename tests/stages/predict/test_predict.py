"""A trained model gives the same mask, to the bit, to Python, the command line, MLflow's pyfunc and its server."""

import base64
import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import httpx
import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from pycocotools import mask as coco
from transformers import AutoModel, AutoProcessor

from benchmarks import servers
from stages.predict import __main__ as command
from stages.runtime import layout
from stages.runtime.run import Run
from stages.scoring import trained
from stages.serving import source
from stages.tracking import flavour, mlruns, store

TEXTS = ["the red square", "blue square", "the yellow one"]


@pytest.fixture
def images(shared_squares, tmp_path, monkeypatch) -> list[Path]:
    """Two images, in the working folder."""
    monkeypatch.chdir(tmp_path)
    paths = []
    for source_file in sorted(shared_squares.prepared.instances["image"].unique()):
        paths.append(tmp_path / Path(source_file).name)
        paths[-1].write_bytes(Path(source_file).read_bytes())
    return paths


def asked(*arguments: object) -> list[dict]:
    """What predictions.json has after the command."""
    command.main([*map(str, arguments), "--out", "out"])
    return json.loads(Path("out/predictions.json").read_text())["predictions"]


def refused(*arguments: object, capsys) -> str:
    """What the command says as it ends with an error."""
    with pytest.raises(SystemExit) as end:
        command.main([*map(str, arguments), "--out", "out"])
    assert end.value.code != 0
    return f"{end.value.code} {capsys.readouterr().err}"


def decoded(segmentation: dict) -> np.ndarray:
    return coco.decode({**segmentation, "counts": segmentation["counts"].encode()}).astype(bool)


def by_hand(folder: Path, path: Path, text: str, threshold: float = 0.5) -> np.ndarray:
    """The mask as a user of transformers computes it."""
    model, processor = AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    image = Image.open(path)
    outputs = model(**processor(images=image, text=text, return_tensors="pt"))
    size = [(image.height, image.width)]
    (mask,) = processor.post_process_referring_segmentation(outputs, target_sizes=size, threshold=threshold)
    return mask.numpy()


# The command line


def test_every_text_of_every_image(taught, images):
    found = asked("--model", taught, "--image", *images, "--text", *TEXTS)
    assert [(entry["image"], entry["text"]) for entry in found] == [(str(p), t) for p in images for t in TEXTS]
    sizes = set()
    for entry in found:
        mask, image = decoded(entry["segmentation"]), Image.open(entry["image"])
        assert np.array_equal(mask, by_hand(taught, Path(entry["image"]), entry["text"]))
        assert np.array_equal(np.asarray(Image.open(Path("out", entry["mask"]))), 255 * mask)
        overlay = np.asarray(Image.open(Path("out", entry["overlay"])))
        assert overlay.shape == (image.height, image.width, 3)
        same = (overlay == np.asarray(image)).all(axis=2)
        assert same[mask].mean() > 0.4  # but for the line
        assert not same[~mask].any()
        assert entry["area"] == mask.sum()
        assert 0.5 < entry["score"] <= 1
        sizes.add(int(mask.sum()))
    assert 0 not in sizes and len(sizes) > 3  # otherwise all of this would show little


@pytest.mark.programs
def test_the_real_command_answers_and_says_what_it_wrote_in_signs_that_the_terminal_can_show(taught, images, root):
    arguments = ["--model", str(taught), "--image", str(images[0]), "--text", "the red zebra", "the red caf\u00e9"]
    done = subprocess.run(
        [sys.executable, "-m", "stages.predict", *arguments, "--out", "a folder"],
        env=servers.environment(PYTHONPATH=str(root), PYTHONIOENCODING="ascii"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "note: not in the model's vocabulary, read as unknown words: 'zebra'" in done.stderr
    assert "1.png: 'the red zebra': score 0." in done.stdout
    assert "caf\\xe9" in done.stdout
    assert Path("a folder", "0001-1-the-red-zebra.overlay.png").exists()
    assert Path("a folder", "0001-1-the-red-zebra.overlay.png").name in done.stdout


@pytest.mark.parametrize(
    "stem",
    ["w" * 251, "\u732b" * 83, "line\nbreak \t'\"*?:", b"not utf-8 \xe4\xff"],
    ids=["long", "long in bytes", "signs", "not utf-8"],
)
def test_an_image_of_any_name_is_predicted_and_so_is_the_next(taught, images, capsys, stem):
    """A name of up to 255 bytes, of any bytes but `/` and 0, and words of four bytes each."""
    path = Path(os.fsdecode(stem) + ".png")
    path.write_bytes(images[0].read_bytes())
    text = f"the red {60 * chr(0x10428)}"
    found = asked("--model", taught, "--image", path, images[1], "--text", text)
    assert [entry["image"] for entry in found] == [str(path), str(images[1])]
    names = [entry[kind] for entry in found for kind in ("mask", "overlay")]
    assert sorted(os.listdir("out")) == sorted([*names, "predictions.json"])
    assert len({os.path.normcase(name).casefold() for name in names}) == 4
    assert all(name.startswith(f"000{1 + place // 2}-") for place, name in enumerate(names))
    assert np.array_equal(decoded(found[0]["segmentation"]), by_hand(taught, images[0], text))


def test_files_of_names_that_are_alike_stay_apart(taught, images):
    """The same stem in two folders and with two endings, other letters' case, and accents composed and decomposed."""
    names = ["a/x.png", "b/x.png", "b/x.bmp", "b/X.png", "b/\u00e9.png", "b/e\u0301.png"]
    for name in names:
        Path(name).parent.mkdir(exist_ok=True)
        Image.open(images[0]).save(name)
    found = asked("--model", taught, "--image", *names, "--text", "the red square", "The RED square")
    overlays = {unicodedata.normalize("NFC", entry["overlay"]).casefold() for entry in found}
    assert len(overlays) == len(found) == 12
    assert {Path(entry["image"]) for entry in found} == set(map(Path, names))


def test_a_csv_names_images_beside_it(taught, images, monkeypatch):
    Path("lists").mkdir()
    rows = [(f"../{images[1].name}", "green square"), (f"../{images[0].name}", 'the blue, "one"')]
    pd.DataFrame(rows, columns=["image", "text"]).assign(more=1).to_csv("lists/asked.csv", index=False)
    found = asked("--model", taught, "--csv", "lists/asked.csv", "--threshold", 0.3)
    assert [entry["text"] for entry in found] == ["green square", 'the blue, "one"']
    for entry, path in zip(found, reversed(images), strict=True):
        assert np.array_equal(decoded(entry["segmentation"]), by_hand(taught, path, entry["text"], 0.3))


def test_an_image_is_turned_as_its_exif_data_say(taught, images):
    upright = Image.open(images[0])
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned to the left
    upright.transpose(Image.Transpose.ROTATE_90).save("turned.png", exif=exif)
    (found,) = asked("--model", taught, "--image", "turned.png", "--text", TEXTS[0])
    assert np.array_equal(decoded(found["segmentation"]), by_hand(taught, images[0], TEXTS[0]))


def test_what_cannot_be_read_is_named_and_the_rest_is_predicted(taught, images, capsys):
    Path("broken.png").write_bytes(images[0].read_bytes()[:80])
    Path("notes.txt").write_text("no image")
    Image.new("RGB", (8, 8)).save("odd.dds")
    content = bytearray(Path("odd.dds").read_bytes())
    content[80] = 17  # a pixel format for which Pillow raises NotImplementedError
    Path("odd.dds").write_bytes(content)
    paths = ["broken.png", "absent.png", ".", "notes.txt", "odd.dds", images[0]]
    said = refused("--model", taught, "--image", *paths, "--text", *TEXTS[:2], capsys=capsys)
    assert "10 of 12 were not predicted" in said
    assert "error: broken.png: image file is truncated" in said
    assert "error: absent.png: it does not exist" in said
    assert "error: notes.txt: it is not an image\n" in said
    assert "error: odd.dds: it is not an image" in said
    found = json.loads(Path("out/predictions.json").read_text())["predictions"]
    assert [entry["text"] for entry in found] == TEXTS[:2]


def test_texts_that_cannot_be_read_stop_before_any_work(taught, images, capsys):
    said = refused("--model", taught, "--image", images[0], "--text", "red", "", capsys=capsys)
    assert "--text, expression 2: the expression is empty" in said
    assert not Path("out").exists()


def test_the_end_of_a_long_text_is_not_read_as_in_training(taught, images, capsys):
    """Scores are of expressions that are cut, so the prediction is that of the cut expression; a warning says so."""
    long = "the red square the red square the green one"
    cut, found = asked("--model", taught, "--image", images[0], "--text", "the red square the red square", long)
    assert found["segmentation"] == cut["segmentation"] and found["score"] == cut["score"]
    said = capsys.readouterr().err
    assert (
        f"warning: the expression has 11 tokens and the model reads 8, start and end token included: {long!r}" in said
    )


def test_rows_of_a_csv_that_cannot_be_read_are_named_by_their_lines(taught, images, capsys):
    texts = ["red", "", "the red square", "\u200b", "", "red"]
    Path("asked.csv").write_text("image,text\n" + "".join(f"1.png,{text}\n" for text in texts), encoding="utf-8")
    said = refused("--model", taught, "--csv", "asked.csv", capsys=capsys)
    assert said.rstrip().splitlines() == [
        "error: asked.csv, line 3: the expression is empty",
        "asked.csv, line 6: the expression is empty",
        "asked.csv, line 5: the expression is empty: the tokenizer drops all of '\\u200b'",
    ]
    Path("asked.csv").write_text("image,text\n" + "1.png\n" * 7)
    said = refused("--model", taught, "--csv", "asked.csv", capsys=capsys)
    assert "asked.csv, line 6: a row needs an image and a text\nand 2 more" in said


@pytest.mark.parametrize("content, reason", [
    (b"image,words\n1.png,red\n", "has no column text"),
    (b"image,text\n", "has no row"),
    (b"image,text\n1.png\n", "line 2: a row needs an image and a text"),
    (b"image,text\n1.png,caf\xe9\n", "is not a CSV in UTF-8"),
])  # fmt: skip
def test_a_wrong_csv_is_an_error(taught, images, capsys, content, reason):
    Path("asked.csv").write_bytes(content)
    assert reason in refused("--model", taught, "--csv", "asked.csv", capsys=capsys)
    assert "No such file" in refused("--model", taught, "--csv", "absent.csv", capsys=capsys)


@pytest.mark.parametrize("arguments", [
    ["--image", "1.png"], ["--text", "red"], ["--csv", "a.csv", "--image", "1.png", "--text", "red"], [],
    ["--image", "1.png", "--text", "red", "--threshold", "1"],
])  # fmt: skip
def test_a_wrong_command_line_is_code_2(taught, images, capsys, arguments):
    assert refused("--model", taught, *arguments, capsys=capsys).startswith("2 usage")


# Which model


def test_a_run_of_the_project_by_its_name(taught, images):
    place = layout.model("scenes", "vlba", 3)
    place.parent.mkdir(parents=True)
    place.symlink_to(taught)
    assert source.folder("scenes/vlba/3") == place
    assert source.folder(str(taught)) == taught


def test_a_missing_model_is_an_error_that_names_those_there_are(taught, images, capsys):
    ask = ("--image", images[0], "--text", "red")
    assert "Runs there: none" in refused("--model", "nowhere", *ask, capsys=capsys)
    place = layout.model("scenes", "vlba", 3)
    place.parent.mkdir(parents=True)
    place.symlink_to(taught)
    said = refused("--model", "scenes/vlba/4", *ask, capsys=capsys)
    assert "Runs there: scenes/vlba/3" in said and "`dvc repro train@scenes-vlba-4` trains it." in said
    empty = Path("empty")
    empty.mkdir()
    (empty / "config.json").write_bytes((taught / "config.json").read_bytes())
    assert "empty holds no model: it has no model.safetensors" in refused("--model", empty, *ask, capsys=capsys)


def test_a_run_that_is_not_listed_is_named_with_what_to_list(taught, images, capsys, small_params):
    """DVC has no stage for it: `dvc repro` alone would fail."""
    small_params["experiment"]["seeds"] = [0]
    Path("params.yaml").write_text(yaml.safe_dump(small_params))
    ask = ("--image", images[0], "--text", "red")
    said = refused("--model", "scenes/baseline/9", *ask, capsys=capsys)
    assert "`dvc repro train@scenes-baseline-9` trains it once `experiment` in params.yaml lists 9 under seeds." in said
    said = refused("--model", "here/baseline/0", *ask, capsys=capsys)
    assert "trains it once `experiment` in params.yaml lists here under datasets." in said
    said = refused("--model", "scenes/baseline/0", *ask, capsys=capsys)
    assert "`dvc repro train@scenes-baseline-0` trains it." in said
    with pytest.raises(FileNotFoundError, match=r"lists 9 under seeds$"):
        trained.load(layout.model("scenes", "baseline", 9))


def test_a_model_that_mlflow_does_not_have_is_an_error(images, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{Path('mlflow.db').absolute()}")
    said = refused("--model", "nothing@champion", "--image", images[0], "--text", "red", capsys=capsys)
    assert "MLflow does not give models:/nothing@champion" in said


# MLflow


@pytest.fixture(scope="module")
def registered(taught, tmp_path_factory):
    """A store of MLflow in which the model is `alignformer-squares@champion`, as the project registers it."""
    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        with store.opened() as opened:
            tags = dict.fromkeys(("key", "dataset", "variant", "seed", "protocol"), "0")
            run = opened.client.create_run(opened.experiment_id, tags=tags)
            model = store.send_model(opened, run, taught, mlruns.model_name(*Run("squares", "vlba", 0)))
            opened.client.create_registered_model("alignformer-squares")
            version = opened.client.create_model_version("alignformer-squares", f"models:/{model.model_id}")
            opened.client.set_registered_model_alias("alignformer-squares", "champion", version.version)
        yield "models:/alignformer-squares@champion"


def test_a_logged_model_is_code_and_weights_and_no_pickle(registered):
    folder = Path(mlflow.artifacts.download_artifacts(registered, tracking_uri=store.address()))
    kinds = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert kinds == {"", ".json", ".py", ".safetensors", ".txt", ".yaml"}
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {"code", "data"}
    assert str(folder.parents[3]) not in (folder / "MLmodel").read_text()
    info = mlflow.models.get_model_info(str(folder))
    assert info.signature.inputs.input_names() == ["image", "text"]
    assert info.signature.outputs.input_names() == ["segmentation", "score"]
    example = mlflow.pyfunc.load_model(str(folder)).input_example
    assert len(mlflow.pyfunc.load_model(str(folder)).predict(example)) == 1


def test_the_command_line_takes_it_by_its_alias(registered, taught, images):
    (found,) = asked("--model", "alignformer-squares@champion", "--image", images[0], "--text", TEXTS[0])
    assert np.array_equal(decoded(found["segmentation"]), by_hand(taught, images[0], TEXTS[0]))
    assert source.folder("models:/alignformer-squares/1").parts[-2:] == Path(flavour.FOLDER).parts


@pytest.mark.programs
def test_python_command_line_pyfunc_and_server_give_the_same_mask(registered, taught, images, tmp_path):
    expected = [by_hand(taught, path, text) for path in images for text in TEXTS]
    assert min(mask.sum() for mask in expected) > 0
    by_command = asked("--model", taught, "--image", *images, "--text", *TEXTS)
    rows = [{"image": path.read_bytes(), "text": text} for path in images for text in TEXTS]
    by_pyfunc = mlflow.pyfunc.load_model(registered).predict(pd.DataFrame(rows))
    encoded = [{**row, "image": base64.b64encode(row["image"]).decode()} for row in rows]
    with servers.mlflow_model(tmp_path, registered, store.address()) as server:
        url = server.url
        answer = httpx.post(f"{url}/invocations", json={"dataframe_records": encoded}, timeout=300)
        assert answer.status_code == 200, answer.text
        by_server = answer.json()["predictions"]
        strict = {"dataframe_records": encoded[:1], "params": {"threshold": 0.95}}
        (certain,) = httpx.post(f"{url}/invocations", json=strict, timeout=300).json()["predictions"]
        encoded[1]["image"] = base64.b64encode(b"no image").decode()
        wrong = httpx.post(f"{url}/invocations", json={"dataframe_records": encoded[:2]}, timeout=300)
        assert wrong.status_code == 400
        assert "row 1: it is not an image" in wrong.text
        missing = httpx.post(f"{url}/invocations", json={"dataframe_records": [{"text": "red"}]}, timeout=300)
        assert missing.status_code == 400
    for place, mask in enumerate(expected):
        for segmentation in (
            by_command[place]["segmentation"],
            by_pyfunc["segmentation"][place],
            by_server[place]["segmentation"],
        ):
            assert np.array_equal(decoded(segmentation), mask)
        assert by_server[place]["score"] == pytest.approx(by_command[place]["score"], abs=1e-6)
    assert np.array_equal(decoded(certain["segmentation"]), by_hand(taught, images[0], TEXTS[0], 0.95))
