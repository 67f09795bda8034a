"""What README promises of DVC's own commands: they fit a terminal of 120 columns, and answer in a fresh clone."""

import difflib
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides
from dvc.utils.serialize import modify_yaml

from benchmarks import clones
from benchmarks.clones import run
from tests.project import READY, dvc

PARAMS = ["params.yaml", *(f"experiments/{name}/params.yaml" for name in READY)]
WIDTH = 120
NUMBERS = ["testA", "testA_diff", "testB", "testB_diff"]
# As docs/running.md has it.
DROPPED, KEPT = "Created|.*variant$|reports/.*_diff|(?!reports/).*/", "test|reports/.*test.$"
EXPERIMENTS = ("exp", "show", "--only-changed", "--drop", DROPPED, "--keep", KEPT)


@pytest.fixture(scope="module")
def committed(reproduced, tmp_path_factory) -> Path:
    """The tiny experiment in git, with two commits; before the first, the report was about another variant."""
    project = reproduced.copied_to(tmp_path_factory.mktemp("committed") / "project")
    for key in ("name", "email"):  # DVC commits its experiments
        run(project, "git", "config", f"user.{key}", "test")
    apply_overrides(project / "params.yaml", ["experiment.highlight=alignformer"])  # laid out as the project's own is
    headline = project / "reports" / "headline.json"
    now = headline.read_text()
    before = json.loads(now)
    before["variant"] = "vlba_pixel"
    for split in ("testA", "testB"):
        before |= {split: 61.23, f"{split}_diff": -10.45}
    for content, message in ((json.dumps(before), "the first"), (now, "the second")):
        headline.write_text(content)
        run(project, "git", "add", "--all")
        run(project, "git", "commit", "--quiet", "--message", message)
    return project


def printed(folder: Path, monkeypatch, capsys, *command: str) -> str:
    """What a command prints; each line of it fits."""
    monkeypatch.chdir(folder)
    capsys.readouterr()
    assert dvc(*command) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= WIDTH, text
    return text


@pytest.mark.programs
def test_the_metrics_are_those_of_the_headline(committed, monkeypatch, capsys):
    shown = printed(committed, monkeypatch, capsys, "metrics", "show")
    kept = json.loads((committed / "reports" / "headline.json").read_text())
    header, numbers = shown.splitlines()
    assert header.split() == ["Path", "metric", *NUMBERS, "variant"]
    expected = [str(kept[name]) for name in NUMBERS]
    assert numbers.split() == ["reports/headline.json", "mIoU", *expected, "alignformer"]


@pytest.mark.programs
def test_the_metrics_of_all_committed_experiments_fit_a_terminal(root, monkeypatch, capsys):
    header, *rows = printed(root, monkeypatch, capsys, "metrics", "show").splitlines()
    assert header.split() == ["Path", "metric", *NUMBERS, "variant"]
    pages = run(root, "git", "ls-files", "reports/index.html", "experiments/*/reports/index.html").split()
    assert {row.split()[0] for row in rows} == {page.replace("index.html", "headline.json") for page in pages}


@pytest.mark.programs
def test_differences_between_commits_in_a_fresh_clone(committed, tmp_path, monkeypatch, capsys):
    run(tmp_path, "git", "clone", "--quiet", str(committed), "fresh")
    shown = printed(tmp_path / "fresh", monkeypatch, capsys, "metrics", "diff", "HEAD~1")
    header, *rows = [line.split() for line in shown.splitlines()]
    assert header == ["Path", "Metric", "HEAD~1", "workspace", "Change"]
    assert [row[1] for row in rows] == [*NUMBERS, "variant"]
    assert rows[-1] == ["reports/headline.json", "variant", "vlba_pixel", "alignformer", "-"]
    assert all(abs(float(now) - float(before) - float(change)) < 0.01 for _, _, before, now, change in rows[:-1])


@pytest.mark.programs
def test_plots_leave_nothing_for_git(committed, monkeypatch, capsys):
    monkeypatch.chdir(committed)
    assert dvc("plots", "show") == 0
    assert (committed / "dvc_plots" / "index.html").exists()
    assert run(committed, "git", "status", "--porcelain") == ""


