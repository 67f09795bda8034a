"""An experiment's folder: what it has of its own, what it leaves to the project, and what plain DVC makes of it."""

import json
import shutil
from pathlib import Path

import pytest
from dvc.api import params_show
from ruamel.yaml import YAML

from benchmarks import clones
from pipelines.flow.held import held
from stages.params import __main__ as params_command
from stages.runtime import dvc_internals, experiments, layout, params
from stages.runtime.experiments import ExperimentError
from tests.project import clone

OWN = """
experiment:
  datasets: [scenes]
  evaluate_on: []
  variants: [baseline, t20]
  seeds: [3]
  recipe: small
  highlight: t20
recipes:
  small:
    training: {epochs: 2}
datasets:
  scenes: {seed: 7}
variants:
  t20: {vlba: bidirectional, contrastive: instance, contrastive_weight: 0.01, temperature: 0.2}
"""


@pytest.fixture
def project(root, tmp_path, monkeypatch) -> Path:
    """A clone with the experiment `mine` alone, as the current folder."""
    folder = clone(root, tmp_path / "project")
    monkeypatch.chdir(folder)
    shutil.rmtree("experiments")
    experiments.make("mine", OWN)
    return folder


def wrong(text: str) -> str:
    Path("experiments/mine/params.yaml").write_text(text)
    with pytest.raises(params.ParamsError) as caught:
        params.read(Path("experiments/mine/params.yaml"))
    return str(caught.value)


def test_what_is_not_there_is_the_projects(project, monkeypatch):
    default = params.read()
    monkeypatch.chdir("experiments/mine")
    mine = params.read()
    assert (mine.experiment.seeds, mine.experiment.highlight, mine.experiment.reference) == ([3], "t20", "baseline")
    assert mine.recipes["small"].training == default.recipes["small"].training.model_copy(update={"epochs": 2})
    assert mine.recipes["small"].model == default.recipes["small"].model
    assert mine.datasets["scenes"] == default.datasets["scenes"].model_copy(update={"seed": 7})
    assert mine.variants == {**default.variants, "t20": mine.variants["t20"]}
    assert mine.evaluation == default.evaluation


def test_another_kind_replaces_the_whole_section(project):
    own = "datasets:\n  scenes: {kind: coco, instances: a, expressions: b, images: c}\n"
    Path("experiments/mine/params.yaml").write_text(OWN.replace("datasets:\n  scenes: {seed: 7}\n", own))
    assert params.read(Path("experiments/mine/params.yaml")).datasets["scenes"].kind == "coco"


def test_a_wrong_key_names_itself_and_the_file_that_it_stands_in(project):
    own, of_project = "experiments/mine/params.yaml is wrong:\n", "params.yaml is wrong:\n"
    epoch = "recipes.small.training.epoch: unknown key; did you mean epochs?"
    assert wrong(OWN.replace("epochs", "epoch")).startswith(own + epoch)
    missing = "experiment.seeds: missing; DVC looks for it in this file: add `seeds: [0, 1]`, which is the project's"
    assert wrong(OWN.replace("  seeds: [3]\n", "")) == f"{own}{missing}, or your own"
    assert ": add `evaluate_on: []`, which is" in wrong(OWN.replace("  evaluate_on: []\n", ""))
    assert wrong("- a list").startswith(own)
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("weight_decay: ", "weight_decay: -"))
    said = wrong(OWN.replace("epochs", "epoch"))
    assert own + epoch in said
    assert said.count(f"\n{of_project}recipes.small.training.weight_decay: expected") == 1


def test_a_command_names_the_file_as_it_is_named_in_the_projects_folder(project, capsys):
    Path("experiments/mine/params.yaml").write_text(OWN.replace("epochs", "epoch"))
    for command in (["--check"], ["--experiment", "mine"]):
        with pytest.raises(SystemExit):
            params_command.main(command)
        assert capsys.readouterr().err.startswith(
            "experiments/mine/params.yaml is wrong:\nrecipes.small.training.epoch:"
        )


def test_nothing_is_made_of_a_broken_one(project):
    Path("experiments/mine/params.yaml").write_text("experiment: [")
    with pytest.raises(SystemExit):
        params_command.main(["--new", "other", "--from", "mine"])
    assert experiments.names() == ["default", "mine"]
    Path("experiments/mine/dvc.yaml").unlink()
    with (
        pytest.raises(params.ParamsError, match=r"experiments/mine/params\.yaml is not YAML"),
        held(["mine"], [], None, print),
    ):
        pass
    assert not Path("experiments/mine/dvc.yaml").exists()


