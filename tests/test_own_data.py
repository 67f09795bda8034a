"""docs/own_data.md, followed to the letter on a dozen generated images; then real photographs beside them."""

import csv
import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image, ImageDraw
from ruamel.yaml import YAML

from benchmarks.clones import ENVIRONMENT, ran, run, set_params
from stages.params.__main__ import main as write_params
from stages.report.check import check
from stages.runtime import dvc_internals
from stages.runtime.params import read as read_params
from tests import mlflow_state

pytestmark = pytest.mark.programs

SIDE = 48  # pixels
COLOURS = ("red", "blue")


@pytest.fixture(scope="module")
def blocks(root) -> dict[str, list[str]]:
    """Language -> contents of the page's blocks of it."""
    page = (root / "docs" / "own_data.md").read_text(encoding="utf-8")
    found = re.findall(r"^```(\w+)\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE)
    return {language: [content for name, content in found if name == language] for language, _ in found}


def write_cups(folder, example: dict, header: str) -> None:
    """A dozen images of two squares, in the format of the page's examples."""
    content = {"images": [], "annotations": [], "categories": example["categories"]}
    lines = []
    for number in range(1, 13):
        entry = example["images"][0] | {"id": number, "file_name": f"kitchen/{number:04}.png"}
        content["images"].append(entry | {"width": SIDE, "height": SIDE})
        image = Image.new("RGB", (SIDE, SIDE), "grey")
        for place, colour in enumerate(COLOURS):
            left, top, right, bottom = 4 + 20 * place, 2 * number, 20 + 20 * place, 2 * number + 15
            ImageDraw.Draw(image).rectangle((left, top, right - 1, bottom - 1), fill=colour)
            polygon = [left, top, right, top, right, bottom, left, bottom]
            ids = {"id": 10 * number + place, "image_id": number}
            content["annotations"].append(example["annotations"][0] | ids | {"segmentation": [polygon]})
            lines += [(ids["id"], f"{colour} cup"), (ids["id"], f"the cup, {('left', 'right')[place]}")]
        path = folder / "images" / entry["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    (folder / "instances.json").write_text(json.dumps(content))
    with (folder / "expressions.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header.split(","), *lines])


@pytest.fixture(scope="module")
def project(blocks, reproduced, root, tmp_path_factory) -> Path:
    """The folder of the experiment that the page makes, after all that it says, beside the default experiment.

    With photographs as a second dataset where there are any.
    """
    folder = tmp_path_factory.mktemp("own_data")
    clone = reproduced.copied_to(folder / "project")
    project = clone / "experiments" / "mine"
    write_cups(folder / "cups", json.loads(blocks["json"][0]), blocks["csv"][0].splitlines()[0])
    assert blocks["sh"] == [
        "python -m stages.params --new mine\n",
        "dvc repro experiments/mine/dvc.yaml:prepare@cups\npython -m stages.prepare --experiment mine --inspect cups\n",
        "dvc repro experiments/mine/dvc.yaml\n",
    ]
    run(clone, *blocks["sh"][0].split())
    for block in blocks["yaml"]:
        for section, entries in YAML(typ="safe").load(block).items():
            set_params(project, **{f"{section}__{key}": value for key, value in entries.items()})
    set_params(project, experiment__variants=["alignformer"], experiment__reference="alignformer")
    set_params(project, experiment__highlight="alignformer")
    for command in blocks["sh"][1].splitlines():
        run(clone, *command.split())
    if (photographs := root.parent / "shared" / "data" / "refer_true").is_dir():
        shutil.copytree(photographs, folder / "release", copy_function=shutil.copyfile)
        set_params(project, experiment__datasets=["cups", "refer_true"], datasets__refer_true__root="../release")
    run(clone, *blocks["sh"][2].split())
    return project


def test_the_page_leads_to_a_report(project):
    expressions = pd.read_parquet(project / "data/cups/expressions.parquet")
    assert len(expressions) == 48 and set(expressions["split"]) == {"train", "val", "test"}
    inspection = (project / "results/inspection/cups.html").read_text(encoding="utf-8")
    assert "the cup, left" in inspection and "0001.png" in inspection
    report = (project / "reports/index.html").read_text(encoding="utf-8")
    assert "cups" in report and "the cup, " in report
    assert "alignformer" in (project / "reports/tables/cups.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("shared_data")
def test_photographs_beside_them_go_to_the_report(project):
    page = (project / "reports/index.html").read_text(encoding="utf-8")
    assert page.count("not the whole refcoco (unc)") >= 2 and "refer_true" in page and "cups" in page
    table = (project / "reports/tables/refer_true.md").read_text(encoding="utf-8")
    assert "alignformer" in table and "not the whole refcoco (unc)" in table


def test_the_default_experiment_is_as_it_was_and_goes_on_at_once(project, reproduced, monkeypatch, tmp_path):
    after, before = project.parents[1], reproduced.copied_to(tmp_path / "before")
    assert ran(run(after, "dvc", "repro")) == {"params", "fingerprint@scenes"}
    files = [path.relative_to(before) for path in (before / "reports").rglob("*") if path.is_file()]
    for path in [Path("dvc.lock"), Path("params.yaml"), *files]:
        assert (after / path).read_bytes() == (before / path).read_bytes(), path

    def runs(folder: Path) -> set:
        monkeypatch.chdir(folder)
        return mlflow_state.ids()

    assert runs(after) == runs(before)
    assert len(mlflow_state.contents()["runs"]) == 3
    monkeypatch.chdir(project)
    assert "cups small" in mlflow_state.contents()["runs"]  # in an MLflow experiment of its own


def test_a_clone_that_pulls_has_both_experiments(project, monkeypatch):
    clone = project.parents[1]
    fresh = clone.with_name("fresh")
    run(clone, "dvc", "remote", "add", "--quiet", "--default", "store", "../store")
    run(clone, "git", "add", "--all")
    run(clone, "git", "-c", "user.name=A", "-c", "user.email=a@b.example", "commit", "--quiet", "--message", "both")
    run(clone, "dvc", "push")
    run(clone, "git", "clone", "--quiet", ".", str(fresh))
    run(fresh, "dvc", "pull")
    done = ran(run(fresh, "dvc", "repro", "--all-pipelines"))
    assert {name for name in done if "fingerprint@" not in name} == {
        *("params", "experiments/mine/dvc.yaml:params"),
        "report",  # of the default experiment, which links to the other's: that has been committed
    }
    assert run(fresh, "git", "status", "--porcelain").split() == ["M", "dvc.lock", "M", "reports/index.html"]
    monkeypatch.chdir(fresh / "experiments" / "mine")
    stale, looked = check(read_params())
    assert stale == [] and looked.startswith("every file made again")


def test_another_dataset_makes_nothing_stale_but_the_report(project, monkeypatch):
    monkeypatch.chdir(project)
    listed = read_params().experiment.datasets
    set_params(Path(), experiment__datasets=[*listed, "scenes"])
    write_params(["--resolve"])
    stages = dvc_internals.stages(look=True)
    set_params(Path(), experiment__datasets=listed)
    write_params(["--resolve"])
    changed = {stage.name for stage in stages if not (stage.unchanged or stage.outputs)} - {"params"}
    assert "report" in changed and "ablate@scenes" in changed
    assert all("@scenes" in name for name in changed - {"report"})


@pytest.mark.usefixtures("shared_data")
def test_dvc_sees_a_change_outside_the_project_and_copies_no_image(project):
    clone = project.parents[1]
    release = clone.with_name("release")
    images = sorted((release / "images").rglob("*.jpg"))
    hashes = {hashlib.md5(path.read_bytes()).hexdigest() for path in images}
    kept = {"".join(path.parts[-2:]) for path in (clone / ".dvc" / "cache" / "files").rglob("*") if path.is_file()}
    assert kept and not hashes & kept

    look, prepare = "fingerprint@refer_true", "prepare@refer_true"
    (images[0].parent / "unused.jpg").write_bytes(b"an image")
    assert ran(run(project, "dvc", "repro", prepare)) == {"params", look}

    images[0].unlink()
    done = subprocess.run(
        ["dvc", "repro", prepare], cwd=project, env=ENVIRONMENT, capture_output=True, text=True, timeout=540
    )
    assert done.returncode and "image missing (1): image" in done.stderr and images[0].name in done.stderr