@pytest.mark.programs
def test_an_experiment_of_dvc(committed, tmp_path, monkeypatch, capsys):
    """It changes params.yaml by what is set, and the table of experiments shows that, beside the metrics."""
    project = tmp_path / "project"
    shutil.copytree(committed, project, symlinks=True)
    unchanged = printed(project, monkeypatch, capsys, *EXPERIMENTS, "--num", "1")
    assert all(column in unchanged for column in NUMBERS), "of a clone where nothing was changed"
    run(project, "dvc", "exp", "run", "--set-param", "experiment.highlight=baseline", "params")
    changed = run(project, "git", "diff", "--unified=0", "params.yaml").splitlines()
    lines = [line.partition("#")[0].rstrip() for line in changed]
    assert [line for line in lines if line[0] in "+-" and line[:3] not in ("+++", "---")] == [
        "-  highlight: alignformer",
        "+  highlight: baseline",
    ]
    shown = printed(project, monkeypatch, capsys, *EXPERIMENTS, "--num", "2")
    for column in (*NUMBERS, "params.yaml:experiment.highlight"):
        assert column in shown
    assert "results/" not in shown


@pytest.mark.programs
def test_the_experiments_of_the_project_as_it_is(root, tmp_path, monkeypatch, capsys):
    """It has several files of metrics, so DVC names the columns by file."""
    run(tmp_path, "git", "clone", "--quiet", str(root), "fresh")
    shown = printed(tmp_path / "fresh", monkeypatch, capsys, *EXPERIMENTS, "--num", "1").splitlines()
    assert shown[1].split() == ["Experiment", "reports/headline.json:testA", "reports/headline.json:testB"]
    numbers = json.loads((tmp_path / "fresh" / "reports" / "headline.json").read_text())
    assert shown[3].split() == ["workspace", str(numbers["testA"]), str(numbers["testB"])]


@pytest.mark.programs
def test_the_collapsed_dag_has_a_node_for_each_kind_of_stage(committed, monkeypatch, capsys):
    shown = printed(committed, monkeypatch, capsys, "dag", "--collapse-foreach-matrix", "--md", "dvc.yaml")
    kinds = {"params", "fingerprint", "prepare", "train", "evaluate", "diagnose", "card", "score", "ablate", "report"}
    assert {line.split('"')[1] for line in shown.splitlines() if '"' in line} == kinds


@pytest.mark.parametrize("name", PARAMS)
def test_params_are_written_as_dvc_writes_them(root, tmp_path, name):
    """Else `dvc exp run --set-param` would write lines anew that it does not change."""
    file, text = tmp_path / "params.yaml", (root / name).read_text(encoding="utf-8")
    file.write_text(text, encoding="utf-8")
    with modify_yaml(file):
        pass
    assert file.read_text(encoding="utf-8") == text
    apply_overrides(file, ["experiment.seeds=[7]"])
    before, after = text.splitlines(), file.read_text(encoding="utf-8").splitlines()
    lines = [line for line in difflib.ndiff(before, after) if line[0] in "+-"]
    assert [line for line in lines if line[0] == "+"] == ["+   - 7"]
    assert all(line[2:].startswith("  - ") for line in lines)


def test_every_params_yaml_is_looked_at(root):
    tracked = subprocess.run(["git", "ls-files", "*params.yaml"], cwd=root, capture_output=True, text=True, check=True)
    assert set(tracked.stdout.split()) - {"tests/params.yaml"} == set(PARAMS)


def test_the_docs_name_the_commands(root):
    page = (root / "docs" / "running.md").read_text(encoding="utf-8")
    experiments = f"dvc exp show --only-changed --drop '{DROPPED}' --keep '{KEPT}'".replace("|", r"\|")
    for command in ("dvc dag --collapse-foreach-matrix --md dvc.yaml", experiments):
        assert command in page


def test_a_clone_of_the_project_knows_its_metrics(root):
    """`reports/headline.json` is in git, and is the only metric."""
    content = (root / "dvc.yaml").read_text(encoding="utf-8")
    assert content.count("metrics:") == 1 and "- reports/headline.json:\n          cache: false" in content
    assert clones.run(root, "git", "check-ignore", "--no-index", "dvc_plots/index.html").strip()
