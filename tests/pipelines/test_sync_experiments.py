"""Each experiment has its own runs and its own champion in MLflow, and what is done for one touches no other."""

import os
import re
import shutil
from pathlib import Path

import psutil
import pytest
from dvc.repo import Repo

from benchmarks.clones import set_params
from pipelines import sync
from pipelines.mlflow import views
from pipelines.mlflow.champion import Title
from pipelines.prefect import artifacts
from stages.runtime import experiments, keys
from stages.serving import source
from stages.tracking import live, mlruns, owner, store
from tests import mlflow_state
from tests.pipelines.test_sync import PIPELINE, WORK, enter, make_empty_database, repro

ROOT = Path(__file__).resolve().parents[2]
CHAMPIONS = {"default": "alignformer-scenes-small-original", "more": "alignformer-more-scenes-small-original"}
MORE = """
experiment:
  datasets: [scenes]
  evaluate_on: []
  variants: [baseline, vlba, alignformer]
  seeds: [1]
  recipe: small
"""


@pytest.fixture(scope="module")
def computed(programs, tmp_path_factory) -> Path:
    """A project with two experiments. One has a variant more, and got the others from DVC's run-cache.

    MLflow's database is empty: making one takes seconds.
    """
    folder = tmp_path_factory.mktemp("computed")
    files = {"work.py": WORK, "supported.txt": "vlba alignformer", "fingerprint.txt": "f00d"}
    for name, content in {**files, "dvc.yaml": PIPELINE}.items():
        (folder / name).write_text(content)
    shutil.copy(ROOT / "tests" / "params.yaml", folder)
    set_params(folder, experiment__variants=["baseline", "vlba"], experiment__highlight="vlba", experiment__seeds=[1])
    with pytest.MonkeyPatch.context() as patch:
        enter(folder, patch)
        Repo.init(no_scm=True).close()
        experiments.make("more", MORE)
        for name in files:
            Path("experiments/more", name).symlink_to(f"../../{name}")
        for dag in ("dvc.yaml", "experiments/more/dvc.yaml"):
            repro(dag)
        make_empty_database(patch)
    return folder


@pytest.fixture
def project(computed, tmp_path, monkeypatch) -> Path:
    """A copy of it, as the current folder. MLflow was told nothing."""
    return enter(shutil.copytree(computed, tmp_path / "project", symlinks=True), monkeypatch)


@pytest.fixture(scope="module")
def synced_once(computed, tmp_path_factory) -> Path:
    folder = shutil.copytree(computed, tmp_path_factory.mktemp("synced") / "project", symlinks=True)
    with pytest.MonkeyPatch.context() as patch:
        enter(folder, patch)
        sync.main([])
    return folder


@pytest.fixture
def synced(synced_once, tmp_path, monkeypatch, capsys) -> Path:
    """A copy of a project that was synced once, as the current folder."""
    from mlflow.tracking._tracking_service import utils

    utils._artifact_repos_cache.clear()  # by the ids of runs, which are those of other copies
    capsys.readouterr()
    return enter(shutil.copytree(synced_once, tmp_path / "project", symlinks=True), monkeypatch)


def held() -> dict[str, dict]:
    """What MLflow holds of each experiment."""
    found = {}
    for name in experiments.names():
        experiments.enter(name)
        found[name] = mlflow_state.contents()
    experiments.enter(experiments.DEFAULT)
    return found


def titles() -> list[str]:
    return sorted({each.name for each in store.client().search_experiments()} - {"Default", "unused"})


def test_prefect_finds_the_addresses_of_views_in_what_a_sync_prints(synced, capsys):
    sync.main(["--experiment", "more", "--ui", "http://127.0.0.1:5000"])
    lines = capsys.readouterr().out.splitlines()
    found = [match for line in lines if (match := artifacts.VIEW.fullmatch(line))]
    assert [match["title"] for match in found] == [f"more: scenes: {kind}" for kind in views.KINDS]
    assert all(match["address"].startswith("http://127.0.0.1:5000/#/experiments/") for match in found)
    assert len(lines) == len(found) + 1


def unplaced(run: dict) -> dict:
    """A run without its place among the variants of a comparison."""
    return {**run, "tags": {name: value for name, value in run["tags"].items() if name != mlruns.PLACE}}


def test_each_has_its_runs_and_its_champion(synced, capsys):
    found = held()
    assert titles() == ["alignformer", "alignformer-more"]
    assert set(found["default"]["runs"]) == {"scenes small", "baseline-1", "vlba-1"}
    assert set(found["more"]["runs"]) == {"scenes small", "baseline-1", "vlba-1", "alignformer-1"}
    for name, folder in (("default", "."), ("more", "experiments/more")):
        entries = keys.locked_entries(Path(folder, "dvc.lock"))
        for variant in ("baseline", "vlba"):
            stage, run = f"train@scenes-{variant}-1", found[name]["runs"][f"{variant}-1"]
            assert run["tags"]["key"] == keys.key(stage, keys.inputs_of(entries[stage]))
            same = unplaced(found["default"]["runs"][f"{variant}-1"])
            assert unplaced(run) == same, "made once for each experiment, where it has its place among other variants"
    best = {
        name: [of for of, _, _ in found[name]["registered"][title]["versions"].values()]
        for name, title in CHAMPIONS.items()
    }
    assert best == {"default": ["scenes-vlba-1-model"], "more": ["scenes-alignformer-1-model"]}

    client = store.client()
    for name, title in CHAMPIONS.items():
        model = client.get_registered_model(title)
        version = client.get_model_version_by_alias(title, "champion")
        assert model.tags["experiment"] == version.tags["experiment"] == name
        for description in (model.description, version.description):
            assert ("experiment more" in description.lower()) is (name == "more")

    sync.main([])
    last = [line for line in capsys.readouterr().out.splitlines() if "MLflow: " in line]
    assert last == [
        "MLflow: 0 runs made, 0 runs completed, 3 runs unchanged, 1 champion",
        "more: MLflow: 0 runs made, 0 runs completed, 4 runs unchanged, 1 champion",
    ]
    experiments.enter("default")
    assert held() == found