def test_its_stages_are_those_of_its_own_file_and_of_the_projects_dvc_yaml(project, monkeypatch):
    default = {stage.name for stage in dvc_internals.stages()}
    monkeypatch.chdir("experiments/mine")
    stages = {stage.name: set(stage.needs) for stage in dvc_internals.stages()}
    assert {name for name in stages if name.startswith("train@")} == {"train@scenes-baseline-3", "train@scenes-t20-3"}
    assert stages["train@scenes-t20-3"] == {"params", "prepare@scenes"}
    assert "train@scenes-baseline-3" not in default and "train@scenes-baseline-0" in default


def test_the_first_stage_writes_what_dvc_compares(project, monkeypatch):
    monkeypatch.chdir("experiments/mine")
    params_command.main(["--resolve"])
    written = json.loads(layout.ALL_PARAMS.read_text())
    assert params.check(written, layout.ALL_PARAMS) == params.read()
    layout.prepared_hash("scenes").parent.mkdir(parents=True)
    layout.prepared_hash("scenes").write_text("{}")
    entry = dvc_internals.lock_entry("train@scenes-t20-3")["params"]["results/params.json"]
    assert entry["variants.t20"]["temperature"] == 0.2 and entry["recipes.small"]["training"]["epochs"] == 2


def test_a_stage_of_dvc_reads_what_the_first_stage_wrote(project, monkeypatch):
    params_command.main(["--resolve"])
    Path("params.yaml").write_text("edited: during the run")
    monkeypatch.setenv("DVC_STAGE", "train@scenes-baseline-0")
    assert params.read().experiment.reference == "baseline"


def test_dvc_yaml_may_not_drift(project, monkeypatch, capsys):
    with Path("dvc.yaml").open("a") as file:
        file.write("# another commit\n")
    monkeypatch.chdir("experiments/mine")
    with pytest.raises(SystemExit):
        params_command.main(["--resolve"])
    assert "`make experiment NAME=mine` mends it" in capsys.readouterr().err
    params_command.main(["--new", "mine"])
    monkeypatch.chdir(project)
    assert Path("experiments/mine/dvc.yaml").read_bytes() == Path("dvc.yaml").read_bytes()


def test_a_new_one_begins_as_the_default_or_as_another(project, monkeypatch, capsys):
    params_command.main(["--new", "as_default"])
    assert params.read(Path("params.yaml")) == params.read()
    monkeypatch.chdir(project)
    params_command.main(["--new", "as_mine", "--from", "mine"])
    printed = capsys.readouterr().out
    monkeypatch.chdir(project)
    assert experiments.names() == ["default", "as_default", "as_mine", "mine"]
    assert YAML(typ="safe").load(Path("experiments/as_mine/params.yaml")) == YAML(typ="safe").load(OWN)
    assert "  recipes.small.training.epochs: 5 -> 2" in printed.splitlines()
    assert "  variants.t20: " in printed


@pytest.mark.parametrize("name", ["default", "a/b", "..", "", "-x", "Mine"])
def test_names_that_cannot_be(project, name):
    with pytest.raises(ExperimentError):
        experiments.make(name, OWN)


def test_an_unknown_one_is_named_with_those_that_exist(project, capsys):
    with pytest.raises(SystemExit):
        params_command.main(["--experiment", "nope"])
    assert "no experiment 'nope'; there are: default, mine" in capsys.readouterr().err


def test_where_an_experiment_is(project, monkeypatch):
    assert (experiments.current(), layout.root()) == ("default", Path())
    monkeypatch.chdir("experiments/mine")
    assert (experiments.current(), layout.root()) == ("mine", Path("../.."))
    Path("here.txt").touch()
    Path("../../there.txt").touch()
    assert layout.source("here.txt") == Path("here.txt")
    assert layout.source("there.txt") == Path("../../there.txt")


def test_earlier_commits_can_be_read(project):
    """DVC follows no link in an earlier commit: with one for dvc.yaml, it would show nothing of that commit."""
    clones.run(Path(), "git", "add", "--all")
    clones.run(Path(), "git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message", "first")
    assert params_show("experiments/mine/params.yaml", rev="HEAD")["experiment"]["seeds"] == [3]
