"""docs/own_predictions.md, followed to the letter: predictions of the project's own become a row of the report."""

import json
import re
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from ruamel.yaml import YAML

from benchmarks.clones import ENVIRONMENT, ran, run, set_params
from pipelines.mlflow.sync import sync
from stages.report.check import check
from stages.runtime.params import read as read_params
from stages.statistics.evidence import no_verdict_of_a_file

pytestmark = pytest.mark.programs

LABEL = "Baseline, from a file"


@pytest.fixture(scope="module")
def blocks(root) -> dict[str, list[str]]:
    """Language -> contents of the page's blocks of it."""
    page = (root / "docs" / "own_predictions.md").read_text(encoding="utf-8")
    found = re.findall(r"^```(\w+)\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE)
    return {language: [content for name, content in found if name == language] for language, _ in found}


@pytest.fixture(scope="module")
def project(blocks, reproduced, tmp_path_factory) -> tuple[Path, str, str]:
    """A copy of the tiny experiment after all that the page says, and what its two commands printed."""
    folder = reproduced.copied_to(tmp_path_factory.mktemp("others") / "project")
    run(folder, "python", "-c", blocks["python"][0])
    tried = run(folder, *blocks["sh"][0].split())
    for key, value in YAML(typ="safe").load(blocks["yaml"][0])["experiment"].items():
        set_params(folder, **{f"experiment__{key}": value})
    return folder, tried, run(folder, *blocks["sh"][1].split())


def test_the_page_leads_to_a_row_of_the_report_and_trains_nothing(project, reproduced):
    folder, tried, said = project
    assert ran(said) == {"params", "fingerprint@scenes", "score@scenes", "ablate@scenes", "report"}
    assert "brackets: 95 % intervals; one file of predictions" in tried and "  others: {" in tried
    before = json.loads((reproduced.folder / "results/metrics/scenes/baseline/0/scenes.json").read_text())
    about = json.loads((folder / "results/others/scenes/others.json").read_text())["own"]
    assert {"protocol": about["protocol"], **about["splits"]} == before and about["missing"] == {}
    own = pd.read_parquet(folder / "results/others/scenes/own.parquet")
    pd.testing.assert_frame_equal(own, pd.read_parquet(folder / "results/scores/scenes/baseline/0/scenes.parquet"))
    page = (folder / "reports/index.html").read_text(encoding="utf-8")
    assert LABEL in page and "Prediction of own for" in page and "Systems that others made" in page
    for table in ("main", "differences", "full", "slices", "ablation-val", "ablation-testA"):
        text = (folder / f"reports/tables/scenes/{table}.md").read_text(encoding="utf-8")
        assert LABEL in text and "one file of predictions" in text, table
    assert LABEL in (folder / "reports/tables/wide-mIoU.md").read_text(encoding="utf-8")


def test_its_numbers_are_those_of_the_variant_whose_masks_it_has(project):
    folder, *_ = project
    table = pd.read_csv(folder / "results/comparison/scenes.csv", keep_default_na=False)
    rows = {name: table[table["variant"] == name].reset_index(drop=True) for name in ("own", "baseline")}
    numbers = ["split", "metric", "expressions", "images", "mean", "min", "max"]
    pd.testing.assert_frame_equal(rows["own"][numbers], rows["baseline"][numbers])
    assert set(rows["own"]["difference"].astype(float)) == {0.0}
    assert set(rows["own"]["no_verdict"]) == {no_verdict_of_a_file(4)} and set(rows["own"]["verdict"]) == {""}


def test_nothing_else_of_the_experiment_changes(project, reproduced):
    folder, *_ = project
    for path in ("comparison", "slices", "averages", "profiles"):
        before, after = (pd.read_csv(place / f"results/{path}/scenes.csv") for place in (reproduced.folder, folder))
        pd.testing.assert_frame_equal(after[after["variant"] != "own"].reset_index(drop=True), before)
    locks = [YAML(typ="safe").load(place / "dvc.lock")["stages"] for place in (reproduced.folder, folder)]
    for stage in locks[0]:
        if not stage.startswith(("params", "score", "ablate", "report")):
            assert locks[1][stage] == locks[0][stage], stage


def test_the_report_is_up_to_date_and_mlflow_is_in_step(project, monkeypatch):
    folder, *_ = project
    monkeypatch.chdir(folder)
    stale, looked = check(read_params())
    assert stale == [] and looked.startswith("every file made again")
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "DVC_ROOT", "DVC_STAGE"):
        monkeypatch.delenv(name, raising=False)
    said = []
    assert sync(said.append).startswith("MLflow: 0 runs made") and not re.search(r"\bown\b", " ".join(said))


def test_another_file_is_scored_again_and_a_wrong_one_stops_it(project):
    folder, *_ = project
    assert ran(run(folder, "dvc", "repro")) == {"params", "fingerprint@scenes"}
    entries = json.loads((folder / "own.json").read_text())
    (folder / "own.json").write_text(json.dumps(entries[2:]))
    done = subprocess.run(["dvc", "repro"], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=540)
    assert done.returncode and "own.json: expressions without a prediction, of " in done.stderr
    assert f"sent_id {entries[0]['sent_id']}; sent_id {entries[1]['sent_id']}" in done.stderr
    set_params(folder, experiment__others__own__allow_missing=True)
    assert ran(run(folder, "dvc", "repro")) >= {"score@scenes", "ablate@scenes", "report"}
    main = (folder / "reports/tables/scenes/main.md").read_text(encoding="utf-8")
    assert "Expressions without a prediction, scored as empty masks: 2 of " in main
    (folder / "own.json").unlink()
    done = subprocess.run(["dvc", "repro"], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=540)
    assert done.returncode and "experiment.others: own.json: no such file or folder of predictions" in done.stderr
