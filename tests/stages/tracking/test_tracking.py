"""MLflow gets each result once and correctly, no matter how the stage ends, under the keys of dvc.lock."""

import ast
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.repo import Repo
from requests.adapters import HTTPAdapter

from stages.runtime import keys, params
from stages.tracking import live, mlruns, owner, store
from tests.project import forked

ROOT = Path(__file__).resolve().parents[3]
SETTINGS = {"epochs": 3, "learning_rate": 1e-3}

RECIPE = params.read(ROOT / "tests" / "params.yaml").recipes["small"]

PIPELINE = """
stages:
  prepare:
    matrix:
      dataset:
        - scenes
    cmd: mkdir -p data/${item.dataset} && echo words > data/${item.dataset}/words.txt
    params:
      - datasets.${item.dataset}
    outs:
      - data/${item.dataset}
  train:
    matrix:
      dataset:
        - scenes
      variant:
        - vlba
      seed:
        - 0
    cmd: python train.py train@${item.dataset}-${item.variant}-${item.seed}
    deps:
      - data/${item.dataset}
      - train.py
    params:
      - recipes.small
      - variants.${item.variant}
    outs:
      - key.txt
"""

TRAIN = """
import sys
from pathlib import Path
from stages.runtime import keys

stage = sys.argv[1]
Path("key.txt").write_text(keys.key(stage, keys.live_inputs(stage)))
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project with the real params.yaml; no DVC, no git."""
    shutil.copy(ROOT / "tests" / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "DVC_ROOT", "DVC_STAGE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory):
    """A database without runs: creating one takes seconds."""
    folder = tmp_path_factory.mktemp("database")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_EXPERIMENT_NAME", "unused")
        read_runs()
    return folder / "mlflow.db"


@pytest.fixture
def migrated(project, empty_database):
    """The project with a database."""
    shutil.copy(empty_database, "mlflow.db")
    return project


def read_runs() -> dict:
    with store.opened() as (client, experiment_id):
        return {run.info.run_name: run for run in client.search_runs([experiment_id])}


def python(*arguments: str, **options) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.Popen([sys.executable, *arguments], env=environment, text=True, **options)


WARNINGS = ["partial data: train has 3 refs, published are 42,404", "partial data: testB is absent"]


def write_summary(dataset: str) -> None:
    folder = Path("data") / dataset
    folder.mkdir(parents=True, exist_ok=True)
    summary = {"name": dataset, "fingerprint": "f00d", "partial": True, "warnings": WARNINGS}
    (folder / "dataset.json").write_text(json.dumps(summary))


def test_training_evaluation_and_report_become_one_parent_and_one_child(migrated):
    model = migrated / "model"
    model.mkdir()
    (model / "model.safetensors").write_text("weights")
    with live.training_run("scenes", "vlba", 0, SETTINGS) as run:
        for epoch in range(3):
            run.log({"loss": 1.0 / (epoch + 1)}, step=epoch)
        run.log_folder(model, "model")
    scores = migrated / "metrics.json"
    scores.write_text("{}")
    card = migrated / "README.md"
    card.write_text("card")
    for _ in range(2):
        live.log_evaluation("scenes", "vlba", 0, {"val": {"mIoU": 0.5, "Pr@0.5": 0.25}}, [scores])
        live.log_card("scenes", "vlba", 0, card)
    comparison = migrated / "scenes.csv"
    comparison.write_text(
        "dataset,protocol,variant,split,metric,seeds,mean,std,min,max,difference\n"
        "scenes,original,baseline,val,mIoU,1,0.4,,0.4,0.4,0.0\n"
        "scenes,original,vlba,val,mIoU,1,0.5,,0.5,0.5,0.1\n"
    )
    report = [Path("reports/tables/scenes.csv"), Path("reports/index.html")]
    for path in report:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)
    live.log_report("scenes", comparison, report)

    runs = read_runs()
    child, parent = runs["vlba-0"], runs["scenes small"]
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert (child.info.status, parent.info.status) == ("FINISHED", "FINISHED")
    assert child.data.params == {"epochs": "3", "learning_rate": "0.001"}
    assert child.data.metrics == {"by_epoch/loss": 1 / 3, "val/mIoU": 0.5, "val/Pr_0.5": 0.25}
    assert parent.data.metrics == {}
    with store.opened() as (client, experiment_id):
        assert [point.step for point in client.get_metric_history(child.info.run_id, "by_epoch/loss")] == [0, 1, 2]
        assert len(client.get_metric_history(child.info.run_id, "val/mIoU")) == 1
        (logged,) = client.search_logged_models([experiment_id])
        assert set(store.files_of_run(store.Store(client, experiment_id), parent.info.run_id)) == {
            "comparison/scenes.csv",
            "report/tables/scenes.csv",
            "report/index.html",
        }
    assert {metric.key: metric.value for metric in logged.metrics} == {"val/mIoU": 0.5, "val/Pr_0.5": 0.25}
    (weights,) = (migrated / "mlartifacts").rglob("model.safetensors")
    assert weights.with_name("README.md").read_text() == "card"


