"""The experiments that the project brings along, without their data; what two experiments share."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from benchmarks.clones import ran, run
from stages.report import sweeps
from stages.runtime import dvc_internals, experiments, layout, params
from stages.runtime.experiments import DAG, LINKED
from stages.statistics import factorial
from tests.project import READY

COMMITTED = ("default", "contrast_sweep", "factorial", "photographs")  # with their reports
PER_RUN = ("train", "evaluate", "diagnose", "card")


@pytest.fixture
def project(root, tmp_path, monkeypatch) -> Path:
    """The project's parameters and DAG with all its experiments, without code, as the current folder."""
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\nno_scm = true\n")
    shutil.copy(root / DAG, tmp_path)
    for path in (layout.PARAMS, *(experiments.folder(name) / layout.PARAMS for name in READY)):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / path, tmp_path / path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_is_committed_of_an_experiment_is_the_projects(root, monkeypatch):
    monkeypatch.chdir(root)
    assert set(READY) <= set(experiments.names())
    for name in experiments.names()[1:]:
        folder = experiments.folder(name)
        params.read(folder / layout.PARAMS)
        assert experiments.is_in_step(folder) or not (folder / DAG).exists(), f"make experiment NAME={name} mends it"
        assert all((folder / link).resolve() == root / link for link in LINKED if (folder / link).is_symlink())


@pytest.mark.programs
@pytest.mark.parametrize("name", COMMITTED)
def test_a_committed_report_is_that_of_what_is_committed_beside_it(root, name):
    assert "is up to date" in run(root, "python", "-m", "stages.report", "--experiment", name, "--check")


@pytest.mark.parametrize("name", COMMITTED)
def test_heads_of_tables_stand_over_their_columns(root, name):
    page = (root / experiments.folder(name) / layout.PAGE).read_text(encoding="utf-8")
    heads = re.findall(r'<tr class="spans">(.*?)</tr>\n<tr>(.*?)</tr>', page)
    assert heads
    for spans, headings in heads:
        widths = [int(width or 1) for width in re.findall(r'<t[dh](?: colspan="(\d+)")?', spans)]
        assert sum(widths) == headings.count("<th"), spans


@pytest.mark.parametrize("name", READY)
def test_a_ready_experiment_says_what_it_is_and_how_it_starts(root, name):
    lines = (root / experiments.folder(name) / "README.md").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ") and len(lines) < 20
    text = "\n".join(lines)
    assert f"python -m pipelines.experiment --experiment {name}`" in text
    assert f"python -m stages.estimate --experiment {name} --dataset" in text


@pytest.mark.parametrize(
    ("name", "datasets", "variants", "seeds"),
    [
        ("contrast_random", 1, 2, 3),
        ("contrast_sweep", 1, 8, 3),
        ("factorial", 1, 13, 3),
        ("photographs", 1, 8, 3),
        ("refcoco", 3, 6, 3),
    ],
)
def test_a_ready_experiment_has_the_stages_of_its_own_parameters(project, name, datasets, variants, seeds):
    assert set(experiments.bring_into_step(name)) == {*LINKED, str(DAG)}
    assert experiments.bring_into_step(name) == []
    experiments.enter(name)
    found = {stage.name: stage.needs for stage in dvc_internals.stages()}
    own = params.read(layout.PARAMS).experiment
    assert (len(own.datasets), len(own.variants), len(own.seeds)) == (datasets, variants, seeds)
    runs = [f"{dataset}-{variant}-{seed}" for dataset in own.datasets for variant in own.variants for seed in own.seeds]
    of_runs = {f"{stage}@{run}" for stage in PER_RUN for run in runs}
    kinds = ("fingerprint", "prepare", "score", "ablate")
    of_datasets = {f"{stage}@{dataset}" for stage in kinds for dataset in own.datasets}
    of_further = {f"{stage}_on@{on}" for stage in ("fingerprint", "prepare") for on in own.evaluate_on}
    of_further |= {f"evaluate_on@{on}-{run}" for on in own.evaluate_on for run in runs}
    assert found.keys() == {"params", "report", *of_runs, *of_datasets, *of_further}
    assert set(found["ablate@" + own.datasets[-1]]) >= {f"evaluate@{runs[-1]}", f"prepare@{own.datasets[-1]}"}


