"""A clone of the project, with a tiny setting, in which the real commands run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML

ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "MLFLOW_TRACKING"))},
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
}
VARIANTS = ["baseline", "alignformer"]


def run(folder: Path, *command: str) -> str:
    """Run a command in a folder; returns its output. Raises AssertionError if it fails."""
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=540)
    assert done.returncode == 0, f"{command} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout + done.stderr


def clone(root: Path, folder: Path, params: Path | None = None) -> Path:
    """Copy the checkout, with its uncommitted changes, into a new repository; no experiment has run there.

    Args:
        params: the file that becomes its `params.yaml`; None for that of the checkout.
    """
    files = run(root, "git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    for name in files:
        path = root / name
        if (path.is_file() or path.is_symlink()) and not _of_a_run(Path(name)):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / name, follow_symlinks=False)
    if params:
        shutil.copy(params, folder / "params.yaml")
    run(folder, "git", "init", "--quiet")
    return folder


def _of_a_run(path: Path) -> bool:
    """Whether a file of the project is there because an experiment has run."""
    if path.parts[0] == "experiments":
        return path.name not in ("README.md", "params.yaml")
    return "reports" in path.parts or path.name == "dvc.lock"


def set_params(folder: Path, **changes) -> None:
    """Change values in `params.yaml`, or add them; `experiment__seeds` stands for `experiment.seeds`."""
    yaml = YAML()
    content = yaml.load(folder / "params.yaml")
    for dotted, value in changes.items():
        *parents, last = dotted.split("__")
        part = content
        for parent in parents:
            part = part.setdefault(parent, {})
        part[last] = value
    yaml.dump(content, folder / "params.yaml")


def tiny(folder: Path) -> Path:
    """Reduce the experiment of a clone to two variants, one seed, one epoch and 24 images."""
    set_params(
        folder,
        experiment__variants=VARIANTS,
        experiment__seeds=[0],
        datasets__scenes__image_counts={"train": 12, "val": 4, "testA": 4, "testB": 4},
        recipes__small__training__epochs=1,
    )
    return folder


def ran(output: str) -> set[str]:
    """The stages that DVC ran, from its output."""
    return {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage '")}
