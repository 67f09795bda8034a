"""A clone of the project with the parameters of the tests, whatever a user has made of `params.yaml`."""

from pathlib import Path

from benchmarks import clones

PARAMS = Path(__file__).with_name("params.yaml")


def clone(root: Path, folder: Path) -> Path:
    """As `benchmarks.clones.clone`, with `PARAMS` as its `params.yaml`."""
    return clones.clone(root, folder, PARAMS)
