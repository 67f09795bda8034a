"""Files that `params.yaml` names, from the temporary copies in which DVC runs queued experiments."""

from pathlib import Path

import pytest
from PIL import Image

from stages.data import prepared
from stages.prepare import sources
from stages.prepare.problems import DatasetError
from stages.runtime import layout
from stages.runtime.params import CocoSource


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose images lie beside it, and whose annotations git does not track."""
    monkeypatch.delenv("DVC_ROOT", raising=False)
    folder = tmp_path / "project"
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (8, 6), "red").save(tmp_path / "photos" / "red.png")
    (folder / "own").mkdir(parents=True)
    (folder / "own" / "instances.json").write_text('{"images": [{"id": 1, "file_name": "red.png"}]}')
    (folder / "own" / "expressions.csv").write_text("ann_id,expression\n")
    monkeypatch.chdir(folder)
    return folder


def source() -> CocoSource:
    return CocoSource(
        kind="coco", instances="own/instances.json", expressions="own/expressions.csv", images="../photos"
    )


def test_a_copy_of_the_project_finds_what_only_the_project_has(project, monkeypatch):
    expected = sources.external(source())
    assert expected["images"]["../photos"]["files"] == 1
    copy = project / ".dvc" / "tmp" / "exps" / "tmp1"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DVC_ROOT", str(project))
    assert sources.external(source()) == expected
    assert prepared.read_image("../photos/red.png", (8, 6)).getpixel((0, 0)) == (255, 0, 0)
    assert layout.project() == project

    (copy / "own").mkdir()
    (copy / "own" / "instances.json").write_text("[]")  # its own, where it has one
    assert layout.source("own/instances.json").read_text() == "[]"


def test_a_variable_of_another_projects_dvc_changes_nothing(project, tmp_path, monkeypatch):
    other = tmp_path / "other"
    (other / "own").mkdir(parents=True)
    (other / "own" / "instances.json").write_text("of another project")
    (project / "own" / "instances.json").unlink()
    monkeypatch.setenv("DVC_ROOT", str(other))
    assert layout.project() == Path()
    with pytest.raises(DatasetError, match=r"own/instances\.json: No such file"):
        sources.external(source())
