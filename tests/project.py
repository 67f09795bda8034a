"""A clone of the project with the tests' own parameters, so that a user's `params.yaml` does not matter."""

from pathlib import Path

from benchmarks import clones

PARAMS = Path(__file__).with_name("params.yaml")


def clone(root: Path, folder: Path) -> Path:
    """`benchmarks.clones.clone` with tests/params.yaml as the `params.yaml` of the clone."""
    return clones.clone(root, folder, PARAMS)
