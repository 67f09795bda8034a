"""MLflow is rebuilt and completed from what DVC keeps, whoever else is at work, and the champion is registered."""

import ast
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from benchmarks.clones import set_params
from pipelines.dvc import recorded
from pipelines.mlflow import views
from pipelines.mlflow.sync import SyncError, sync
from stages.runtime import keys, params
from stages.runtime.run import Run
from stages.serving import source
from stages.tracking import live, mlruns, owner, store
from tests import mlflow_state
from tests.project import forked

ROOT = Path(__file__).resolve().parents[2]
MODEL = "data/model"  # where the model folder lies in a logged model
VARIANTS = ("baseline", "vlba", "alignformer")

PIPELINE = """
stages:
  params:
    cmd: python -m stages.params --resolve
    always_changed: true
    outs:
      - results/params.json
  prepare:
    matrix:
      dataset: ${experiment.datasets}
    cmd: python work.py prepare --dataset ${item.dataset}
    deps:
      - work.py
      - fingerprint.txt
    outs:
      - data/${item.dataset}
      - results/prepared/${item.dataset}.json
  train:
    matrix:
      dataset: ${experiment.datasets}
      variant: ${experiment.variants}
      seed: ${experiment.seeds}
    cmd: python work.py train --dataset ${item.dataset} --variant ${item.variant} --seed ${item.seed}
    params:
      - results/params.json:
          - recipes.${experiment.recipe}
          - variants.${item.variant}
          - evaluation.protocol
    deps:
      - results/prepared/${item.dataset}.json
    outs:
      - results/models/${item.dataset}/${item.variant}/${item.seed}/config.json
      - results/models/${item.dataset}/${item.variant}/${item.seed}/model.safetensors
      - results/models/${item.dataset}/${item.variant}/${item.seed}/processor_config.json
      - results/models/${item.dataset}/${item.variant}/${item.seed}/tokenizer.json
      - results/models/${item.dataset}/${item.variant}/${item.seed}/tokenizer_config.json
      - results/history/${item.dataset}/${item.variant}/${item.seed}.csv
  evaluate:
    matrix:
      dataset: ${experiment.datasets}
      variant: ${experiment.variants}
      seed: ${experiment.seeds}
    cmd: python work.py evaluate --dataset ${item.dataset} --variant ${item.variant} --seed ${item.seed}
    params:
      - results/params.json:
          - evaluation
    deps:
      - results/models/${item.dataset}/${item.variant}/${item.seed}/config.json
      - results/models/${item.dataset}/${item.variant}/${item.seed}/model.safetensors
      - results/models/${item.dataset}/${item.variant}/${item.seed}/processor_config.json
      - results/models/${item.dataset}/${item.variant}/${item.seed}/tokenizer.json
      - results/models/${item.dataset}/${item.variant}/${item.seed}/tokenizer_config.json
    outs:
      - results/scores/${item.dataset}/${item.variant}/${item.seed}/${item.dataset}.parquet
      - results/metrics/${item.dataset}/${item.variant}/${item.seed}/${item.dataset}.json
      - results/protocols/${item.dataset}/${item.variant}/${item.seed}/${item.dataset}.csv
      - results/models/${item.dataset}/${item.variant}/${item.seed}/README.md
  ablate:
    matrix:
      dataset: ${experiment.datasets}
    cmd: python work.py ablate --dataset ${item.dataset}
    params:
      - results/params.json:
          - experiment.variants
          - experiment.seeds
          - experiment.reference
    deps:
      - results/scores/${item.dataset}
      - supported.txt
    outs:
      - results/comparison/${item.dataset}.csv
  report:
    cmd: python work.py report
    params:
      - results/params.json:
          - experiment
    deps:
      - results/comparison
    outs:
      - reports/index.html:
          cache: false
      - reports/tables:
          cache: false
      - reports/data:
          cache: false
      - reports/provenance.json:
          cache: false
"""

