"""One flow on two experiments whose stages write a word, and what becomes of their parameters."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from pipelines.dvc import dag
from pipelines.dvc.dag import DagError
from pipelines.flow import closing as last_words
from pipelines.flow import held
from pipelines.flow.param_overrides import OverrideError
from pipelines.prefect import artifacts
from stages.runtime import experiments, keys, layout, params
from stages.runtime.experiments import ExperimentError
from tests.project import PREPARED

PIPELINE = """
stages:
  first:
    matrix:
      seed: ${experiment.seeds}
    cmd: echo ${item.seed} >> $LOG && echo ${item.seed} > first-${item.seed}.txt
    deps:
      - models/word.txt
    outs:
      - first-${item.seed}.txt
  report:
    cmd: cat first-1.txt > report.txt
    deps:
      - first-1.txt
    params:
      - experiment.seeds
    outs:
      - report.txt
"""
MORE = """# Mine.
experiment:
  datasets: [scenes]
  evaluate_on: []
  variants: [baseline, vlba]
  seeds: [1, 2]  # those
  recipe: small
  highlight: vlba
"""


@pytest.fixture
def project(root, tmp_path, monkeypatch):
    """Experiments `default`, with seeds 0 and 1, and `more`, with seeds 1 and 2."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    no_scm = True\n")
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "word.txt").write_text("word")
    shutil.copy(root / "tests" / "params.yaml", tmp_path)
    shutil.copy(root / params.SCHEMA, tmp_path)
    experiments.make("more", MORE)
    return tmp_path


def hold(*names: str, settings: tuple[str, ...] = (), save_as: str | None = None) -> list[str]:
    """What is said when a flow takes experiments, and gives them back."""
    said = []
    with held.held(names or ["default"], settings, save_as, said.append) as run:
        assert run == ([save_as] if save_as else list(names or ["default"]))
    return said


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.is_symlink()}


@pytest.fixture
def run(project, root, prefect_database, monkeypatch):
    """Runs the flow in a process of its own."""
    shutil.copy(root / "prefect.toml", project)
    (project / ".prefect").mkdir()
    shutil.copy(prefect_database, project / ".prefect")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_", "DVC_"))}
    environment = {**kept, **PREPARED, "PYTHONPATH": str(root), "LOG": str(project / "log")}

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "pipelines.experiment", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def ran(project: Path) -> list[str]:
    return sorted((project / "log").read_text().split())


def test_one_flow_runs_two_experiments_and_makes_what_they_share_once(project, run):
    said = run("--experiment", "default", "--experiment", "more", "--jobs", "2")
    assert "6 stages, 6 of them to run" in said and "\nmore/first@2: ran in " in said
    assert "first@1: cached in " in said and ran(project) == ["0", "1", "2"]  # seed 1 is the same in both
    for folder, seeds in (project, (0, 1)), (project / "experiments/more", (1, 2)):
        assert set(keys.locked_entries(folder / "dvc.lock")) == {f"first@{seeds[0]}", f"first@{seeds[1]}", "report"}
        assert {path.name for path in folder.glob("*.txt")} == {f"first-{seed}.txt" for seed in seeds} | {"report.txt"}
    with closing(sqlite3.connect(project / ".prefect" / "prefect.db")) as database:
        assert database.execute("SELECT name FROM flow_run").fetchall() == [("experiment default, more: 6 stages",)]
    assert "3 stages are up to date" in run() and "1 stage is up to date" in run("more/first@2")

    before = files(project / "experiments/more")
    said = run("--experiment", "more", "--set", "experiment.seeds=[1]", "--as", "fewer")
    assert "experiments/fewer/params.yaml: made of experiment more\n" in said and "fewer/first@1: cached in " in said
    assert ran(project) == ["0", "1", "2"]
    assert files(project / "experiments/more") == before


