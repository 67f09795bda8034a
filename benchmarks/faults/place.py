"""The tiny projects that faults are injected into, and the outputs of an undisturbed run of them."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from benchmarks.clones import ENVIRONMENT, clone, run, set_params, tiny
from stages.runtime import keys

ROOT = Path(__file__).resolve().parents[2]
EPOCHS, BATCH = 3, 4
STATES = {  # state -> DVC targets that lead to it from the state before
    "prepared": ["prepare"],
    "trained": ["train"],
    "evaluated": ["evaluate"],
    "compared": ["diagnose", "ablate"],
    "whole": [],
}
SORTED = "from pipelines.dvc import dag; dag.sort_lock(dag.read())"
OUTPUTS = ("data", "results", "reports")
RUNS_OF_ITS_OWN = (
    "mlflow.db",
    "mlflow.db.lock",
    "mlartifacts",
)  # they hold the path of the folder that they were created in

Files = dict[str, str]  # path -> SHA-256


class Places:
    """Copies of one project in every state of `STATES`, and `empty`, made once by plain `dvc repro`."""

    def __init__(self, folder: Path):
        self.folder = folder
        place = folder / "reference"
        place.mkdir(parents=True)
        set_params(
            tiny(clone(ROOT, place)),
            recipes__small__training__epochs=EPOCHS,
            recipes__small__training__batch_size=BATCH,
        )
        run(place, sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y")
        self._keep("empty")
        for state, targets in STATES.items():
            run(place, "dvc", "repro", *targets)
            run(place, sys.executable, "-c", SORTED)  # `dvc repro train` takes its seeds and variants in any order
            self._keep(state)
        self.lock = keys.locked_entries(place / keys.LOCK)
        self.files = files(place)

    def _keep(self, state: str) -> None:
        ignore = shutil.ignore_patterns(*RUNS_OF_ITS_OWN)
        shutil.copytree(self.folder / "reference", self.folder / state, symlinks=True, ignore=ignore)

    def copy(self, state: str, folder: Path) -> Path:
        """Copy the project in that state to a folder, which may exist if it is empty."""
        return Path(shutil.copytree(self.folder / state, folder, symlinks=True, dirs_exist_ok=True))


def files(place: Path) -> Files:
    """Every file below the output folders, with its SHA-256."""
    found = {}
    for folder in OUTPUTS:
        for path in sorted((place / folder).rglob("*")):
            if path.is_file() and path.name != ".gitignore":
                with path.open("rb") as file:
                    found[str(path.relative_to(place))] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def environment(mark: dict[str, str], **more: str) -> dict[str, str]:
    """The environment of an injection's processes: with the mark, without the user's settings of Prefect and MLflow."""
    kept = {name: value for name, value in ENVIRONMENT.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    return {**kept, "PYTHONUNBUFFERED": "1", **mark, **more}


def start(place: Path, *command: str, said: Path, env: dict[str, str]) -> subprocess.Popen:
    """Start a command in a session of its own; its output is appended to a file."""
    with said.open("ab") as file:
        return subprocess.Popen(
            command,
            cwd=place,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job ignores it otherwise
        )


def declared(lock: dict[str, dict]) -> list[str]:
    """Paths of all outputs in the entries of a dvc.lock."""
    return [out["path"] for entry in lock.values() for out in entry.get("outs", [])]


def below(path: str, found: Files) -> Files:
    """The files at a path or below it."""
    return {name: digest for name, digest in found.items() if name == path or name.startswith(path + os.sep)}
