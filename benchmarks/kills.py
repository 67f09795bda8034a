"""Does a training that is killed many times end with the same bits as an undisturbed one?

Trains in a copy of the project, once without a break and then several times with `kill -9` at random times. The same
command starts a killed training again until it ends. Then the SHA-256 of its `model.safetensors` and of its history,
which has every metric on val, are compared with those of the first training.

Needs the prepared dataset: `dvc repro prepare@DATASET`. Adds one row per kill to `benchmarks/results/kills.csv` after
each training. The exit code is 1 if a bit differs.
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
    parser.add_argument("--seed", type=int, default=0, help="seed of the times of the kills")
    parser.add_argument("--dataset", default="scenes")
    parser.add_argument("--variant", default="alignformer")
    arguments = parser.parse_args()
    run, times = Run(arguments.dataset, arguments.variant, 0), random.Random(arguments.seed)
    if not layout.prepared(run.dataset).exists():
        sys.exit(f"error: {layout.prepared(run.dataset)} is missing; make it with: dvc repro prepare@{run.dataset}")

    described = {"run": run.name, "seed of the times": arguments.seed}
    command = {"command": f"python -m benchmarks.kills --kills {arguments.kills} --seed {arguments.seed}"}
    surroundings = table.surroundings("torch", "transformers", "accelerate")
    done, different = 0, 0
    with tempfile.TemporaryDirectory() as folder:
        place = copy_of_project(Path(folder))
        whole, seconds = trained(place, run)
        print(f"without a break: {seconds:.0f} s, {whole}", flush=True)
        while done < arguments.kills:
            kills, found = killed(place, run, times, min(CHAIN, arguments.kills - done), seconds)
            same = {"identical": "yes" if found == whole else "no"}
            table.append(RESULTS, [surroundings | described | kill | same | command for kill in kills])
            done, different = done + len(kills), different + (found != whole)
            print(f"{done} kills; the last training: {found}", flush=True)
    if different:
        sys.exit(f"error: {different} killed trainings have other bits than the undisturbed one")


def copy_of_project(folder: Path) -> Path:
    """Copy code and parameters, so that later edits do not matter, and link to the project's data."""
    for name in PROJECT:
        (shutil.copytree if Path(name).is_dir() else shutil.copy)(name, folder / name)
    (folder / layout.DATA).symlink_to(layout.DATA.absolute())
    return folder


def start(place: Path, run: Run) -> subprocess.Popen:
    """Start the real command in a new process; its output goes to the file `said`."""
    command = [sys.executable, "-m", "stages.train", "--checkpoint-seconds", str(CHECKPOINT_SECONDS)]
    for name, value in run._asdict().items():
        command += [f"--{name}", str(value)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "MLFLOW_"))}
    with (place / "said").open("w") as said:
        return subprocess.Popen(command, cwd=place, env=environment, stdout=said, stderr=subprocess.STDOUT)


def trained(place: Path, run: Run) -> tuple[str, float]:
    """Hashes of the outputs of an undisturbed training, and the seconds that it took after it had its lock."""
    process = start(place, run)
    wait_for_lock(place, run, process)
    began = time.monotonic()
    return ended(place, run, process), time.monotonic() - began


def killed(place: Path, run: Run, times: random.Random, kills: int, seconds: float) -> tuple[list[dict], str]:
    """Run a training and kill it at most `kills` times: one row per kill, and the hashes of its outputs.

    Args:
        seconds: duration of an undisturbed training. Each kill comes after at most 2 * seconds / (kills + 1).
    """
    rows = []
    for _ in range(kills):
        process = start(place, run)
        wait_for_lock(place, run, process)
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
        process = start(place, run)
    found = ended(place, run, process)
    note_resumption(rows, place)
    return rows, found


def note_resumption(rows: list[dict], place: Path) -> None:
    """Write into the row of the last kill where the start after it resumed."""
    if rows:
        said = RESUMED.search((place / "said").read_text())
        rows[-1]["resumed at"] = said[1] if said else "the beginning"


def wait_for_lock(place: Path, run: Run, process: subprocess.Popen) -> None:
    """Wait until the trainer holds the lock of its run: its libraries are loaded, and its work begins."""
    checkpoints = place / layout.checkpoints(*run)
    holder = checkpoints.with_name(f"{checkpoints.name}.holder")
    while not (holder.exists() and f"process {process.pid} " in holder.read_text()) and process.poll() is None:
        time.sleep(0.01)


def ended(place: Path, run: Run, process: subprocess.Popen) -> str:
    """Wait for a training to end; returns the hashes of its outputs and removes them."""
    if process.wait():
        sys.exit(f"error: the training ended with code {process.returncode}:\n{(place / 'said').read_text()}")
    outputs = place / layout.model(*run) / "model.safetensors", place / layout.history(*run)
    hashes = [hashlib.sha256(file.read_bytes()).hexdigest()[:16] for file in outputs]
    shutil.rmtree(place / layout.RESULTS)
    shutil.rmtree(place / layout.checkpoints(*run))
    return f"model {hashes[0]}, history {hashes[1]}"


if __name__ == "__main__":
    main()