def test_each_setting_of_the_contrast_differs_from_the_center_in_one_key(root):
    """But for the cosine grouping, which has two weights, and the two networks without contrast."""
    path = root / experiments.folder("contrast_sweep") / layout.PARAMS
    settings = params.read(path)
    chosen = {name: settings.variants[name].model_dump() for name in YAML(typ="safe").load(path)["variants"]}
    assert set(settings.experiment.variants) <= chosen.keys()
    center = chosen["alignformer_w10"]
    differ = {name: {key for key in center if each[key] != center[key]} for name, each in chosen.items()}
    own = {name for name, each in chosen.items() if each["contrastive"] == "instance"}
    assert {name for name in own if len(differ[name]) != 1} == {"alignformer_w10", "alignformer_cosine_w1"}
    assert chosen.keys() - own == {"vlba", "vlba_cosine"}
    (sweep,) = sweeps.find(settings)
    assert (sweep.key, sweep.values) == ("contrastive_weight", [0.01, 0.1, 1.0])


def test_the_factorial_is_complete(root):
    settings = params.read(root / experiments.folder("factorial") / layout.PARAMS)
    found = factorial.find({name: settings.variants[name] for name in settings.experiment.variants})
    assert found is not None
    assert [*found.cells.values(), "no_exchange"] == settings.experiment.variants


def test_the_root_names_only_what_is_there_or_says_where_it_comes_from(root):
    text = (root / layout.PARAMS).read_text(encoding="utf-8")
    assert ".." not in text and "docs/refcoco.md" in text


def test_links_are_to_the_reports_that_git_tracks(project, monkeypatch):
    def said() -> list[dict]:
        return json.loads(experiments.links())["reports"]

    pages = [experiments.folder(name) / layout.PAGE for name in ("photographs", "refcoco")]
    for page in pages:
        page.parent.mkdir()
        page.touch()
    (experiments.folder("refcoco") / "README.md").write_text("# What it asks\n\nMore.\n")
    two = [{"name": "photographs", "about": ""}, {"name": "refcoco", "about": "What it asks"}]
    assert said() == two  # a copy without git: those that are there
    subprocess.run(["git", "init", "--quiet"], check=True)
    assert said() == []
    subprocess.run(["git", "add", pages[1]], check=True)
    assert said() == two[1:]
    monkeypatch.chdir(experiments.folder("refcoco"))
    assert json.loads(experiments.links()) == {"experiment": "refcoco", "reports": []}


@pytest.mark.programs
def test_two_experiments_share_work_and_link_to_each_other(reproduced, tmp_path):
    project = reproduced.copied_to(tmp_path / "project")
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b")
    run(project, *git, "add", "--all")
    run(project, "dvc", "config", "core.analytics", "false")
    assert "is right" in run(project, "python", "-m", "stages.params", "--new", "mine")
    before = {path: path.read_bytes() for path in [project / "dvc.lock", *files(project / layout.REPORTS)]}
    said = run(project / experiments.folder("mine"), "dvc", "repro")
    assert ran(said) == {"params", "fingerprint@scenes", "report"}
    cached = {line.split("'")[1].split("@")[0] for line in said.splitlines() if dvc_internals.CACHED in line}
    assert cached == {"prepare", *PER_RUN, "score", "ablate"}
    assert {path: path.read_bytes() for path in before} == before

    page = project / experiments.folder("mine") / layout.PAGE
    assert "variants compared: mine</title>" in page.read_text(encoding="utf-8")
    assert (page.parent / "../../../reports/index.html").resolve() == project / layout.PAGE
    assert 'href="../../../reports/index.html"' in page.read_text(encoding="utf-8")
    check = ("python", "-m", "stages.report", "--check")
    assert "is up to date" in run(project, *check) and "is up to date" in run(project, *check, "--experiment", "mine")

    run(project, *git, "add", str(page))
    with pytest.raises(AssertionError, match="links to other reports than those that git tracks"):
        run(project, *check)
    assert ran(run(project, "dvc", "repro")) == {"params", "fingerprint@scenes", "report"}
    link = '<a href="../experiments/mine/reports/index.html">mine</a>'
    assert link in (project / layout.PAGE).read_text(encoding="utf-8")
    assert "is up to date" in run(project, *check)


def files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]