WORK = """
import argparse, csv, json, shutil, sys
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("stage")
for name in ("--dataset", "--variant", "--seed"):
    parser.add_argument(name)
asked = parser.parse_args()
name = f"{asked.dataset}/{asked.variant}/{asked.seed}"
better = {"baseline": 0.0, "vlba": 0.1, "alignformer": 0.2}.get(asked.variant, 0.0) + 0.01 * int(asked.seed or 0)

def write(path, text):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)

if asked.stage == "prepare":
    summary = {"fingerprint": Path("fingerprint.txt").read_text(), "warnings": ["few"], "partial": True}
    summary["counts"] = {"train": {"images": 2}, "val": {"images": 1}}
    write(f"data/{asked.dataset}/dataset.json", json.dumps(summary))
    write(f"results/prepared/{asked.dataset}.json", json.dumps(summary["fingerprint"]))
if asked.stage == "train":
    write(f"results/models/{name}/config.json", json.dumps(asked.variant))
    write(f"results/models/{name}/model.safetensors", f"weights of {name}")
    for file in ("processor_config.json", "tokenizer.json", "tokenizer_config.json"):
        write(f"results/models/{name}/{file}", json.dumps([file, name]))
    rows = [f"{epoch},{1 / epoch},,{better + 0.1 * epoch},original" for epoch in (1, 2, 3)]
    write(f"results/history/{name}.csv", "\\n".join(["epoch,loss,empty,val_Pr@0.5,protocol", *rows]) + "\\n")
if asked.stage == "evaluate":
    write(f"results/scores/{name}/{asked.dataset}.parquet", f"scores of {name}")
    splits = {split: {"expressions": 3, "mIoU": better + 0.3, "Pr@0.5": 1 / 3} for split in ("val", "testA")}
    write(f"results/metrics/{name}/{asked.dataset}.json", json.dumps({"protocol": "original", **splits}))
    rows = [f"{protocol},val,mIoU,{better + 0.3}" for protocol in ("original", "lavt")]
    write(f"results/protocols/{name}/{asked.dataset}.csv", "\\n".join(["protocol,split,metric,value", *rows]) + "\\n")
    write(f"results/models/{name}/README.md", f"card of {name}")
if asked.stage == "ablate":
    supported = dict(word.partition("=")[::2] for word in Path("supported.txt").read_text().split())
    lines = ["variant,split,metric,mean,difference,difference_low,difference_high,p_holm,supported"]
    for variant, difference in (("baseline", 0.0), ("vlba", 0.1), ("alignformer", 0.2)):
        difference = float(supported.get(variant) or difference)
        p = "" if variant == "baseline" else 0.01
        for split in ("val", "testA"):
            mean, low, high = 0.3 + difference, difference - 0.05, difference + 0.05
            lines.append(f"{variant},{split},mIoU,{mean},{difference},{low},{high},{p},{variant in supported}")
    write(f"results/comparison/{asked.dataset}.csv", "\\n".join(lines) + "\\n")
if asked.stage == "report":
    from stages.report import provenance
    from stages.runtime import params

    settings = params.read()
    for folder in ("tables", "data"):
        shutil.rmtree(f"reports/{folder}", ignore_errors=True)
    write("reports/index.html", f"page of {settings.experiment.datasets}, {settings.experiment.recipe}")
    write("reports/provenance.json", json.dumps(provenance.collect(settings, {})))
    for dataset in settings.experiment.datasets:
        write(f"reports/tables/{dataset}.csv", f"table of {dataset}")
        write(f"reports/data/{dataset}/comparison.csv", Path(f"results/comparison/{dataset}.csv").read_text())
"""


@pytest.fixture(scope="module")
def computed(programs, tmp_path_factory) -> Path:
    """A project whose stages ran under DVC and told MLflow nothing. Its database is empty: making one takes seconds."""
    folder = tmp_path_factory.mktemp("computed")
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / "work.py").write_text(WORK)
    (folder / "supported.txt").write_text("vlba alignformer")
    (folder / "fingerprint.txt").write_text("f00d")
    shutil.copy(ROOT / "tests" / "params.yaml", folder)
    set_params(folder, experiment__variants=list(VARIANTS), experiment__seeds=[1])
    with pytest.MonkeyPatch.context() as patch:
        enter(folder, patch)
        Repo.init(no_scm=True).close()
        repro()
        make_empty_database(patch)
    return folder


@pytest.fixture
def project(computed, tmp_path, monkeypatch) -> Path:
    """A copy of it, as the current folder."""
    return enter(shutil.copytree(computed, tmp_path / "project", symlinks=True), monkeypatch)


@pytest.fixture(scope="module")
def synced_once(computed, tmp_path_factory) -> Path:
    folder = shutil.copytree(computed, tmp_path_factory.mktemp("synced") / "project", symlinks=True)
    with pytest.MonkeyPatch.context() as patch:
        enter(folder, patch)
        assert said()[-1] == "MLflow: 4 runs made, 0 runs completed, 0 runs unchanged, 1 champion"
    return folder


