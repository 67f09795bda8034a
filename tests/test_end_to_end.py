"""The real commands, in a clone, on a tiny setting: the whole DAG, what reruns, and what comes out."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import clones
from benchmarks.clones import ENVIRONMENT, VARIANTS, ran, run, set_params
from pipelines.mlflow.sync import sync
from stages.params.__main__ import main as write_params
from stages.report.check import check
from stages.runtime import dvc_internals, keys, params
from tests import mlflow_state

pytestmark = pytest.mark.programs

OTHER_VALUES = {
    "experiment.highlight": "baseline",
    "report.tables.marks": "best",
    "experiment.reference": "alignformer",
    "experiment.evaluate_on": ["refcoco"],
    "experiment.others": {"theirs": {"predictions": "README.md"}},  # its hash counts before it is read
    "experiment.seeds": [0, 1],
    "datasets.scenes.seed": 1,
    "recipes.small.training.epochs": 2,
    "variants.alignformer.temperature": 0.06,
    "evaluation.protocol": "lavt",
    "evaluation.batch_size": 64,
    "evaluation.also": ["lavt"],
    "machine.workers": 1,
}
PER_RUN = ("train", "evaluate", "diagnose", "card")


@pytest.fixture(scope="module")
def project(reproduced, tmp_path_factory) -> Path:
    return reproduced.copied_to(tmp_path_factory.mktemp("end_to_end") / "project")


def test_every_stage_runs_and_leaves_its_outputs(reproduced):
    folder, output = reproduced.folder, reproduced.folder.with_name("repro.log").read_text()
    each = {f"{stage}@scenes-{variant}-0" for stage in PER_RUN for variant in VARIANTS}
    each |= {f"{stage}@scenes" for stage in ("fingerprint", "prepare", "score", "ablate")}
    assert ran(output) == {"params", "report", *each}
    for name in (
        "index.html",
        "tables/scenes.md",
        "tables/scenes.csv",
        "tables/scenes/main.tex",
        "tables/wide-mIoU.tex",
    ):
        assert (folder / "reports" / name).stat().st_size > 0
    assert not list((folder / "checkpoints").glob("*/*"))
    page = (folder / "reports" / "index.html").read_text()
    assert all(variant in page for variant in VARIANTS)


def test_a_second_repro_does_nothing(project):
    lock = (project / "dvc.lock").read_bytes()
    assert ran(run(project, "dvc", "repro")) == {"params", "fingerprint@scenes"}  # which find nothing new
    assert (project / "dvc.lock").read_bytes() == lock


def test_a_change_reruns_what_the_docs_say(project, root, monkeypatch):
    """Every edit in the table of docs/architecture.md is made, DVC says what is stale, and the edit is taken back."""
    monkeypatch.chdir(project)  # elsewhere DVC names stages by the path of dvc.yaml too
    page = (root / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page.partition("## What a change reruns\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]+) \|[^|]*\|$", table, re.MULTILINE)
    assert len(rows) > 20 and {key for key, _ in rows if not Path(root, key).exists()} <= set(OTHER_VALUES)
    for edited, reruns in rows:
        path = project / ("params.yaml" if edited in OTHER_VALUES else edited)
        before = path.read_bytes()
        if edited in OTHER_VALUES:
            set_params(project, **{edited.replace(".", "__"): OTHER_VALUES[edited]})
        else:
            path.write_bytes(before + b"\n\n")
        write_params(["--resolve"])  # as the stage `params` does
        stale = stale_stages()
        assert {name.split("@")[0] for name in stale} == set(re.findall("`([^`]+)`", reruns)), edited
        if edited.startswith("variants.alignformer."):
            assert not any("baseline" in name for name in stale)
        path.write_bytes(before)
    write_params(["--resolve"])
    assert stale_stages() == set()


def test_what_is_no_part_of_the_experiment_makes_nothing_stale(project, monkeypatch):
    monkeypatch.chdir(project)
    strangers = ["data/raw/photos.zip", "data/notes.txt", "results/notes.txt", "reports/notes.txt", "sources/mine.json"]
    strangers += ["checkpoints/notes.txt", "stages/train/.DS_Store", "stages/report/.ipynb_checkpoints/page.py"]
    for stranger in map(Path, strangers):
        stranger.parent.mkdir(parents=True, exist_ok=True)
        stranger.write_text("of somebody")
    assert stale_stages() == set()
    for stranger in map(Path, strangers):
        stranger.unlink()


def stale_stages() -> set[str]:
    """The stages that ran before, and that would run again because their inputs changed."""
    stages, each_time = dvc_internals.stages(look=True), {"params", "fingerprint@scenes"}
    return {stage.name for stage in stages if not stage.unchanged} & set(keys.locked_entries()) - each_time


def test_the_report_is_not_stale_here_nor_in_a_clone_without_outputs(project, tmp_path, monkeypatch):
    fresh = clones.clone(project, tmp_path)
    shutil.copy(project / "dvc.lock", fresh)
    shutil.copytree(project / "reports", fresh / "reports")
    for folder, means in (project, "every file made again"), (fresh, "tables made again from reports/data"):
        monkeypatch.chdir(folder)
        stale, looked = check(params.read())
        assert stale == [] and looked.startswith(means)


@pytest.fixture
def mlflow_of(project, monkeypatch) -> Path:
    """The project as the current folder, whose MLflow this process reads."""
    monkeypatch.chdir(project)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "DVC_ROOT", "DVC_STAGE"):
        monkeypatch.delenv(name, raising=False)
    return project


def test_mlflow_holds_a_parent_and_a_child_for_each_variant(mlflow_of):
    runs = mlflow_state.contents()["runs"]
    assert {name: (run["status"], run["tags"].get("mlflow.parentRunId")) for name, run in runs.items()} == {
        "scenes small": ("FINISHED", None),
        **{f"{variant}-0": ("FINISHED", "scenes small") for variant in VARIANTS},
    }
    assert all(runs[f"{variant}-0"]["metrics"]["val/mIoU"] for variant in VARIANTS)


def test_mlflow_deleted_comes_back_from_what_dvc_keeps(mlflow_of, tmp_path, monkeypatch):
    sync(print)  # descriptions, inputs, pictures and views, which stages alone do not send
    before = mlflow_state.contents()
    deleted = shutil.ignore_patterns("mlflow.db*", "mlartifacts")
    monkeypatch.chdir(shutil.copytree(mlflow_of, tmp_path / "project", symlinks=True, ignore=deleted))
    assert sync(print).startswith("MLflow: 3 runs made, 0 runs completed, 0 runs unchanged")
    after = mlflow_state.contents()
    assert after["runs"] == before["runs"]
    assert list(after["registered"].values()) == [
        {"aliases": {}, "versions": {}}
    ]  # which says why there is no champion
    assert sync(print).startswith("MLflow: 0 runs made, 0 runs completed, 3 runs unchanged")


def test_an_added_variant_runs_and_nothing_else(project, monkeypatch):
    """The example of docs/comparing.md, with one other temperature: what a run would do."""
    parts = {"vlba": "bidirectional", "contrastive": "instance", "contrastive_weight": 0.01, "temperature": 0.2}
    set_params(project, variants__alignformer_t20=parts, experiment__variants=[*VARIANTS, "alignformer_t20"])
    monkeypatch.chdir(project)
    assert "alignformer_t20" in params.read().experiment.variants
    added = {f"{stage}@scenes-alignformer_t20-0" for stage in PER_RUN}
    write_params(["--resolve"])
    stale = {stage.name for stage in dvc_internals.stages(look=True) if not stage.unchanged}
    assert stale == {"params", "fingerprint@scenes", *added, "ablate@scenes", "report"}


def test_a_wrong_key_stops_before_any_work(project):
    set_params(project, recipes__small__training__epoch=3)
    done = subprocess.run(
        [sys.executable, "-m", "stages.train", "--dataset", "scenes", "--variant", "baseline", "--seed", "0"],
        cwd=project,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "recipes.small.training.epoch" in done.stderr and "epochs" in done.stderr
