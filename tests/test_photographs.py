"""Real photographs through the real commands: to a report page, and what DVC sees of files outside the project."""

import shutil
import subprocess

import pytest

from benchmarks.clones import ENVIRONMENT, ran, run, set_params, tiny
from tests.project import clone

pytestmark = pytest.mark.programs


def test_photographs_go_from_prepare_to_a_report_page(root, shared_data, tmp_path):
    names = ["refer_true", "refer_mini"]
    folder = tiny(clone(root, tmp_path))
    set_params(
        folder,
        experiment__datasets=names,
        experiment__variants=["alignformer"],
        experiment__reference="alignformer",
        **{f"datasets__{name}__root": str(shared_data / name) for name in names},
    )
    run(folder, "dvc", "repro")
    page = (folder / "reports/index.html").read_text()
    assert page.count("not the whole refcoco (unc)") >= 2
    for name in names:
        table = (folder / f"reports/tables/{name}.md").read_text()
        assert "alignformer" in table and "not the whole refcoco (unc)" in table
        assert name in page


def test_dvc_sees_a_change_outside_the_project_and_copies_no_image(root, shared_data, tmp_path):
    folder = tiny(clone(root, tmp_path / "project"))
    release = tmp_path / "release"
    shutil.copytree(shared_data / "refer_true", release, copy_function=shutil.copyfile)
    set_params(
        folder,
        experiment__datasets=["refer_true"],
        datasets__refer_true__root="../release",
    )
    look, prepare = "fingerprint@refer_true", "prepare@refer_true"
    assert ran(run(folder, "dvc", "repro", prepare)) == {look, prepare}
    assert ran(run(folder, "dvc", "repro", prepare)) == {look}
    images = sorted((release / "images").rglob("*.jpg"))
    assert sum(path.stat().st_size for path in (folder / ".dvc" / "cache").rglob("*")) < images[0].stat().st_size

    (images[0].parent / "unused.jpg").write_bytes(b"an image")
    assert ran(run(folder, "dvc", "repro", prepare)) == {look}

    images[0].unlink()
    done = subprocess.run(
        ["dvc", "repro", prepare], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=100
    )
    assert done.returncode and "image missing (1): image" in done.stderr and images[0].name in done.stderr