def test_what_is_done_for_one_leaves_the_other_as_it_is(synced, capsys):
    """A run of a process that died, and the same training again, which replaces its earlier run."""
    before = held()
    dead = {owner.HOST: owner.tags()[owner.HOST], owner.PID: str(psutil.pids()[-1] + 10**6), owner.STARTED: "1.0"}
    with store.opened() as opened:
        run = next(run for run in store.search(opened, "") if run.info.run_name == "vlba-1")
        store.send_tags(opened, run.info.run_id, dead)
        opened.client.update_run(run.info.run_id, status="RUNNING")
    sync.main(["--experiment", "more"])
    assert experiments.current() == "more"
    said = capsys.readouterr().out.splitlines()
    assert said == ["more: MLflow: 0 runs made, 0 runs completed, 4 runs unchanged, 1 champion"]
    after = held()
    assert after["more"] == before["more"] and after["default"]["runs"]["vlba-1"]["status"] == "RUNNING"

    experiments.enter("more")
    with live.training_run("scenes", "vlba", 1, {}) as run:
        run.log({"loss": 9.0}, step=1)
    after_training = held()
    assert after_training["default"] == after["default"] | {"registered": after_training["default"]["registered"]}
    assert after_training["more"]["runs"]["vlba-1"]["metrics"] == {"by_epoch/loss": [(1, "9.0")]}
    sync.main([])
    assert held() == before


def test_where_one_fails_the_others_go_on(project, capsys):
    experiments.make("other", MORE)
    shutil.copy("experiments/more/dvc.lock", "experiments/other")
    experiments.make("planned", MORE)  # was never run
    lock = Path("experiments/more/dvc.lock")
    lock.write_text("<<<<<<< HEAD\n" + lock.read_text())
    with pytest.raises(SystemExit) as caught:
        sync.main([])
    said = capsys.readouterr()
    assert caught.value.code == 1
    assert said.err.startswith("error: more: DVC cannot read this project: ") and "dvc.lock" in said.err
    assert "\nother: MLflow: 0 runs made" in said.out and said.out.splitlines()[-1].endswith("stages absent")
    experiments.enter("default")
    assert titles() == ["alignformer", "alignformer-other"]
    with pytest.raises(SystemExit) as caught:
        sync.main(["--experiment", "mroe"])
    assert caught.value.code == 2 and "default, more, other, planned" in re.sub("'", "", capsys.readouterr().err)


def test_a_copied_project_keeps_the_files_of_all_in_its_own_folder(synced, caplog):
    before = held()
    other = shutil.copytree(synced, synced.with_name("copy"), symlinks=True)
    os.chdir(other)
    shutil.rmtree(synced)
    caplog.clear()
    for name in experiments.names():
        experiments.enter(name)
        assert source.folder(f"{CHAMPIONS[name]}@champion").is_relative_to(other / "mlartifacts")
    assert caplog.text.count("the project was copied or moved") == 1
    assert held() == before


def test_a_database_that_the_user_names_is_one_for_all(project, monkeypatch):
    Path("mlflow.db").rename("mine.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mine.db")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    monkeypatch.chdir("experiments/more")
    sync.main([])
    experiments.enter("default")
    assert titles() == ["mine", "mine-more"]
    made = [path for name in ("m*.db", "mlruns", "mlartifacts") for path in project.glob(f"**/{name}")]
    assert made == [project / "mine.db", project / "mlruns"]


def test_the_way_back_is_a_command_that_works_in_the_projects_folder(project, capsys):
    models = Path("experiments/more/results/models/scenes/vlba")
    shutil.rmtree(models)
    sync.main(["--experiment", "more"])
    said = capsys.readouterr().out
    command = r"dvc checkout (experiments/more/dvc\.yaml:)STAGE brings: (train@scenes-vlba-1)"
    dag, stage = re.search(command, said).groups()
    experiments.enter("default")
    with Repo() as repo:
        repo.checkout([f"{dag}{stage}"])
    assert (models / "1" / "model.safetensors").exists()
    sync.main(["--experiment", "more"])
    assert "more: train@scenes-vlba-1: made" in capsys.readouterr().out.splitlines()


def test_no_two_experiments_have_one_champion():
    parts = ["a", "a-", "a-a", "a--", "A_+"]
    names = {
        Title(dataset, recipe, "original", experiment).name
        for dataset in parts
        for recipe in parts
        for experiment in (*parts, "default")
    }
    assert len(names) == len(parts) ** 2 * (len(parts) + 1)