def test_parent_child_and_model_carry_protocol_and_state_of_the_data(migrated):
    write_summary("scenes")
    content = Path("params.yaml").read_text()
    Path("params.yaml").write_text(content.replace("protocol: original", "protocol: lavt"))
    model = migrated / "model"
    model.mkdir()
    with live.training_run("scenes", "vlba", 0, SETTINGS) as run:
        run.log_folder(model, "model")
    runs = read_runs()
    expected = {"protocol": "lavt", "data.partial": "true", "data.fingerprint": "f00d"}
    for tagged in (runs["vlba-0"], runs["scenes small"]):
        assert expected.items() <= tagged.data.tags.items()
        assert tagged.data.tags["data.warnings"] == "; ".join(WARNINGS)
    with store.opened() as (client, experiment_id):
        (logged,) = client.search_logged_models([experiment_id])
    assert logged.tags["protocol"] == "lavt"


def test_evaluation_and_report_renew_protocol_and_state_of_the_data(migrated):
    """A run outside DVC keeps its key when the protocol changes."""
    with live.training_run("scenes", "vlba", 0, SETTINGS):
        pass
    before = read_runs()
    assert {run.data.tags["protocol"] for run in before.values()} == {"original"}
    assert {run.data.tags["data.partial"] for run in before.values()} == {"false"}
    assert {run.data.tags["data.warnings"] for run in before.values()} == {""}
    write_summary("scenes")
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("protocol: original", "protocol: cris"))
    live.log_evaluation("scenes", "vlba", 0, {"val": {"mIoU": 0.5}})
    comparison = migrated / "scenes.csv"
    comparison.write_text("variant,split,metric,mean,difference\n")
    live.log_report("scenes", comparison)
    after = read_runs()
    assert set(after) == set(before)
    assert {run.data.tags["protocol"] for run in after.values()} == {"cris"}
    assert {run.data.tags["data.partial"] for run in after.values()} == {"true"}


def test_metrics_have_few_names_and_none_twice():
    """At most 24 for eight splits: with the curves and what MLflow measures of the machine, less than 40."""
    scores = {"mIoU": 0.5, "oIoU": 0.4, "Pr@0.5": 0.3, "Pr@0.9": 0.1, "expressions": 9}
    assert set(mlruns.by_split({"val": scores})) == {"val/mIoU", "val/oIoU", "val/Pr@0.5"}
    epoch = {"loss": 1.0, "learning_rate": 0.1, "val_mIoU": 0.5, "val_Pr@0.5": 0.3, "val_Pr@0.7": 0.2}
    told = mlruns.by_epoch(epoch)
    assert set(told) == {f"by_epoch/{name}" for name in epoch if name != "val_Pr@0.7"}
    assert all(map(mlruns.is_told, map(store.legal, [*told, "refcoco+_testA/Pr@0.5", "system/cpu"])))
    assert not any(map(mlruns.is_told, ["val_mIoU", "loss", "vlba/val/Pr_0.9", "val/expressions"]))


