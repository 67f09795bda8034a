"""The real commands, in a clone, on a tiny setting: the whole DAG, what reruns, and what comes out."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from benchmarks import clones
from benchmarks.clones import ENVIRONMENT, VARIANTS, ran, run, set_params, tiny
from tests.project import clone

pytestmark = pytest.mark.programs

SYNC = ("-m", "pipelines.sync")
OTHER_VALUES = {
    "experiment.highlight": "baseline",
    "experiment.reference": "alignformer",
    "experiment.seeds": [0, 1],
    "datasets.scenes.seed": 1,
    "recipes.small.training.epochs": 2,
    "variants.alignformer.temperature": 0.06,
    "evaluation.protocol": "lavt",
    "evaluation.batch_size": 64,
    "machine.workers": 1,
}
PER_RUN = ("train", "evaluate", "diagnose", "card")


@pytest.fixture(scope="module")
def project(root, tmp_path_factory):
    folder = tiny(clone(root, tmp_path_factory.mktemp("project")))
    return folder, run(folder, "dvc", "repro")


def test_every_stage_runs_and_leaves_its_outputs(project):
    folder, output = project
    each = {f"{stage}@scenes-{variant}-0" for stage in PER_RUN for variant in VARIANTS}
    assert ran(output) == {"fingerprint@scenes", "prepare@scenes", "ablate@scenes", "report", *each}
    for name in ("index.html", "tables/scenes.md", "tables/scenes.csv", "tables/scenes.tex"):
        assert (folder / "reports" / name).stat().st_size > 0
    assert not list((folder / "checkpoints").glob("*/*"))
    page = (folder / "reports" / "index.html").read_text()
    assert all(variant in page for variant in VARIANTS)


def test_plain_dvc_commands_say_something(project):
    folder, _ = project
    shown = run(folder, "dvc", "metrics", "show")
    assert "alignformer" in shown and "mIoU" in shown
    assert "val_mIoU" in (folder / "results/history/scenes/alignformer/0.csv").read_text()
    run(folder, "dvc", "plots", "show", "--out", "plots")
    plots = (folder / "plots" / "index.html").read_text()
    assert all(text in plots for text in ("val_mIoU", "Differences to the reference", "by slice of the expressions"))


def test_a_second_repro_does_nothing(project):
    folder, _ = project
    lock = (folder / "dvc.lock").read_bytes()
    assert ran(run(folder, "dvc", "repro")) == {"fingerprint@scenes"}  # which looks, and finds nothing new
    assert (folder / "dvc.lock").read_bytes() == lock


def test_a_change_reruns_what_the_docs_say(project, root, monkeypatch):
    """Every edit in the table of docs/architecture.md is made, DVC says what is stale, and the edit is taken back."""
    folder, _ = project
    monkeypatch.chdir(folder)  # elsewhere DVC names stages by the path of dvc.yaml too
    page = (root / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page.partition("## What a change reruns\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]+) \|[^|]*\|$", table, re.MULTILINE)
    assert len(rows) > 20 and {key for key, _ in rows if not Path(root, key).exists()} <= set(OTHER_VALUES)
    for edited, reruns in rows:
        path = folder / ("params.yaml" if edited in OTHER_VALUES else edited)
        before = path.read_bytes()
        if edited in OTHER_VALUES:
            set_params(folder, **{edited.replace(".", "__"): OTHER_VALUES[edited]})
        else:
            path.write_bytes(before + b"\n\n")
        assert stale_kinds(folder) == set(re.findall("`([^`]+)`", reruns)), edited
        path.write_bytes(before)
    assert stale_kinds(folder) == set()


def test_what_is_no_part_of_the_experiment_makes_nothing_stale(project, monkeypatch):
    folder, _ = project
    monkeypatch.chdir(folder)
    strangers = ["data/raw/photos.zip", "data/notes.txt", "results/notes.txt", "reports/notes.txt", "sources/mine.json"]
    strangers += ["checkpoints/notes.txt", "stages/train/.DS_Store", "stages/report/.ipynb_checkpoints/page.py"]
    for stranger in map(Path, strangers):
        stranger.parent.mkdir(parents=True, exist_ok=True)
        stranger.write_text("of somebody")
    assert stale_kinds(folder) == set()
    for stranger in map(Path, strangers):
        stranger.unlink()


def stale_kinds(folder: Path) -> set[str]:
    """Kinds of the stages that ran before, and that DVC would run again because their inputs changed."""
    known = YAML(typ="safe").load(folder / "dvc.lock")["stages"]
    with Repo(folder) as repo:
        status = repo.status()
    inputs = {name: [change for change in changes if isinstance(change, dict)] for name, changes in status.items()}
    return {name.split("@")[0] for name, changed in inputs.items() if name in known and any(changed)}


def test_the_report_is_not_stale_here_nor_in_a_clone_without_outputs(project, tmp_path):
    folder, _ = project
    check = [sys.executable, "-m", "stages.report", "--check"]
    assert "every file made again" in run(folder, *check)
    fresh = clones.clone(folder, tmp_path)
    shutil.copy(folder / "dvc.lock", fresh)
    shutil.copytree(folder / "reports", fresh / "reports")
    assert "tables made again from reports/data" in run(fresh, *check)
    lock = fresh / "dvc.lock"
    lock.write_text(
        lock.read_text().replace("evaluate --dataset scenes --variant baseline", "evaluate  --variant other")
    )
    done = subprocess.run(check, cwd=fresh, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "evaluate@scenes-baseline-0: its entry in dvc.lock is" in done.stderr


def test_mlflow_holds_a_parent_and_a_child_for_each_variant(project):
    folder, _ = project
    listed = """