@pytest.fixture
def synced(synced_once, tmp_path, monkeypatch) -> Path:
    """A copy of a project that was synced once, as the current folder."""
    from mlflow.tracking._tracking_service import utils

    utils._artifact_repos_cache.clear()  # by the ids of runs, which are those of other copies
    folder = shutil.copytree(synced_once, tmp_path / "project", symlinks=True)
    return enter(folder, monkeypatch)


def enter(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    patch.chdir(folder)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "DVC_ROOT", "DVC_STAGE"):
        patch.delenv(name, raising=False)
    patch.setenv("PYTHONPATH", str(ROOT))  # for the stages
    patch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    return folder


def make_empty_database(patch: pytest.MonkeyPatch) -> None:
    """To copy, as making one takes seconds."""
    patch.setenv("MLFLOW_EXPERIMENT_NAME", "unused")
    with store.opened():
        pass


def repro(target: str | None = None, **options) -> None:
    with Repo() as repo:
        repo.reproduce(target, **options)


def change_database(folder: Path, statement: str, *values: str) -> int:
    """How many rows that changed."""
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection, connection:
        return connection.execute(statement, values).rowcount


def said() -> list[str]:
    """The lines of a sync, the summary as the last."""
    lines: list[str] = []
    lines.append(sync(lines.append))
    return lines


def said_in(folder: Path) -> list[str]:
    os.chdir(folder)
    return said()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


UNCHANGED = ["MLflow: 0 runs made, 0 runs completed, 4 runs unchanged, 1 champion"]


def dead_process() -> dict[str, str]:
    """The tags of a process that has ended."""
    told = subprocess.check_output([sys.executable, "-c", "from stages.tracking import owner; print(owner.tags())"])
    return ast.literal_eval(told.decode())


def run_of(name: str):
    with store.opened() as opened:
        (run,) = [run for run in store.search(opened, "") if run.info.run_name == name]
        return run


def test_a_run_holds_what_the_stages_wrote(synced):
    held = mlflow_state.contents()
    assert set(held["runs"]) == {"scenes small", *(f"{variant}-1" for variant in VARIANTS)}
    run = held["runs"]["vlba-1"]
    assert run["status"] == "FINISHED"
    stage = "train@scenes-vlba-1"
    described = {
        "mlflow.parentRunId": "scenes small",
        "mlflow.source.name": "stages.train",
        "stage": stage,
        "key": keys.key(stage, keys.live_inputs(stage)),
        "key.evaluate": keys.key("evaluate@scenes-vlba-1", keys.live_inputs("evaluate@scenes-vlba-1")),
        "protocol": "original",
        "data.fingerprint": "f00d",
        "data.partial": "true",
        "data.warnings": "few",
    }
    assert described.items() <= run["tags"].items()
    settings = params.read(ROOT / "tests" / "params.yaml")
    knobs = mlruns.flatten(variant=settings.variants["vlba"])
    assert run["params"] == {name: str(value) for name, value in knobs.items()}
    assert run["metrics"]["by_epoch/loss"] == [(1, "1.0"), (2, "0.5"), (3, repr(1 / 3))]
    assert run["metrics"]["by_epoch/val_Pr_0.5"] == [(epoch, repr(0.11 + 0.1 * epoch)) for epoch in (1, 2, 3)]
    assert run["metrics"]["by_epoch/empty"] == [(1, "nan"), (2, "nan"), (3, "nan")]
    assert run["metrics"]["val/mIoU"] == [(0, repr(0.11 + 0.3))]
    assert sorted(run["files"]) == ["evaluation/scenes.csv", "evaluation/scenes.json"]
    made = keys.locked_entries()["prepare@scenes"]["outs"]
    (data,) = [out["md5"] for out in made if out["path"] == "data/scenes"]
    assert run["inputs"] == [("scenes train", data), ("scenes val", data)]
    assert run["tags"]["mlflow.note.content"] == "card of scenes/vlba/1"
    (model,) = run["models"]
    assert run["outputs"] == [model["name"]] == ["scenes-vlba-1-model"]
    folder = {path.name for path in Path("results/models/scenes/vlba/1").iterdir()}
    assert {name.removeprefix("data/model/") for name in model["files"] if name.startswith("data/")} == folder
    assert "README.md" in folder
    assert {"MLmodel", "code/served.py", "code/models/alignformer.py"} <= set(model["files"])
    weights = Path("results/models/scenes/vlba/1/model.safetensors").read_bytes()
    assert model["files"]["data/model/model.safetensors"] == sha256(weights)
    assert ("val/mIoU", 0.11 + 0.3) in model["metrics"]

    parent = held["runs"]["scenes small"]
    assert parent["status"] == "FINISHED"
    assert set(parent["files"]) == {"comparison/scenes.csv", "report/index.html", "report/tables/scenes.csv"}
    assert parent["metrics"] == {}
    assert parent["tags"]["difference.alignformer"] == (
        "val +20.0 [15.0, 25.0] supported; testA +20.0 [15.0, 25.0] supported"
    )
    assert {"dataset": "scenes", "protocol": "original", "recipe.training.epochs": "5"}.items() <= parent[
        "params"
    ].items()
    assert "| `alignformer` | 50.0 | +20.0 [15.0, 25.0] | supported |" in parent["tags"]["mlflow.note.content"]