def test_the_machine_is_measured_unless_that_is_switched_off(migrated, monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
    with live.training_run("scenes", "vlba", 0, SETTINGS) as run:
        assert not {type(each).__name__ for each in run._monitor.monitors} & {"DiskMonitor", "NetworkMonitor"}
        run._monitor.publish_metrics({"cpu_utilization_percentage": 12.5})
    assert run.lost.what == []
    assert read_runs()["vlba-0"].data.metrics["system/cpu_utilization_percentage"] == 12.5
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    with live.training_run("scenes", "vlba", 1, SETTINGS) as run:
        assert run._monitor is None


def test_the_same_training_again_replaces_its_run(migrated):
    for loss in (2.0, 1.0):
        with live.training_run("scenes", "vlba", 0, SETTINGS) as run:
            run.log({"loss": loss}, step=0)
    with store.opened() as (client, experiment_id):
        found = client.search_runs([experiment_id], "tags.variant = 'vlba'")
    assert [run.data.metrics for run in found] == [{"by_epoch/loss": 1.0}]


def test_evaluating_a_model_from_the_cache_makes_its_run(migrated):
    live.log_evaluation("scenes", "vlba", 0, {"val": {"mIoU": 0.5}})
    child = read_runs()["vlba-0"]
    assert (child.info.status, child.data.metrics) == ("FINISHED", {"val/mIoU": 0.5})


@pytest.mark.programs
def test_a_run_names_its_process(migrated):
    with live.training_run("scenes", "vlba", 0, SETTINGS) as run:
        pass
    tags = read_runs()["vlba-0"].data.tags
    assert run.run_id and owner.fate(tags) == "alive"
    assert owner.fate({**tags, owner.STARTED: str(float(tags[owner.STARTED]) - 3600)}) == "dead"
    assert owner.fate({**tags, owner.HOST: "another"}) == owner.fate({}) == "elsewhere"
    process = python("-c", "from stages.tracking import owner; print(owner.tags())", stdout=subprocess.PIPE)
    tags = ast.literal_eval(process.communicate()[0])
    assert tags[owner.PID] == str(process.pid) and owner.fate(tags) == "dead"


def test_an_experiment_that_was_deleted_comes_back_with_its_runs(migrated):
    with live.training_run("scenes", "vlba", 0, SETTINGS):
        pass
    with store.opened() as (client, experiment_id):
        client.delete_experiment(experiment_id)
    assert set(read_runs()) == {"vlba-0", "scenes small"}


def test_names_that_differ_are_metrics_that_differ():
    names = ["a+/val/Pr@0.5", "a_/val/Pr@0.5", "a++/val/Pr@0.5", "a-/val/Pr@0.5", "a+_/val/Pr@0.5", "a_+/val/Pr@0.5"]
    assert len({store.legal(name) for name in names}) == len(names)
    assert store.legal("refcoco+_val/Pr@0.5") == "refcoco plus_val/Pr_0.5"


def test_no_password_of_an_address_is_printed():
    shown = store.in_words(OSError("API request to https://me:secret@host:5000/api failed\nand more"))
    assert shown == "OSError: API request to https://***@host:5000/api failed"


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_status_after_an_exception(migrated, error, status):
    with live.training_run("scenes", "vlba", 1, SETTINGS):
        pass
    with pytest.raises(error), live.training_run("scenes", "vlba", 0, SETTINGS):
        assert read_runs()["scenes small"].info.status == "RUNNING"
        raise error
    runs = read_runs()
    assert runs["vlba-0"].info.status == runs["scenes small"].info.status == status


def test_a_parent_runs_as_long_as_one_of_its_trainings(migrated):
    def status() -> str:
        return read_runs()["scenes small"].info.status

    with live.training_run("scenes", "vlba", 0, SETTINGS):
        with pytest.raises(KeyboardInterrupt), live.training_run("scenes", "vlba", 1, SETTINGS):
            raise KeyboardInterrupt
        assert status() == "RUNNING"
    assert status() == "KILLED"
    with live.training_run("scenes", "vlba", 1, SETTINGS), live.training_run("scenes", "vlba", 2, SETTINGS) as killed:
        with store.opened() as opened:  # the process of the second is dead
            store.send_tags(opened, killed.run_id, {owner.STARTED: "0"})
        killed.end = lambda status: None
    assert (read_runs()["vlba-2"].info.status, status()) == ("KILLED", "KILLED")
    live.log_evaluation("scenes", "baseline", 0, {"val": {"mIoU": 0.5}})
    assert status() == "KILLED"


def test_the_database_lies_in_the_project(tmp_path, monkeypatch):
    """Also where the stage of another DVC pipeline runs this one: DVC_ROOT is then that project."""
    outer, inner = tmp_path, tmp_path / "alignformer"
    copied = inner / ".dvc" / "tmp" / "exps" / "standalone" / "x"
    copied.mkdir(parents=True)
    for root, here, expected in ((outer, inner, inner), (inner, copied, inner), (inner, inner, inner)):
        monkeypatch.chdir(here)
        monkeypatch.setenv("DVC_ROOT", str(root))
        assert store.own_database() == expected / "mlflow.db"


@pytest.mark.parametrize(
    ("folder", "reason"), [("that's it", "apostrophe"), ("/".join(["long" * 50] * 3), "500 bytes")]
)
def test_a_folder_in_which_no_database_can_be_made(tmp_path, monkeypatch, folder, reason):
    (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(store.StoreError, match=reason), store.opened():
        pass


def test_the_own_database_named_in_the_environment_is_the_own(migrated, monkeypatch):
    """`export MLFLOW_TRACKING_URI=sqlite:///mlflow.db`, for `mlflow models serve`."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    with store.opened() as (client, experiment_id):
        assert client.get_experiment(experiment_id).artifact_location == (migrated / "mlartifacts").as_uri()


@pytest.mark.programs
def test_status_after_sigterm(migrated):
    script = (
        "import signal; from stages.tracking import live\n"
        "with live.training_run('scenes', 'vlba', 0, {}):\n"
        "    print('training', flush=True); signal.pause()\n"
    )
    process = python("-c", script, stdout=subprocess.PIPE)
    assert process.stdout.readline() == "training\n"
    process.terminate()
    assert process.wait() == 143
    assert read_runs()["vlba-0"].info.status == "KILLED"


def train(seed: int) -> list[str]:
    with live.training_run("scenes", "vlba", seed, {}) as run:
        run.log({"loss": 1.0}, step=0)
    return run.lost.what


def test_processes_that_start_at_once_share_one_new_database_and_one_parent(project):
    assert forked(train, 0, 1) == [[], []]
    with store.opened() as (client, experiment_id):
        runs = client.search_runs([experiment_id])
    parents = {run.data.tags.get("mlflow.parentRunId") for run in runs}
    assert len(runs) == 3 and len(parents) == 2


def test_a_store_that_cannot_be_opened_stops_nothing_and_is_named(project, caplog):
    (project / "mlflow.db").mkdir()
    with caplog.at_level(logging.WARNING), live.training_run("scenes", "vlba", 0, SETTINGS) as run:
        run.log({"loss": 1.0}, step=0)
    live.log_evaluation("scenes", "vlba", 0, {"val": {"mIoU": 0.5}})
    warnings = [record.message for record in caplog.records if record.name == "stages.tracking"]
    assert len(warnings) == 2
    assert "train@scenes-vlba-0" in warnings[0] and "dvc.lock" in warnings[0]
    assert "evaluate@scenes-vlba-0" in warnings[1]


def test_a_server_that_is_gone_stops_nothing(project, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    sent, send = [], HTTPAdapter.send
    monkeypatch.setattr(HTTPAdapter, "send", lambda *given, **named: sent.append(given) or send(*given, **named))
    with live.training_run("scenes", "vlba", 0, SETTINGS) as run:
        run.log({"loss": 1.0}, step=0)
    assert len(sent) == 1, "who is not there is asked once, not for each row"
    assert [record.name for record in caplog.records].count("stages.tracking") == 1


def test_what_a_busy_database_refuses_is_sent_with_the_next_epoch(migrated, caplog):
    with live.training_run("scenes", "vlba", 0, SETTINGS) as run:
        opened, run._store = run._store, None
        run.log({"loss": 2.0}, step=0)
        run._store = opened
        run.log({"loss": 1.0}, step=1)
    with store.opened() as (client, _):
        assert [point.value for point in client.get_metric_history(run.run_id, "by_epoch/loss")] == [2.0, 1.0]
    assert [record.name for record in caplog.records].count("stages.tracking") == 1


@pytest.mark.programs
def test_the_key_of_a_running_stage_is_the_key_of_its_lock_entry(project, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    Path("dvc.yaml").write_text(PIPELINE)
    Path("train.py").write_text(TRAIN)
    with Repo.init(no_scm=True) as repo:
        repo.reproduce()

    stage = "train@scenes-vlba-0"
    key = keys.key(stage, keys.locked_inputs(stage))
    assert not key.endswith("undeclared")
    assert Path("key.txt").read_text() == key == keys.key(stage, keys.live_inputs(stage))

    content = Path("params.yaml").read_text()
    Path("params.yaml").write_text(re.sub(r"epochs: \d+", "epochs: 99", content))
    assert keys.key(stage, keys.live_inputs(stage)) != key


def test_every_parameter_is_named_by_its_path():
    flat = mlruns.flatten(recipe=RECIPE)
    assert flat["recipe.training.epochs"] == RECIPE.training.epochs
    assert flat["recipe.model.vision.depths"] == str(RECIPE.model.vision.depths)


def test_no_key_outside_dvc(project):
    assert keys.live_inputs("train@scenes-vlba-0") is None
    assert keys.locked_inputs("train@scenes-vlba-0") is None
    assert keys.key("train@scenes-vlba-0", None) == "train@scenes-vlba-0-undeclared"


@pytest.mark.programs
def test_nothing_heavy_is_imported_before_it_is_needed():
    script = "import sys, stages.tracking.live; print(sorted({'mlflow', 'dvc', 'torch', 'pandas'} & set(sys.modules)))"
    process = python("-c", script, stdout=subprocess.PIPE, cwd=ROOT)
    assert process.communicate()[0].strip() == "[]"
