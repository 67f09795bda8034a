"""Clones of the project with the tests' own parameters, so that a user's `params.yaml` does not matter."""

import multiprocessing
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from benchmarks import clones

PARAMS = Path(__file__).with_name("params.yaml")
LOOPBACK = Path(__file__).with_name("loopback")

# The experiments that the project brings along.
READY = ("contrast_random", "contrast_sweep", "factorial", "photographs", "refcoco")

PREPARED = {  # for a Prefect server on a copy of the fixture `prefect_database`: half of its start is for nothing
    "PREFECT_SERVER_DATABASE_MIGRATE_ON_START": "false",
    "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",
    "PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",
}

EACH_TIME = """
stages:
  look:
    cmd: cat source.txt > seen.txt
    always_changed: true
    outs:
      - seen.txt:
          cache: false
  prepare:
    cmd: cp seen.txt prepared.txt
    deps:
      - seen.txt
    outs:
      - prepared.txt
"""


def forked(call: Callable, *arguments: object) -> list:
    """What a function returns for each argument, in children of this process that start together."""
    context = multiprocessing.get_context("fork")
    together = context.Barrier(len(arguments))
    with context.Pool(len(arguments), together.wait) as pool:
        return pool.map(call, arguments, chunksize=1)


def clone(root: Path, folder: Path) -> Path:
    """`benchmarks.clones.clone` with tests/params.yaml as the `params.yaml` of the clone."""
    return clones.clone(root, folder, PARAMS)


def dvc(*arguments: str) -> int:
    """DVC's command on the project in the current folder, in this process, as its start takes longer. Its exit code."""
    from dvc.cli import main

    return main(list(arguments))


class Watched:
    """A folder whose processes may use loopback alone; what they try beyond it is written into a folder of logs."""

    def __init__(self, folder: Path, log: Path):
        self.folder, self.log = folder, log
        log.mkdir(exist_ok=True)
        path = os.pathsep.join(filter(None, (str(LOOPBACK), os.environ.get("PYTHONPATH"))))
        own = {
            name: value for name, value in clones.ENVIRONMENT.items() if not name.startswith(("PREFECT_API", "MLFLOW_"))
        }
        self.environment = {**own, "PYTHONPATH": path, "LOOPBACK_LOG": str(log)}

    def copied_to(self, folder: Path) -> Path:
        """A copy of the folder, to work in."""
        return shutil.copytree(self.folder, folder, symlinks=True)

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=540
        )
        assert done.returncode == 0, f"{command} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout + done.stderr

    def tried(self, *needed: str) -> list[str]:
        """What was refused so far; each of the needed words is in the command of a process that was watched."""
        said = [file.read_text().splitlines() for file in self.log.iterdir()]
        for words in needed:
            assert any(words in lines[0] for lines in said), f"no process {words!r} was watched"
        return [f"{lines[0]}: {call}" for lines in said for call in lines[1:]]