def test_views_show_the_runs_of_the_comparison_sorted_and_grouped(synced):
    """The state of MLflow's page; `tests/pipelines/test_mlflow_pages.py` looks at the page itself."""
    with store.opened() as opened:
        tags = opened.client.get_experiment(opened.experiment_id).tags
        found = views.addresses(opened, "http://127.0.0.1:5000")
        assert views.addresses(opened, "http://127.0.0.1:5000/") == found
        table = json.loads(json.loads(tags["mlflow.sharedViewState.scenes-variants"])["state"])
        shown = store.search(opened, table["searchFilter"])
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    assert list(found) == [f"scenes: {kind}" for kind in views.KINDS]
    assert found["scenes: variants"] == (
        f"http://127.0.0.1:5000/#/experiments/{opened.experiment_id}/runs"
        "?workflowType=machine_learning&viewStateShareKey=scenes-variants"
    )
    assert table["selectedColumns"][:3] == ["metrics.`testA/mIoU`", "metrics.`val/mIoU`", "metrics.`testA/oIoU`"]
    by_place = sorted(shown, key=lambda run: run.data.tags["place"])
    assert [run.data.tags[mlruns.COMPARED_AS] for run in by_place] == [
        "alignformer: supported (testA +20.0)", "vlba: supported (testA +10.0)", "baseline: the reference"
    ]  # fmt: skip
    groups = [f"tag.{mlruns.COMPARED_AS}.{run.data.tags[mlruns.COMPARED_AS]}" for run in by_place]
    assert groups == list(table["groupsExpanded"])


def test_runs_of_an_earlier_comparison_leave_the_views(synced):
    rerun(fingerprint="beef")
    with store.opened() as opened:
        runs = [run for run in store.search(opened, "") if "variant" in run.data.tags]
    current = [run.data.tags["variant"] for run in runs if run.data.tags["current"] == "true"]
    assert len(runs) == 6 and sorted(current) == sorted(VARIANTS)


def test_a_run_as_an_earlier_version_wrote_it_is_made_again(synced):
    before, child, parent = mlflow_state.contents(), run_of("vlba-1"), run_of("scenes small")
    with store.opened() as opened:
        opened.client.log_metric(child.info.run_id, "val_mIoU", 0.5)
        opened.client.log_metric(parent.info.run_id, "difference/vlba/val/mIoU", 0.5)
    said()
    assert mlflow_state.contents() == before and said() == UNCHANGED


def test_a_second_sync_changes_nothing(synced):
    before, ids = mlflow_state.contents(), mlflow_state.ids()
    assert said() == UNCHANGED
    assert mlflow_state.ids() == ids
    assert mlflow_state.contents() == before


def test_a_database_that_was_damaged_or_deleted_comes_back_the_same_also_by_two_syncs_at_once(synced, monkeypatch):
    before = mlflow_state.contents()
    deleted = shutil.ignore_patterns("mlflow.db*", "mlartifacts")
    enter(shutil.copytree(synced, synced.with_name("again"), symlinks=True, ignore=deleted), monkeypatch)
    Path("mlflow.db").write_bytes(b"no database at all" * 1000)
    with pytest.raises(SyncError, match="A damaged mlflow"):
        sync(print)
    Path("mlflow.db").unlink()
    at_once = forked(said_in, Path.cwd(), Path.cwd())
    assert sum(line.endswith(": made") for lines in at_once for line in lines) == 4
    assert said() == UNCHANGED
    assert mlflow_state.contents() == before