import mlflow
mlflow.set_tracking_uri("sqlite:///mlflow.db")
for run in mlflow.search_runs(search_all_experiments=True, output_format="list"):
    kind = "child" if "mlflow.parentRunId" in run.data.tags else "parent"
    print(run.info.status, kind, run.data.metrics.get("val/mIoU"))
"""
    lines = run(folder, sys.executable, "-c", listed).splitlines()
    runs = sorted(line.split()[:2] for line in lines if line.startswith("FINISHED"))
    assert runs == [["FINISHED", "child"], ["FINISHED", "child"], ["FINISHED", "parent"]]
    assert sum("child" in line and "None" not in line for line in lines) == 2


def test_mlflow_deleted_comes_back_from_what_dvc_keeps(project):
    folder, _ = project
    held = "import json; from tests import mlflow_state; print(json.dumps(mlflow_state.contents()))"
    before = json.loads(run(folder, sys.executable, "-c", held).splitlines()[-1])
    shutil.rmtree(folder / "mlartifacts")
    (folder / "mlflow.db").unlink()
    assert "MLflow: 3 runs made, 0 runs completed, 0 runs unchanged" in run(folder, sys.executable, *SYNC)
    after = json.loads(run(folder, sys.executable, "-c", held).splitlines()[-1])
    assert after["runs"] == before["runs"]
    assert list(after["registered"].values()) == [
        {"aliases": {}, "versions": {}}
    ]  # which says why there is no champion
    assert "MLflow: 0 runs made, 0 runs completed, 3 runs unchanged" in run(folder, sys.executable, *SYNC)


def test_running_from_nothing_gives_the_same_lock(project, root, tmp_path):
    folder, _ = project
    again = tiny(clone(root, tmp_path))
    run(again, sys.executable, "-m", "pipelines.experiment", "--jobs", "2")
    assert (again / "dvc.lock").read_text() == (folder / "dvc.lock").read_text()
    assert (again / "reports/index.html").read_bytes() == (folder / "reports/index.html").read_bytes()


def test_a_changed_variant_and_a_sweep_over_it_run_and_nothing_else(project):
    """The example of docs/comparing.md, on the tiny setting, around another temperature."""
    folder, _ = project
    set_params(folder, variants__alignformer__temperature=0.07)
    swept = {"alignformer_t02": 0.02, "alignformer_t20": 0.2}
    for name, temperature in swept.items():
        parts = {"vlba": "bidirectional", "contrastive": "instance", "contrastive_weight": 0.01}
        set_params(folder, **{f"variants__{name}": {**parts, "temperature": temperature}})
    set_params(folder, experiment__variants=[*VARIANTS, *swept])
    output = ran(run(folder, "dvc", "repro"))
    changed = ("alignformer", *swept)
    stale = {f"{stage}@scenes-{name}-0" for stage in PER_RUN for name in changed}
    assert output == {"fingerprint@scenes", *stale, "ablate@scenes", "report"}
    figure = (folder / "reports" / "figures" / "scenes-sweep-1.svg").read_text()
    assert all(text in figure for text in ("temperature of the contrast", ">0.02<", ">0.07<", ">0.2<"))
    table = (folder / "reports" / "tables" / "scenes.md").read_text()
    assert all(f"| {name} |" in table for name in swept)


def test_a_wrong_key_stops_before_any_work(project):
    folder, _ = project
    set_params(folder, recipes__small__training__epoch=3)
    done = subprocess.run(
        [sys.executable, "-m", "stages.train", "--dataset", "scenes", "--variant", "baseline", "--seed", "0"],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "recipes.small.training.epoch" in done.stderr and "epochs" in done.stderr
