"""The same photographs as a REFER release and in another format: what is trained and scored on them is the same."""

import shutil
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from benchmarks.clones import clone, run, set_params, tiny
from stages.prepare.formats.refer import ReferFiles
from tests.project import PARAMS
from tests.stages.prepare import written_formats
from tests.stages.prepare.written_formats import Source

pytestmark = pytest.mark.programs

RUN = "alignformer-0"


@pytest.fixture(scope="module")
def outputs(root, shared_data, tmp_path_factory) -> dict[str, dict[str, str]]:
    """Dataset -> output of training and evaluation -> its hash in `dvc.lock`; `release` as REFER, `hub` as Parquet."""
    folder = tmp_path_factory.mktemp("downstream")
    shutil.copytree(shared_data / "refer_true", folder / "release", copy_function=shutil.copyfile)
    files = ReferFiles(folder / "release", "refcoco", "unc")
    source = Source.of(files)
    written_formats.parquet(source, folder / "hub")
    written_formats.coco(source, folder / "hub")
    project = tiny(clone(root, folder / "project", PARAMS))
    both = {"name": "refcoco", "split_by": "unc", "sentence": "sent", "allow_partial": True}
    images = str(Path("../release") / files.image_folder().relative_to(folder / "release"))
    set_params(
        project,
        experiment__datasets=["release", "hub"],
        experiment__variants=["alignformer"],
        experiment__reference="alignformer",
        datasets__release={"kind": "refer", "root": "../release", **both},
        datasets__hub={"kind": "parquet", "root": "../hub", "images": images, **both},
    )
    run(project, sys.executable, "-m", "dvc", "repro", *(f"evaluate@{name}-{RUN}" for name in ("release", "hub")))
    stages = YAML(typ="safe").load(project / "dvc.lock")["stages"]
    return {
        name: {
            out["path"].replace(f"/{name}/", "/D/").replace(f"/{name}.", "/D."): out["md5"]
            for stage in ("train", "evaluate")
            for out in stages[f"{stage}@{name}-{RUN}"]["outs"]
        }
        for name in ("release", "hub")
    }


def test_weights_curves_and_scores_are_the_same(outputs):
    for of in outputs.values():
        of.pop(f"results/models/D/{RUN.replace('-', '/')}/config.json")  # it names the dataset
    release, hub = outputs["release"], outputs["hub"]
    assert len(release) >= 6 and any(path.endswith("model.safetensors") for path in release)
    assert any(path.startswith("results/scores/") for path in release)
    assert hub == release