def test_what_a_run_lost_is_completed(synced):
    before = mlflow_state.contents()
    run, other = run_of("vlba-1"), run_of("baseline-1")
    lost = {
        "DELETE FROM metrics WHERE run_uuid = ? AND key = 'by_epoch/loss' AND step > 1": run,
        "DELETE FROM latest_metrics WHERE run_uuid = ? AND key = 'by_epoch/loss'": run,
        "DELETE FROM params WHERE run_uuid = ? AND key LIKE 'variant.%'": run,
        "DELETE FROM logged_model_metrics WHERE run_id = ?": run,
        "UPDATE runs SET status = 'KILLED' WHERE run_uuid = ?": run,
        "DELETE FROM tags WHERE run_uuid = ? AND key IN ('key.evaluate', 'protocol')": other,
        "UPDATE logged_models SET status = 1 WHERE source_run_id = ?": other,
    }
    for statement, of in lost.items():
        assert change_database(synced, statement, of.info.run_id), statement
    (synced / "mlartifacts" / run.info.run_id / "artifacts/evaluation/scenes.json").unlink()
    weights = sorted(Path("mlartifacts/models").glob("*/artifacts/data/model/model.safetensors"))
    weights[0].unlink()
    weights[1].write_text("half")
    shutil.rmtree(Path("mlartifacts") / run_of("scenes small").info.run_id)
    lines = said()
    assert "train@scenes-vlba-1: completed: params, curves, evaluation, end" in [
        line.replace(" model,", "") for line in lines
    ]
    assert "ablate@scenes: completed: report" in lines
    assert mlflow_state.contents() == before
    assert run_of("vlba-1").info.run_id == run.info.run_id
    assert said() == UNCHANGED


def test_a_card_and_a_comparison_of_the_same_size_are_sent(synced):
    card, comparison = Path("results/models/scenes/vlba/1/README.md"), Path("results/comparison/scenes.csv")
    for path, old, new, stage in (
        (card, "card", "Card", "evaluate@scenes-vlba-1"),
        (comparison, "0.25", "0.26", "ablate@scenes"),
    ):
        path.write_text(path.read_text().replace(old, new))
        with Repo() as repo:
            repo.commit(stage, force=True)
    lines = said()
    assert {"train@scenes-vlba-1: completed: tags, card", "ablate@scenes: completed: report, differences"} <= set(lines)
    held = mlflow_state.contents()["runs"]
    assert held["vlba-1"]["models"][0]["files"]["data/model/README.md"] == sha256(card.read_bytes())
    assert held["scenes small"]["files"]["comparison/scenes.csv"] == sha256(comparison.read_bytes())


def test_runs_and_models_deleted_in_mlflow_come_back(synced, monkeypatch):
    """Whatever the user has set for other work: the registry, the active run and experiment, and what is sent later."""
    before = mlflow_state.contents()
    run, of_champion = run_of("baseline-1"), run_of("alignformer-1")
    with store.opened() as opened:
        opened.client.delete_run(run.info.run_id)
        store.delete(opened, of_champion)
    elsewhere = synced.parent / "elsewhere.db"
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", f"sqlite:///{elsewhere}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "7")
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_LOGGING", "true")
    assert said()[-1] == "MLflow: 2 runs made, 0 runs completed, 2 runs unchanged, 1 champion"
    assert said() == UNCHANGED
    assert mlflow_state.contents()["runs"] == before["runs"] and not elsewhere.exists()
    assert registered()["aliases"] == {"champion": 2}
    assert source.folder(f"{CHAMPIONS}@champion").is_dir()


def test_a_run_with_other_numbers_is_replaced(synced):
    before, run = mlflow_state.contents(), run_of("vlba-1")
    with store.opened() as opened:
        opened.client.log_metric(run.info.run_id, "by_epoch/loss", 7.0, step=4)
    assert "train@scenes-vlba-1: made" in said()
    assert mlflow_state.contents() == before
    assert run_of("vlba-1").info.run_id != run.info.run_id


