"""Where a report comes from, and whether it is stale: with the outputs of all stages, and in a clone without them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from stages.report import checked
from stages.report.__main__ import main as report
from stages.runtime import keys, layout
from stages.runtime.params import read as read_params
from tests.stages.report import report_inputs
from tests.stages.report.test_report import VARIANTS, build, read_report

STAGES = [
    "fingerprint@scenes",
    "prepare@scenes",
    *(f"{stage}@scenes-{v}-{s}" for stage in ("train", "evaluate", "diagnose") for v in VARIANTS for s in (0, 1)),
    "ablate@scenes",
]


@pytest.fixture(scope="module", autouse=True)
def unrendered():
    """tests/test_end_to_end.py checks a report with its figures."""
    with report_inputs.unrendered():
        yield


@pytest.fixture(scope="module")
def built(unrendered, tmp_path_factory):
    """A report with everything that it is made of, and a `dvc.lock` with entries of listed and of former stages."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        build(folder, {"scenes": (40, 40)}, [0, 1], per_split=2)
        lock({stage: entry(stage) for stage in [*STAGES, "train@scenes-former-0"]})
        report([])
    return folder


@pytest.fixture
def project(built, tmp_path, monkeypatch):
    """A copy of it, for one test."""
    shutil.copytree(built, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def entry(stage: str, md5: str = "ab12") -> dict:
    deps = [{"path": "models", "hash": "md5", "md5": md5}]
    params = {"params.yaml": {"recipes.small": {"precision": "no"}, "variants.baseline": {"vlba": "none"}}}
    outs = [{"path": f"results/{stage}", "md5": "cd34"}]
    return {"cmd": f"python -m stages.{stage}", "deps": deps, "params": params, "outs": outs}


def lock(entries: dict) -> None:
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": entries}))


def locked() -> dict:
    return yaml.safe_load(Path("dvc.lock").read_text())["stages"]


def stale() -> str:
    """What `--check` exits with; empty where nothing is stale."""
    before = read_report()
    try:
        report(["--check"])
    except SystemExit as end:
        assert read_report() == before, "a check writes nothing"
        return str(end.code)
    return ""


def without_outputs() -> None:
    """As in a fresh clone."""
    for folder in (layout.DATA, layout.RESULTS):
        shutil.rmtree(folder)


def test_a_new_report_is_not_stale_and_a_second_check_says_so_at_once_if_nothing_has_changed(project, capsys):
    checked.file().parent.mkdir(parents=True)
    assert stale() == ""
    said = capsys.readouterr().out
    assert "every file made again from the outputs of all stages" in said and "nothing has changed" not in said
    assert stale() == ""
    assert "nothing has changed since it was last found so (every file made again" in capsys.readouterr().out
    opened = map(Path, json.loads(checked.file().read_text())["elsewhere"])
    picture = next(path for path in opened if path.suffix == ".png" and path.exists())

    def edits():
        for path in ("reports/index.html", "results/slices/scenes.csv", "data/scenes/dataset.json", "dvc.lock"):
            yield Path(path).write_text(f"{Path(path).read_text()} ")
        yield Path("reports/tables/scenes/main.tex").unlink()
        yield Path("reports/tables/notes.md").touch()
        Path("stages").mkdir()
        yield Path("stages/new.py").touch()
        yield os.utime(picture)
        yield checked.file().write_text("{")

    settings = read_params()
    for _ in edits():
        assert checked.earlier(settings) is None
        with checked.remembered(settings) as remember:
            picture.read_bytes()
            remember("something")
        assert checked.earlier(settings) == "something"


def test_a_new_report_is_not_stale_in_a_clone(project, capsys):
    without_outputs()
    assert stale() == ""
    assert "tables made again from reports/data" in capsys.readouterr().out


def test_changed_missing_and_surplus_files_and_other_entries_are_stale_where_the_outputs_are(project):
    """All at once: each look makes the whole report again."""
    changed = ["index.html", "tables/scenes.md", "tables/scenes/main.tex", "figures/scenes-curves.svg"]
    changed.append("data/scenes/slices.csv")
    for path in (layout.REPORTS / name for name in changed):
        path.write_text(path.read_text() + " ")
    missing = [
        "tables/scenes.csv",
        "figures/scenes-gallery.png",
        "figures/scenes-curves.pdf",
        "data/scenes/dataset.json",
    ]
    for name in missing:
        (layout.REPORTS / name).unlink()
    (layout.REPORTS / "data" / "old").mkdir()
    (layout.REPORTS / "data" / "old" / "comparison.csv").write_text("")
    lock({**locked(), **{stage: entry(stage, md5="ff00") for stage in STAGES[:3]}})
    found = [line.strip() for line in stale().splitlines()[1:]]
    assert [line.split(":")[0] for line in found[:3]] == STAGES[:3]
    assert all("its entry in dvc.lock" in line for line in found[:3])
    # the report records the entries, so of the entries alone its own files differ too
    reasons = dict(line.removeprefix("reports/").split(" is ", 1) for line in found[3:])
    different = [name for name, reason in reasons.items() if reason.startswith("not what would be written")]
    assert set(different) == {*changed, "provenance.json"}
    assert {name for name, reason in reasons.items() if reason.startswith("missing")} == set(missing)
    assert reasons.keys() - set(different) - set(missing) == {"data/old/comparison.csv"}
    assert reasons["data/old/comparison.csv"].startswith("of no listed dataset")


@pytest.mark.parametrize("name", ["provenance.json", "data/scenes/dataset.json", "tables/scenes.md"])
def test_a_merge_conflict_in_the_report_is_named(project, name):
    path = layout.REPORTS / name
    path.write_text(f"<<<<<<< HEAD\n{path.read_text()}=======\n{path.read_text()}>>>>>>> theirs\n")
    assert f"reports/{name} holds a merge conflict: dvc repro report" in stale()


@pytest.mark.parametrize("name", ["tables/scenes.md", "tables/scenes.csv", "tables/scenes/main.tex"])
def test_a_changed_table_is_stale_in_a_clone(project, name):
    without_outputs()
    path = layout.REPORTS / name
    path.write_text(path.read_text().replace("alignformer", "alignformed", 1))
    assert f"reports/{name} is not what would be written" in stale()


def test_changed_data_are_stale_in_a_clone(project):
    without_outputs()
    path = layout.REPORTS / "data" / "scenes" / "comparison.csv"
    table = pd.read_csv(path)
    table["mean"] += 0.01
    table.to_csv(path, index=False)
    assert "reports/tables/scenes.md is not what would be written" in stale()
    path.unlink()
    assert "reports/data/scenes/comparison.csv is missing" in stale()


def test_changed_results_and_a_missing_provenance_are_stale(project):
    (layout.REPORTS / "provenance.json").unlink()
    path = layout.comparison("scenes")
    table = pd.read_csv(path)
    table["mean"] += 0.01
    table.to_csv(path, index=False)
    found = stale()
    for name in ("tables/scenes.md", "index.html", "data/scenes/comparison.csv"):
        assert f"reports/{name} is not what would be written" in found
    assert "reports/provenance.json is missing" in found


@pytest.mark.parametrize("stage", STAGES[:1] + STAGES[1:20:6] + STAGES[-1:])
def test_another_entry_of_any_stage_is_stale(project, stage):
    without_outputs()
    lock({**locked(), stage: entry(stage, md5="ff00")})
    found = [line for line in stale().splitlines() if "its entry in dvc.lock" in line]
    assert len(found) == 1 and found[0].strip().startswith(f"{stage}: ")
    assert "dvc repro --force --single-item report" in found[0]


def test_a_listed_stage_without_an_entry_is_stale(project):
    without_outputs()
    lock({stage: entry(stage) for stage in STAGES if stage != "train@scenes-alignformer-1"})
    assert "train@scenes-alignformer-1: it has no entry in dvc.lock: dvc repro train@scenes-alignformer-1" in stale()


def test_entries_of_former_stages_and_of_cards_do_not_matter(project):
    """A card may be made before the report, after it, or meanwhile on another machine."""
    without_outputs()
    for stage in ("train@scenes-former-0", "card@scenes-baseline-0"):
        lock({**locked(), stage: entry(stage, md5="ff00")})
    assert "card" not in Path("reports/provenance.json").read_text()
    assert stale() == ""


def test_another_list_of_variants_is_stale(project):
    without_outputs()
    content = yaml.safe_load(Path("params.yaml").read_text())
    content["experiment"]["variants"] = ["baseline", "alignformer"]
    Path("params.yaml").write_text(yaml.safe_dump(content))
    found = stale()
    assert "train@scenes-text_to_pixel-0: the report was made with it, params.yaml does not list it" in found
    assert "results/comparison/scenes.csv is of another experiment" in found


def test_provenance_names_what_stays_the_same(project):
    content = json.loads((layout.REPORTS / "provenance.json").read_text())
    assert list(content["stages"]) == STAGES
    assert len(set(content["stages"].values())) == len(STAGES)
    assert content["fingerprints"] == {"scenes": "f00d" * 16}
    assert content["command"] == "dvc repro report"
    assert content["versions"]["python"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert {"torch", "transformers"} <= set(content["versions"])
    train = "train@scenes-alignformer-1"
    assert content["mlflow"]["scenes"]["runs"]["alignformer, seed 1"] == keys.key(train, keys.locked_inputs(train))
    shared = keys.shared_key("ablation@scenes-small", keys.locked_inputs("train@scenes-baseline-0"))
    assert content["mlflow"]["scenes"]["ablation"] == shared


def test_the_hash_is_of_the_whole_entry_in_any_order():
    whole = entry("train@scenes-baseline-0")
    assert keys.entry_hash(whole) == keys.entry_hash(dict(reversed(whole.items())))
    for part, value in {"cmd": "other", "deps": [], "params": {}, "outs": []}.items():
        assert keys.entry_hash({**whole, part: value}) != keys.entry_hash(whole)


PIPELINE = """
stages:
  report:
    cmd: python -m stages.report
    deps:
      - results/comparison
    outs:
      - reports/index.html: {cache: false}
      - reports/tables: {cache: false}
      - reports/figures: {cache: false}
      - reports/data: {cache: false}
      - reports/provenance.json: {cache: false}
"""


@pytest.mark.programs
def test_files_that_are_not_those_of_dvc_lock_are_stale_in_a_clone(project):
    Path("dvc.yaml").write_text(PIPELINE)
    for command in (["init", "--no-scm", "--quiet"], ["commit", "--force", "--quiet", "report"]):
        subprocess.run([sys.executable, "-m", "dvc", *command], check=True)
    without_outputs()
    assert "report" in locked() and stale() == ""
    page = layout.REPORTS / "index.html"
    page.write_bytes(page.read_bytes() + b" ")
    assert "reports/index.html is modified" in stale()


def test_a_run_that_is_missing_is_reported_and_kept(project):
    """The comparison says which runs have no scores; their files need not be there."""
    settings = read_params()
    missing = {"alignformer": [0, 1], "text_to_pixel": [1]}
    means = {"baseline": 0.5, "text_to_pixel": 0.6, "alignformer": 0.7}
    made = report_inputs.files(settings, means, ("val", "testA"), missing=missing)
    for file, path in (("comparison", layout.comparison), ("contrasts", layout.contrasts), ("slices", layout.slices)):
        path("scenes").write_bytes(made[f"{file}.csv"])
    for variant, seeds in missing.items():
        for seed in seeds:
            shutil.rmtree(layout.diagnosis("scenes", variant, seed))
            layout.scores("scenes", variant, seed).unlink()
            layout.history("scenes", variant, seed).unlink()
    report([])
    markdown = (layout.REPORTS / "tables" / "scenes.md").read_text()
    assert "alignformer has no scores: seeds 0, 1 failed or did not run." in markdown
    assert "text_to_pixel has scores of 1 of 2 seeds" in markdown
    page = (layout.REPORTS / "index.html").read_text()
    assert "The highlighted variant alignformer has no scores, so this is about the reference baseline" in page
    without_outputs()
    assert stale() == ""