def test_a_stage_of_the_same_inputs_is_the_same_claim_in_two_experiments(project):
    here, there = keys.live_inputs("first@1"), keys.live_inputs("first@1", Path("experiments/more"))
    assert here == there and here["cmd"].startswith("echo 1")
    for name in ("default", "more"):
        (experiments.folder(name) / "first-1.txt").write_text("1")
    assert keys.live_inputs("report") != keys.live_inputs("report", Path("experiments/more"))


def test_a_target_is_one_of_each_experiment_unless_it_names_one():
    stages = {"prepare": set(), "train@a": {"prepare"}, "more/prepare": set(), "more/train@a": {"more/prepare"}}
    assert set(dag.restrict(stages, ["train"])) == set(stages)
    assert set(dag.restrict(stages, ["more/train@a"])) == {"more/prepare", "more/train@a"}
    assert set(dag.restrict(stages, ["default/train"])) == {"prepare", "train@a"}
    with pytest.raises(DagError, match="no stage 'other/train'; there are: prepare, train@a, more/prepare"):
        dag.restrict(stages, ["other/train"])


def test_the_experiments_are_those_that_are_named(project):
    assert held.chosen([], []) == held.chosen([], ["train"]) == ["default"]
    assert held.chosen(["more", "default", "more"], ["train"]) == ["more", "default"]
    assert held.chosen([], ["more/train", "more/report"]) == ["more"]
    with pytest.raises(ExperimentError, match="no experiment 'les'; there are: default, more"):
        held.chosen(["more", "les"], [])