def test_two_runs_of_one_training_become_one(synced):
    """Two machines that synced to one server at once."""
    before, parent = mlflow_state.contents(), run_of("scenes small")
    run, other = run_of("vlba-1"), run_of("baseline-1")
    with store.opened() as opened:
        twin = opened.client.create_run(opened.experiment_id, tags=parent.data.tags)
        again = opened.client.create_run(opened.experiment_id, tags={**run.data.tags, mlruns.PARENT: twin.info.run_id})
        opened.client.set_terminated(again.info.run_id, "FINISHED")
        opened.client.set_tag(other.info.run_id, mlruns.PARENT, twin.info.run_id)
    said()
    assert mlflow_state.contents() == before
    assert said() == UNCHANGED


def test_runs_that_never_ended(synced):
    """A dead process: KILLED. One that lives, or on another host: left alone, and named."""
    elsewhere = {**owner.tags(), owner.HOST: "another-host"}
    given = {"killed": dead_process(), "alive": owner.tags(), "far": elsewhere}
    parent = run_of("scenes small").info.run_id
    with store.opened() as opened:
        ids = {
            name: opened.client.create_run(
                opened.experiment_id,
                tags={**tags, "stage": f"train@{name}", "key": name, mlruns.PARENT: parent},
                run_name=name,
            ).info.run_id
            for name, tags in given.items()
        }
        opened.client.update_run(parent, status="RUNNING")
    lines = said()
    assert "train@killed: its process is gone without a word: KILLED" in lines
    assert f"train@alive: process {os.getpid()} is at it: left alone" in lines
    assert any(line.startswith("train@far: still RUNNING on another-host: left alone") for line in lines)
    states = {name: run["status"] for name, run in mlflow_state.contents()["runs"].items()}
    assert [states[name] for name in (*given, "scenes small")] == ["KILLED", "RUNNING", "RUNNING", "RUNNING"]
    with store.opened() as opened:
        for name in ("alive", "far"):
            opened.client.set_terminated(ids[name], "FINISHED")
    said()
    assert run_of("scenes small").info.status == "FINISHED"


def test_a_training_that_runs_is_left_alone(synced):
    """The same inputs again, forced: its run is the trainer's business, and so is the parent's state."""
    with live.training_run("scenes", "vlba", 1, {}) as run:
        run.log({"loss": 9.0}, step=1)
        lines = said()
        assert f"train@scenes-vlba-1: process {os.getpid()} is at it: left alone" in lines
        held = mlflow_state.contents()["runs"]
        assert held["vlba-1"]["metrics"] == {"by_epoch/loss": [(1, "9.0")]} and held["vlba-1"]["status"] == "RUNNING"
        assert held["scenes small"]["status"] == "RUNNING"


def test_a_killed_training_whose_outputs_came_from_elsewhere_is_completed(synced):
    """The server was away when it ended, or another machine finished the stage."""
    before, run = mlflow_state.contents(), run_of("vlba-1")
    with store.opened() as opened:
        store.send_tags(opened, run.info.run_id, dead_process())
        opened.client.update_run(run.info.run_id, status="RUNNING")
    assert "train@scenes-vlba-1: completed: end" in said()
    assert mlflow_state.contents() == before


def test_outputs_that_are_not_here_are_named_with_the_way_back(project, monkeypatch):
    shutil.rmtree("results/models/scenes/vlba/1")
    Path("results/metrics/scenes/baseline/1/scenes.json").write_text("other")
    shutil.rmtree("results/models/scenes/alignformer/1")
    for out in keys.locked_entries()["train@scenes-alignformer-1"]["outs"]:
        (Path(".dvc/cache/files/md5") / out["md5"][:2] / out["md5"][2:]).unlink()
    asked = "not in the working tree as dvc.lock has them; dvc"
    assert not [line for line in said() if line.startswith(f"{asked} pull")], "there is no remote to pull from"
    Path(".dvc/config.local").write_text("[core]\n    remote = shared\n['remote \"shared\"']\n    url = /shared\n")
    lines = said()
    assert f"{asked} checkout STAGE brings: train@scenes-vlba-1" in lines
    assert f"{asked} repro STAGE brings: evaluate@scenes-baseline-1" in lines
    assert f"{asked} pull STAGE brings: train@scenes-alignformer-1" in lines
    assert lines[-1] == "MLflow: 0 runs made, 0 runs completed, 2 runs unchanged, 3 stages absent"
    monkeypatch.setattr("pipelines.mlflow.sync.NAMED", 1)
    shutil.rmtree("results/models/scenes/baseline/1")
    assert f"{asked} checkout STAGE brings: train@scenes-baseline-1, 1 more" in said()
    with Repo() as repo:
        repo.checkout([f"train@scenes-{name}-1" for name in ("baseline", "vlba")], force=True)
        repo.checkout(["evaluate@scenes-baseline-1"], force=True)
    lines = said()
    assert {"train@scenes-vlba-1: made", "train@scenes-baseline-1: completed: evaluation"} <= set(lines)


