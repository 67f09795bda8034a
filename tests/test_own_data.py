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
from stages.runtime import dvc_internals
from stages.runtime.params import read as read_params
from tests.project import clone

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
def project(programs, blocks, root, tmp_path_factory) -> Path:
    """The project after all that the page says, with photographs as a second dataset where there are any."""
    folder = tmp_path_factory.mktemp("own_data")
    project = clone(root, folder / "project")
    write_cups(folder / "cups", json.loads(blocks["json"][0]), blocks["csv"][0].splitlines()[0])
    for block in blocks["yaml"]:
        for section, entries in YAML(typ="safe").load(block).items():
            set_params(project, **{f"{section}__{key}": value for key, value in entries.items()})
    set_params(project, experiment__variants=["alignformer"], experiment__reference="alignformer")
    set_params(project, experiment__seeds=[0], recipes__small__training__epochs=1)

    assert blocks["sh"] == ["dvc repro prepare@cups\npython -m stages.prepare --inspect cups\n", "dvc repro\n"]
    for command in blocks["sh"][0].splitlines():
        run(project, *command.split())
    if (photographs := root.parent / "shared" / "data" / "refer_true").is_dir():
        shutil.copytree(photographs, folder / "release", copy_function=shutil.copyfile)
        set_params(project, experiment__datasets=["cups", "refer_true"], datasets__refer_true__root="../release")
    run(project, *blocks["sh"][1].split())
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


def test_another_dataset_makes_nothing_stale_but_the_report(project, monkeypatch):
    monkeypatch.chdir(project)
    listed = read_params().experiment.datasets
    set_params(project, experiment__datasets=[*listed, "scenes"])
    stages = dvc_internals.stages(look=True)
    set_params(project, experiment__datasets=listed)
    changed = {stage.name for stage in stages if not (stage.unchanged or stage.outputs)}
    assert "report" in changed and "ablate@scenes" in changed
    assert all("@scenes" in name for name in changed - {"report"})


@pytest.mark.usefixtures("shared_data")
def test_dvc_sees_a_change_outside_the_project_and_copies_no_image(project):
    release = project.with_name("release")
    images = sorted((release / "images").rglob("*.jpg"))
    hashes = {hashlib.md5(path.read_bytes()).hexdigest() for path in images}
    kept = {"".join(path.parts[-2:]) for path in (project / ".dvc" / "cache" / "files").rglob("*") if path.is_file()}
    assert kept and not hashes & kept

    look, prepare = "fingerprint@refer_true", "prepare@refer_true"
    (images[0].parent / "unused.jpg").write_bytes(b"an image")
    assert ran(run(project, "dvc", "repro", prepare)) == {look}

    images[0].unlink()
    done = subprocess.run(
        ["dvc", "repro", prepare], cwd=project, env=ENVIRONMENT, capture_output=True, text=True, timeout=540
    )
    assert done.returncode and "image missing (1): image" in done.stderr and images[0].name in done.stderr