def test_last_words_name_each_experiment_with_its_report(project, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name in ("default", "more"):
        result = experiments.folder(name) / layout.result("scenes")
        result.parent.mkdir(parents=True)
        result.write_text(json.dumps([f"{name} wins."]))
    said = last_words.up_to_date(["report", "more/report"], "Done.").splitlines()
    assert [line for line in said if line] == [
        "Done.",
        *("experiment default:", "default wins.", "report: reports/index.html"),
        *("experiment more:", "more wins.", "report: experiments/more/reports/index.html"),
        "models and runs: make ui",
    ]


def test_prefect_shows_the_tables_and_the_page_of_each_experiment(project, monkeypatch):
    shown = {}
    monkeypatch.setattr(artifacts, "create_markdown_artifact", lambda text, key, description: shown.update({key: text}))
    for name in ("default", "more"):
        table = experiments.folder(name) / "reports" / "tables" / "scenes.md"
        table.parent.mkdir(parents=True)
        table.write_text(f"of {name}")
        artifacts.show_results(name)
    assert shown == {"comparison-scenes": "of default", "comparison-more--scenes": "of more"}
    artifacts.show_links(["default", "more"])
    for page in ("reports/index.html", "experiments/more/reports/index.html"):
        assert f"the file `{project / page}` on the machine" in shown["links"]


def test_set_changes_the_file_of_the_experiment_and_no_other(project):
    before = files(project)
    file = project / "experiments/more/params.yaml"
    settings = ("experiment.seeds=[3]", "recipes.small.training.epochs=1", "experiment.highlight=vlba")
    old = params.read(file).recipes["small"].training.epochs
    assert hold("more", settings=settings) == [
        "experiments/more/params.yaml, for good: experiment.seeds: [1, 2] -> [3]",
        f"experiments/more/params.yaml, for good: recipes.small.training.epochs: {old} -> 1",
    ]
    expected = MORE.replace("[1, 2]", "[3]") + "recipes: {small: {training: {epochs: 1}}}\n"
    assert file.read_text() == expected
    assert {path for path, content in files(project).items() if before.get(path, content) != content} == {file}
    assert hold("more", settings=settings) == []


def test_as_makes_another_experiment_and_makes_it_anew(project):
    before = files(project / "experiments/more")
    settings = ("experiment.seeds=[7]", "variants.vlba.vlba_levels=1")
    said = hold("more", settings=settings, save_as="seven")
    assert said[0] == "experiments/seven/params.yaml: made of experiment more" and len(said) == 3
    made = project / "experiments/seven"
    assert params.read(made / "params.yaml").experiment.seeds == [7]
    assert params.read(made / "params.yaml").variants["vlba"].vlba_levels == 1
    assert "datasets:\n" not in (made / "params.yaml").read_text()  # only what differs from the project's
    assert (made / "dvc.yaml").read_text() == PIPELINE and (made / "stages").readlink() == Path("../../stages")
    assert hold("more", settings=settings, save_as="seven") == []
    assert hold("more", settings=settings[:1], save_as="seven")[0].endswith("made anew of experiment more")
    assert "vlba_levels" not in (made / "params.yaml").read_text()
    assert files(project / "experiments/more") == before

    mark, own = (made / "params.yaml").read_text().split("\n", 1)
    assert "Delete this line to keep" in mark
    (made / "params.yaml").write_text(own)
    with pytest.raises(OverrideError, match="is kept as edited"):
        hold("more", settings=settings, save_as="seven")
    assert (made / "params.yaml").read_text() == own
    assert hold("default", settings=("experiment.seeds=[1]",), save_as="one")
    assert mark.replace("seven", "one") not in experiments.text_from("one", "two")  # another one begins as a user's own


@pytest.mark.parametrize(
    ("names", "save_as", "message"),
    [
        (["default", "more"], None, "change one experiment, but 2 are named: default, more"),
        (["more"], "more", "this is the experiment itself"),
        (["default"], "more", "not one that --as made"),
        (["more"], "default", "the experiment 'default' is the project itself"),
        (["more"], "a/b", "no experiment can have the name 'a/b'"),
        (["more"], "More", "an experiment 'more' exists"),
    ],
)
def test_what_cannot_be_changed_or_made_is_named_and_nothing_is_written(project, names, save_as, message):
    before = files(project / "experiments")
    with pytest.raises((OverrideError, ExperimentError), match=message):
        hold(*names, settings=("experiment.seeds=[7]",), save_as=save_as)
    assert files(project / "experiments") == before


def test_a_wrong_override_makes_no_experiment(project):
    with pytest.raises(OverrideError, match="did you mean seeds"):
        hold("more", settings=("experiment.seedz=[7]",), save_as="seven")
    assert not (project / "experiments/seven").exists()


def test_a_flow_brings_the_dag_and_the_code_into_step_and_says_so(project):
    copy = project / "experiments/more/dvc.yaml"
    (project / "dvc.yaml").write_text(PIPELINE.replace("cat", "cat -n"))
    (project / "experiments/more/stages").unlink()
    assert hold() == []
    assert copy.read_text() == PIPELINE
    assert hold("more") == ["experiments/more: stages, dvc.yaml brought into step with the project's"]
    assert copy.read_bytes() == (project / "dvc.yaml").read_bytes() and hold("more") == []


@pytest.fixture
def flow(programs, root):
    """A flow in another process, which holds experiments until it is killed."""
    started = []

    def start(*names: str) -> subprocess.Popen:
        code = f"with held({list(names)}, [], None, print): print('held', flush=True); input()"
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", f"from pipelines.flow.held import held\n{code}"],
                env={**os.environ, "PYTHONPATH": str(root)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        assert started[-1].stdout.readline() == "held\n"
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_nobody_changes_the_parameters_of_a_flow_that_runs(project, flow):
    changed = ("experiment.seeds=[5]",)
    holder = flow("more")
    assert hold("more") == hold("more", settings=("experiment.seeds=[1, 2]",)) == []  # what is there already
    with pytest.raises(OverrideError, match="another flow works on experiment more"):
        hold("more", settings=changed)
    assert (project / "experiments/more/params.yaml").read_text() == MORE
    assert hold("default", settings=changed) and hold("more", settings=changed, save_as="five")
    second = flow("five")
    with pytest.raises(OverrideError, match="another flow works on experiment five"):
        hold("more", settings=("experiment.seeds=[6]",), save_as="five")
    for process in (holder, second):
        process.kill()
        process.wait()
    assert hold("more", settings=changed)