def test_a_comparison_is_of_each_variant_with_each_seed(project):
    entry = keys.locked_entries()["ablate@scenes"]
    entry["params"]["results/params.json"]["experiment.seeds"] = [0, 1]
    (comparison,) = recorded.comparisons({"ablate@scenes": entry})
    assert comparison.runs == [Run("scenes", variant, seed) for variant in VARIANTS for seed in (0, 1)]


def test_a_comparison_of_other_scores_is_left_out(synced):
    before = mlflow_state.registered()
    with Path("work.py").open("a") as script:
        script.write("\n# another\n")
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("epochs: 5", "epochs: 6", 1))
    repro("params", single_item=True)
    repro("train@scenes-vlba-1", single_item=True)
    lines = said()
    assert any(line.startswith("ablate@scenes: its comparison is not of the trainings") for line in lines)
    assert mlflow_state.registered() == before


CHAMPIONS = "alignformer-scenes-small-original"


def registered() -> dict:
    return mlflow_state.registered()[CHAMPIONS]


def rerun(target: str | None = None, **files: str) -> list[str]:
    """What a sync says after `dvc repro`, with other content of the files that the stages read."""
    for name, content in files.items():
        Path(f"{name}.txt").write_text(content)
    repro(target)
    return said()


def test_the_champion_follows_the_comparison(synced):
    def decide(supported: str) -> list[str]:
        return rerun("ablate@scenes", supported=supported)

    model, description, tags = registered()["versions"][1]
    assert registered()["aliases"] == {"champion": 1} and model == "scenes-alignformer-1-model"
    assert "`alignformer`, seed 1, the best of 1 seeds on val." in description
    assert "testA 0.5000, +0.2000 [+0.1500, +0.2500], p = 0.01; this seed 0.5100." in description
    assert tags["testA.difference"] == "0.2" and tags["key"] == run_of("alignformer-1").data.tags["key"]
    assert {"dataset": "scenes", "recipe": "small", "protocol": "original"}.items() <= tags.items()
    weights = store.downloaded(f"models:/{CHAMPIONS}@champion") / MODEL / "model.safetensors"
    assert weights.read_bytes() == Path("results/models/scenes/alignformer/1/model.safetensors").read_bytes()

    assert any("Before: version 1, alignformer, seed 1: mIoU 0.5000. Now: 0.4000" in line for line in decide("vlba"))
    assert registered()["aliases"] == {"champion": 2} and registered()["versions"][2][0] == "scenes-vlba-1-model"
    assert any("the alias is taken away" in line and "alignformer: testA +0.2000" in line for line in decide("none"))
    assert registered()["aliases"] == {} and set(registered()["versions"]) == {1, 2}
    assert not any("taken away" in line for line in said())
    with pytest.raises(source.NoModelError, match="supported on testA; the largest is that of alignformer"):
        source.folder(f"models:/{CHAMPIONS}@champion")
    with pytest.raises(source.NoModelError, match=f"Registered are: {CHAMPIONS}"):
        source.folder("alignformer-street@champion")
    decide("vlba alignformer")
    assert registered()["aliases"] == {"champion": 1} and set(registered()["versions"]) == {1, 2}
    assert source.folder(f"{CHAMPIONS}@champion").is_dir()


def test_the_champion_is_not_replaced_by_worse_on_the_same_data(synced):
    content = Path("params.yaml").read_text()
    Path("params.yaml").write_text(content.replace("epochs: 5", "epochs: 6", 1))
    before = "version 1, alignformer, seed 1: mIoU 0.5000"
    (kept,) = [line for line in rerun("ablate@scenes", supported="vlba=0.15 alignformer=0.1") if "champion" in line][:1]
    assert kept == (
        f"{CHAMPIONS}: {before} stays champion, on the same data. The new best is vlba, seed 1: mIoU 0.4500"
    )
    assert registered()["aliases"] == {"champion": 1}
    assert any(
        f"{before} stays champion: this comparison has none" in line
        for line in rerun("ablate@scenes", supported="none")
    )
    assert registered()["aliases"] == {"champion": 1}
    (moved,) = [line for line in rerun("ablate@scenes", supported="alignformer=0.3") if CHAMPIONS in line]
    assert f"Before: {before}. Now: 0.6000" in moved and registered()["aliases"] == {"champion": 2}
    lines = rerun("ablate@scenes", fingerprint="beef", supported="alignformer=0.1")
    (moved,) = [line for line in lines if CHAMPIONS in line]
    assert moved.endswith("Before: version 2, alignformer, seed 1: mIoU 0.6000, on other data. Now: 0.4000")
    assert registered()["aliases"] == {"champion": 3}


