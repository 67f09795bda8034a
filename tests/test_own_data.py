"""docs/own_data.md, followed to the letter on a dozen generated images."""

import csv
import json
import re

import pandas as pd
import pytest
from PIL import Image, ImageDraw
from ruamel.yaml import YAML

from benchmarks.clones import run, set_params
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


def test_the_page_leads_to_a_report(blocks, root, tmp_path):
    project = clone(root, tmp_path / "project")
    write_cups(tmp_path / "cups", json.loads(blocks["json"][0]), blocks["csv"][0].splitlines()[0])
    for block in blocks["yaml"]:
        for section, entries in YAML(typ="safe").load(block).items():
            set_params(project, **{f"{section}__{key}": value for key, value in entries.items()})
    set_params(project, experiment__variants=["alignformer"], experiment__reference="alignformer")
    set_params(project, experiment__seeds=[0], recipes__small__training__epochs=1)

    assert blocks["sh"] == ["dvc repro prepare@cups\npython -m stages.prepare --inspect cups\n", "dvc repro\n"]
    for command in "".join(blocks["sh"]).splitlines():
        run(project, *command.split())

    expressions = pd.read_parquet(project / "data/cups/expressions.parquet")
    assert len(expressions) == 48 and set(expressions["split"]) == {"train", "val", "test"}
    inspection = (project / "results/inspection/cups.html").read_text(encoding="utf-8")
    assert "the cup, left" in inspection and "0001.png" in inspection
    report = (project / "reports/index.html").read_text(encoding="utf-8")
    assert "cups" in report and "the cup, " in report
    assert "alignformer" in (project / "reports/tables/cups.md").read_text(encoding="utf-8")
