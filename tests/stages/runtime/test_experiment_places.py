"""Where a stage of an experiment finds its project, also in a copy of `dvc exp run --temp`, and what hints name."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages.runtime import experiments, layout, merge_conflicts
from stages.runtime.run import Run, how_to_train

ROOT = Path(__file__).resolve().parents[3]

LOOK = """
import json, os, sys
from pathlib import Path

from stages.runtime import experiments, layout, params
from stages.tracking import store

settings = params.read()
Path("seen.json").write_text("{}")
Path(os.environ["SEEN"]).write_text(json.dumps({
    "here": os.getcwd(),
    "current": experiments.current(),
    "names": experiments.names(),
    "root": str(layout.root().resolve()),
    "project": str(layout.project().resolve()),
    "source": str(layout.source("photos/one.txt").resolve()),
    "tracked": str(layout.source("tracked.txt").resolve()),
    "database": str(store.own_database()),
    "seeds": settings.experiment.seeds,
    "reference": settings.experiment.reference,
}))
"""

DAG = """
stages:
  look:
    cmd: python ../../look.py
    params:
      - experiment.seeds
    outs:
      - seen.json
"""


@pytest.mark.programs
def test_a_temporary_copy_of_dvc_knows_its_experiment_and_the_original(root, tmp_path, monkeypatch):
    folder, seen = tmp_path / "project", tmp_path / "seen.json"
    folder.mkdir()
    monkeypatch.chdir(folder)
    names = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "SEEN": str(seen)}
    who = {f"GIT_{role}_{what}": "a@b.example" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    for name, value in {**names, **who}.items():
        monkeypatch.setenv(name, value)

    def run(*command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    dvc = (sys.executable, "-m", "dvc")
    run("git", "init", "-q")
    run(*dvc, "init", "-q")
    Path("dvc.yaml").write_text(DAG)
    Path("look.py").write_text(LOOK)
    Path("tracked.txt").write_text("in git")
    Path("params.yaml").write_bytes((root / "tests" / "params.yaml").read_bytes())
    experiments.make("more", experiments.text_from("default", "more"))
    run("git", "add", ".")
    run("git", "commit", "-q", "-m", "begin")
    Path("photos").mkdir()  # what git does not track is in no copy
    Path("photos/one.txt").write_text("one")
    change = ("-S", "experiments/more/params.yaml:experiment.seeds=[7]")
    run(*dvc, "exp", "run", "-q", "--temp", *change, "experiments/more/dvc.yaml:look")

    found = json.loads(seen.read_text())
    copy = Path(found["root"])
    assert copy.is_relative_to(folder / ".dvc" / "tmp") and found["here"] == str(copy / "experiments" / "more")
    assert found["current"] == "more" and found["names"] == ["default", "more"] and found["seeds"] == [7]
    assert found["reference"] == "baseline", "what the experiment leaves to the project's params.yaml"
    assert found["project"] == str(folder) and found["database"] == str(folder / "mlflow.db")
    assert found["source"] == str(folder / "photos" / "one.txt")
    assert found["tracked"] == str(copy / "tracked.txt"), "of the commit that the copy is of"


def test_a_hint_names_the_experiment(tmp_path, monkeypatch):
    """It is a command for the project's folder, wherever in the project the message was made."""
    (tmp_path / ".dvc").mkdir()
    place = tmp_path / "experiments" / "more"
    place.mkdir(parents=True)
    (place / "params.yaml").touch()
    (place / "dvc.yaml").touch()
    for folder, dag, reports in (
        (tmp_path, "", "reports"),
        (place, "experiments/more/dvc.yaml:", "experiments/more/reports"),
    ):
        monkeypatch.chdir(folder)
        assert experiments.dvc("repro -f -s", "a", "b") == f"dvc repro -f -s {dag}a {dag}b"
        assert str(layout.from_root(Path("reports"))) == reports
        assert how_to_train(Run("scenes", "vlba", 1)) == f"`dvc repro {dag}train@scenes-vlba-1` trains it"
        Path("dvc.lock").write_text("<<<<<<< HEAD\na: 1\n=======\na: 2\n>>>>>>> theirs\n")
        lock = reports.replace("reports", "dvc.lock")
        assert f"`git checkout --ours {lock}` keeps" in str(merge_conflicts.named(Path("dvc.lock")))
    assert experiments.dvc("pull", "a", of="default") == "dvc pull a"