def test_a_report_stays_with_the_run_that_it_was_made_from(synced):
    """First `scenes`, then own data, and back."""
    yaml, texts = YAML(), {}
    content = yaml.load(Path("params.yaml"))
    content["datasets"]["street"] = content["datasets"]["scenes"]
    content["experiment"].update(variants=["baseline"], highlight="baseline")
    for dataset in ("street", "scenes", "street"):
        content["experiment"]["datasets"] = [dataset]
        yaml.dump(content, Path("params.yaml"))
        rerun()
        texts[dataset] = Path("reports/index.html").read_text()
        pages = {
            name: (run["files"]["report/index.html"], set(run["files"]))
            for name, run in mlflow_state.contents()["runs"].items()
            if name.endswith(" small")
        }
        assert set(pages) == {"scenes small", "street small"}
        for name, (page, files) in pages.items():
            of = name.removesuffix(" small")
            text = texts.get(of, "page of ['scenes'], small")
            assert page == sha256(text.encode()), (dataset, name)
            assert files == {f"comparison/{of}.csv", "report/index.html", f"report/tables/{of}.csv"}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, True),
        ({"dataset": "other"}, False),
        ({"key": "another recipe, or other data"}, False),
        ({"compared": "numbers that are not in the report"}, False),
    ],
)
def test_what_a_report_was_made_from(tmp_path, monkeypatch, change, found):
    monkeypatch.chdir(tmp_path)
    given = {"dataset": "ten", "key": "key", "compared": "numbers"} | change
    for path, content in {
        "reports/provenance.json": json.dumps({"mlflow": {"ten": {"ablation": "key"}}}),
        "reports/data/ten/comparison.csv": "numbers",
        f"results/comparison/{given['dataset']}.csv": given["compared"],
    }.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(content)
    assert mlruns.is_reported(given["dataset"], given["key"]) is found


def test_the_files_of_a_dataset_are_not_those_of_one_whose_name_begins_alike():
    own = {
        "ten": ["tables/ten.csv", "tables/ten/main.tex", "figures/ten-curves.svg"],
        "tent": ["tables/tent/main.tex", "figures/tent-curves.svg"],
    }
    common = ["index.html", "tables/wide-mIoU.tex"]
    files = [Path("reports", name) for name in [*common, *own["ten"], *own["tent"]]]
    for dataset, names in own.items():
        found = [path for path, _ in mlruns.report_files(dataset, files)]
        assert found == [Path("reports", name) for name in [*common, *names]]


def test_a_copied_project_keeps_to_its_own_folder(synced, monkeypatch, caplog):
    before = mlflow_state.contents()
    there = times(synced.parent.rglob("*"))
    other = synced.parent / "why? a#b 100%41 é日"
    shutil.copytree(synced, other, symlinks=True, ignore=shutil.ignore_patterns("mlartifacts"))
    enter(other, monkeypatch)
    assert said()[-1].startswith("MLflow: 0 runs made, 4 runs completed")
    assert "the project was copied or moved" in caplog.text
    assert said() == UNCHANGED
    assert mlflow_state.contents() == before
    assert source.folder(f"{CHAMPIONS}@champion").is_relative_to(other / "mlartifacts")
    assert there == times(path for path in synced.parent.rglob("*") if not path.is_relative_to(other))


def times(paths: Iterable[Path]) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in paths}


def test_not_a_dvc_project(tmp_path, monkeypatch):
    enter(tmp_path, monkeypatch)
    with pytest.raises(SyncError, match="DVC cannot read this project"):
        sync(print)


def test_a_server_that_is_gone(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://somebody:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(SyncError, match="MLFLOW_TRACKING_URI") as caught:
        sync(print)
    assert "secret" not in str(caught.value)
