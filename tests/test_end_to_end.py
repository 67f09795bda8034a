"""The real commands, in a clone, on a tiny setting: the whole DAG, what reruns, and what comes out."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "MLFLOW_TRACKING"))},
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
}
VARIANTS = ["baseline", "alignformer"]


def run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, f"{command} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout + done.stderr


def clone(root: Path, folder: Path) -> Path:
    """The checkout as it stands, uncommitted changes included, as a repository of its own."""
    files = run(root, "git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    for name in files:
        if (root / name).is_file() and not name.startswith("reports/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, folder / name)
    (folder / "dvc.lock").unlink(missing_ok=True)
    run(folder, "git", "init", "--quiet")
    return folder


def set_params(folder: Path, **changes) -> None:
    yaml = YAML()
    content = yaml.load(folder / "params.yaml")
    for dotted, value in changes.items():
        *parents, last = dotted.split("__")
        part = content
        for parent in parents:
            part = part[parent]
        part[last] = value
    yaml.dump(content, folder / "params.yaml")


def tiny(folder: Path) -> Path:
    set_params(
        folder,
        experiment__variants=VARIANTS,
        experiment__seeds=[0],
        datasets__scenes__pictures={"train": 12, "val": 4, "testA": 4, "testB": 4},
        recipes__small__training__epochs=1,
    )
    return folder


def ran(output: str) -> set[str]:
    return {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage '")}


@pytest.fixture(scope="module")
def project(root, tmp_path_factory):
    folder = tiny(clone(root, tmp_path_factory.mktemp("project")))
    return folder, run(folder, "dvc", "repro")


def test_every_stage_runs_and_leaves_its_outputs(project):
    folder, output = project
    each = {f"{stage}@scenes-{variant}-0" for stage in ("train", "evaluate") for variant in VARIANTS}
    assert ran(output) == {"prepare@scenes", "ablate@scenes", "report", *each}
    for name in ("index.html", "tables/scenes.md", "tables/scenes.csv", "tables/scenes.tex"):
        assert (folder / "reports" / name).stat().st_size > 0
    page = (folder / "reports" / "index.html").read_text()
    assert all(variant in page for variant in VARIANTS)


def test_plain_dvc_commands_say_something(project):
    folder, _ = project
    shown = run(folder, "dvc", "metrics", "show")
    assert "alignformer" in shown and "mIoU" in shown
    assert "val_mIoU" in (folder / "results/history/scenes/alignformer/0.csv").read_text()
    run(folder, "dvc", "plots", "show", "--out", "plots")
    assert "val_mIoU" in (folder / "plots" / "index.html").read_text()


def test_a_second_repro_does_nothing(project):
    folder, _ = project
    lock = (folder / "dvc.lock").read_bytes()
    assert ran(run(folder, "dvc", "repro")) == set()
    assert (folder / "dvc.lock").read_bytes() == lock


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


def test_running_from_nothing_gives_the_same_lock(project, root, tmp_path):
    folder, _ = project
    again = tiny(clone(root, tmp_path))
    run(again, sys.executable, "-m", "pipelines.experiment", "--jobs", "2")
    assert (again / "dvc.lock").read_text() == (folder / "dvc.lock").read_text()
    assert (again / "reports/index.html").read_bytes() == (folder / "reports/index.html").read_bytes()


def test_changing_one_variant_reruns_that_variant_only(project):
    folder, _ = project
    set_params(folder, variants__alignformer__temperature=0.07)
    output = run(folder, "dvc", "repro")
    assert ran(output) - {"ablate@scenes"} == {  # which has nothing to do where so small a model scores the same
        "train@scenes-alignformer-0",
        "evaluate@scenes-alignformer-0",
        "report",
    }


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


@pytest.mark.parametrize("name", ["refer_true", "refer_mini"])
def test_photographs_go_from_prepare_to_a_report_page(name, root, shared_data, tmp_path):
    folder = tiny(clone(root, tmp_path))
    set_params(
        folder,
        experiment__datasets=[name],
        experiment__outside=[name],
        experiment__variants=["alignformer"],
        experiment__reference="alignformer",
        **{f"datasets__{name}__root": str(shared_data / name)},
    )
    run(folder, "dvc", "repro")
    assert "not the whole refcoco (unc)" in (folder / "reports/index.html").read_text()
    table = (folder / f"reports/tables/{name}.md").read_text()
    assert "alignformer" in table and "not the whole refcoco (unc)" in table


def test_dvc_sees_a_change_outside_the_project_and_copies_no_picture(root, shared_data, tmp_path):
    folder = tiny(clone(root, tmp_path / "project"))
    release = tmp_path / "release"
    shutil.copytree(shared_data / "refer_true", release, copy_function=shutil.copyfile)
    set_params(
        folder,
        experiment__datasets=["refer_true"],
        experiment__outside=["refer_true"],
        datasets__refer_true__root="../release",
    )
    look, prepare = "fingerprint@refer_true", "prepare@refer_true"
    assert ran(run(folder, "dvc", "repro", prepare)) == {look, prepare}
    assert ran(run(folder, "dvc", "repro", prepare)) == {look}
    pictures = sorted((release / "images").rglob("*.jpg"))
    assert sum(path.stat().st_size for path in (folder / ".dvc" / "cache").rglob("*")) < pictures[0].stat().st_size

    prepared = (folder / "data/refer_true/dataset.json").read_bytes()
    (pictures[0].parent / "unused.jpg").write_bytes(b"a picture")
    assert ran(run(folder, "dvc", "repro", prepare)) == {look, prepare}
    assert (folder / "data/refer_true/dataset.json").read_bytes() == prepared

    pictures[0].unlink()
    done = subprocess.run(
        ["dvc", "repro", prepare], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=100
    )
    assert done.returncode and "image missing (1): image" in done.stderr and pictures[0].name in done.stderr
