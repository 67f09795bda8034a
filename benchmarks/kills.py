"""Does a training that is killed again and again end with the same bits as one that is left alone?

Trains once without a break, then again and again with `kill -9` at random times, in a copy of the project. A killed
training is started by the same command until it ends; then the SHA-256 of its `model.safetensors` and of its history
are compared with those of the first. The history has every metric on val.

Needs `dvc repro prepare` first, of the dataset. Adds a row a kill to `benchmarks/results/kills.csv`, after each of the
trainings. Ends with exit code 1 where a bit differs.
"""

import argparse
import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import table
from stages.runtime import layout
from stages.runtime.run import Run

RESULTS = Path("benchmarks/results/kills.csv")
PROJECT = ("models", "stages", "params.yaml")
CHAIN = 5  # kills in one training
CHECKPOINT_SECONDS = 2.0  # so that kills meet steps, checkpoints and validation alike
RESUMED = re.compile(r"^resuming at (.*), from ", re.MULTILINE)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the times of the kills")
    parser.add_argument("--dataset", default="scenes")
    parser.add_argument("--variant", default="alignformer")
    arguments = parser.parse_args()
    cell, times = Run(arguments.dataset, arguments.variant, 0), random.Random(arguments.seed)
    if not layout.prepared(cell.dataset).exists():
        sys.exit(f"error: {layout.prepared(cell.dataset)} is not there; make it with: dvc repro prepare@{cell.dataset}")

    described = {"run": "-".join(map(str, cell)), "seed of the times": arguments.seed}
    command = {"command": f"python -m benchmarks.kills --kills {arguments.kills} --seed {arguments.seed}"}
    surroundings = table.surroundings("torch", "transformers", "accelerate")
    done, different = 0, 0
    with tempfile.TemporaryDirectory() as folder:
        place = copy_of_project(Path(folder))
        whole, seconds = trained(place, cell)
        print(f"without a break: {seconds:.0f} s, {whole}", flush=True)
        while done < arguments.kills:
            kills, found = killed(place, cell, times, min(CHAIN, arguments.kills - done), seconds)
            same = {"identical": "yes" if found == whole else "no"}
            table.append(RESULTS, [surroundings | described | kill | same | command for kill in kills])
            done, different = done + len(kills), different + (found != whole)
            print(f"{done} kills; the last training: {found}", flush=True)
    if different:
        sys.exit(f"error: {different} trainings that were killed have other bits than the one without a break")


def copy_of_project(folder: Path) -> Path:
    """Code and parameters as they are now, whatever is edited meanwhile; the data are the project's own."""
    for name in PROJECT:
        (shutil.copytree if Path(name).is_dir() else shutil.copy)(name, folder / name)
    (folder / layout.DATA).symlink_to(layout.DATA.absolute())
    return folder


def start(place: Path, cell: Run) -> subprocess.Popen:
    """The real command, in a fresh process; what it says is left in `said`."""
    command = [sys.executable, "-m", "stages.train", "--checkpoint-seconds", str(CHECKPOINT_SECONDS)]
    for name, value in cell._asdict().items():
        command += [f"--{name}", str(value)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "MLFLOW_"))}
    with (place / "said").open("w") as said:
        return subprocess.Popen(command, cwd=place, env=environment, stdout=said, stderr=subprocess.STDOUT)


def trained(place: Path, cell: Run) -> tuple[str, float]:
    """Hashes of the outputs of a training that is left alone, and how long it took from its lock on."""
    process = start(place, cell)
    wait_for_lock(place, cell, process)
    began = time.monotonic()
    return ended(place, cell, process), time.monotonic() - began


def killed(place: Path, cell: Run, times: random.Random, kills: int, seconds: float) -> tuple[list[dict], str]:
    """A training that is killed at most so many times: a row a kill, and the hashes of its outputs.

    Args:
        seconds: that it takes without a break; kills come after a random part of their share of it, twice at most.
    """
    rows = []
    for _ in range(kills):
        process = start(place, cell)
        wait_for_lock(place, cell, process)
        after = times.uniform(0, 2 * seconds / (kills + 1))
        try:
            process.wait(after)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            note_resumption(rows, place)
            rows.append({"killed after, s": round(after, 2)})
        else:
            break
    else:
        process = start(place, cell)
    found = ended(place, cell, process)
    note_resumption(rows, place)
    return rows, found


def note_resumption(rows: list[dict], place: Path) -> None:
    """In the row of the last kill: where the start after it went on."""
    if rows:
        said = RESUMED.search((place / "said").read_text())
        rows[-1]["resumed at"] = said[1] if said else "the beginning"


def wait_for_lock(place: Path, cell: Run, process: subprocess.Popen) -> None:
    """Until the trainer has the run for itself: its libraries are loaded, its work begins."""
    checkpoints = place / layout.checkpoints(*cell)
    holder = checkpoints.with_name(f"{checkpoints.name}.holder")
    while not (holder.exists() and f"process {process.pid} " in holder.read_text()) and process.poll() is None:
        time.sleep(0.01)


def ended(place: Path, cell: Run, process: subprocess.Popen) -> str:
    """Hashes of the outputs, which are removed, of a training that comes to its end."""
    if process.wait():
        sys.exit(f"error: the training ended with code {process.returncode}:\n{(place / 'said').read_text()}")
    outputs = place / layout.model(*cell) / "model.safetensors", place / layout.history(*cell)
    hashes = [hashlib.sha256(file.read_bytes()).hexdigest()[:16] for file in outputs]
    shutil.rmtree(place / layout.RESULTS)
    shutil.rmtree(place / layout.checkpoints(*cell))
    return f"model {hashes[0]}, history {hashes[1]}"


if __name__ == "__main__":
    main()
