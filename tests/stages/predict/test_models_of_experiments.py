"""A model of any experiment is found by its name, wherever in the project the command is given."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from stages.demo import __main__ as demo
from stages.demo import answers, page
from stages.predict.__main__ import main as predict
from stages.runtime import layout
from stages.serving import source
from stages.serving.source import NoModelError


@pytest.fixture
def project(taught, tmp_path, monkeypatch, small_params) -> Path:
    """A project with an experiment `more`; each has one model that the other has not. The project is current."""
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    folder = tmp_path / "project"
    (folder / ".dvc").mkdir(parents=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(small_params))
    own = {key: small_params["experiment"][key] for key in ("datasets", "evaluate_on", "variants", "recipe")}
    monkeypatch.chdir(folder)
    for place, run in (("", "scenes/baseline/0"), ("experiments/more", "scenes/alignformer/2")):
        (folder / place / "results/models" / run).parent.mkdir(parents=True)
        shutil.copytree(taught, folder / place / "results/models" / run)
    (folder / "experiments/more/params.yaml").write_text(yaml.safe_dump({"experiment": {**own, "seeds": [2]}}))
    return folder


@pytest.mark.parametrize("place", [".", "experiments/more", "experiments", "results/models"])
def test_a_name_means_the_same_in_every_folder_of_the_project(project, monkeypatch, place):
    monkeypatch.chdir(place)
    here, there = "scenes/baseline/0", "scenes/alignformer/2"
    for name, folder in (
        (f"default/{here}", project / "results/models" / here),
        (f"more/{there}", project / "experiments/more/results/models" / there),
    ):
        assert source.folder(name).resolve() == folder
    within = source.folder(there if place == "experiments/more" else here)
    assert within.resolve().is_relative_to(project / ("experiments/more" if place == "experiments/more" else "results"))
    expected = [there, f"default/{here}"] if place == "experiments/more" else [here, f"more/{there}"]
    assert source.runs() == expected and source.runs_here() == expected[:1]


def test_a_name_that_nothing_has_is_an_error_that_lists_the_models_of_all(project):
    for name, how in (
        ("more/scenes/baseline/2", "`python -m pipelines.experiment more/train@scenes-baseline-2` trains it."),
        ("more/scenes/vlba/2", "once `experiment` in experiments/more/params.yaml lists vlba under variants."),
        ("scenes/alignformer/2", "`dvc repro train@scenes-alignformer-2` trains it once `experiment` in params.yaml"),
        ("less/scenes/baseline/0", "of an experiment. Runs there:"),
    ):
        with pytest.raises(NoModelError) as caught:
            source.folder(name)
        assert how in str(caught.value) and "scenes/baseline/0, more/scenes/alignformer/2. A" in str(caught.value)


def test_files_are_those_of_the_current_folder(project, capsys):
    Image.new("RGB", (32, 32), "red").save("red.png")
    Path("asked.csv").write_text("image,text\nred.png,the red one\n")
    predict(["--model", "more/scenes/alignformer/2", "--csv", "asked.csv"])
    found = json.loads(Path("predictions/predictions.json").read_text())
    assert found["model"] == "more/scenes/alignformer/2" and found["predictions"][0]["image"] == "red.png"
    assert "predictions/0001-red-the-red-one.overlay.png" in capsys.readouterr().out


def test_the_page_asks_the_models_of_all(project, monkeypatch):
    """It begins with those of the experiment that it was started for."""
    shown, image = [], Image.new("RGB", (32, 32), "red")

    class Page:
        def run(self, **where):
            shown.append(where["port"])

    monkeypatch.setattr(page, "app", lambda models, first, datasets: shown.append((models, first)) or Page())
    demo.main(["--experiment", "more", "--port", "0"])
    here, there = "scenes/alignformer/2", "default/scenes/baseline/0"
    assert shown == [([here, there], (here, here)), 0]
    assert Path.cwd() == project / "experiments/more"
    masks = [np.asarray(answers.ask(name, image, "the red one").overlay) for name in (here, there)]
    assert np.array_equal(*masks), "copies of one model"
    shutil.rmtree(layout.root() / "results")
    with pytest.raises(NoModelError):
        answers.ask(there, image, "the red one")
