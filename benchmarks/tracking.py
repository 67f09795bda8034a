"""How much of a training's time does logging to MLflow take?

Runs real trainings in a copy of the project and measures the time of everything that `stages.tracking` does. `start` is
its imports, DVC's hashes for the key, and the database, which the first training creates. `log` is params, metrics,
model and end. Seconds are CPU seconds of the training thread, so that other load on the machine matters little;
wall-clock seconds stand beside them.

Needs the prepared dataset: `dvc repro prepare@DATASET`. Adds two rows to `benchmarks/results/tracking.csv`.
"""

import argparse
import json
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from benchmarks import table
from stages.runtime import layout
from stages.runtime.run import Run

RESULTS = Path("benchmarks/results/tracking.csv")
PROJECT = (".dvc/config", "benchmarks", "dvc.yaml", "models", "params.yaml", "stages")
FOUND = "tracking.json"
PARTS = {"start": "start", "log": "log", "log_folder": "log", "end": "log"}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tracking", description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="scenes")
    parser.add_argument("--variant", default="alignformer")
    arguments = parser.parse_args()
    run = Run(arguments.dataset, arguments.variant, 0)
    if not layout.prepared(run.dataset).exists():
        sys.exit(f"error: {layout.prepared(run.dataset)} is missing; make it with: dvc repro prepare@{run.dataset}")
    surroundings = table.surroundings("mlflow", "dvc", "sqlalchemy", "torch")
    command = {"command": f"python -m benchmarks.tracking --dataset {run.dataset} --variant {run.variant}"}
    with tempfile.TemporaryDirectory() as folder:
        place = copy_of_project(Path(folder), run.dataset)
        for database in ("new", "there"):
            row = {"run": run.name, "database": database, **rounded(trained(place, run))}
            shutil.rmtree(place / layout.CHECKPOINTS)  # or the next training would resume from them
            table.append(RESULTS, [surroundings | row | command])
            print(row, flush=True)


def copy_of_project(folder: Path, dataset: str) -> Path:
    for name in PROJECT:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if Path(name).is_dir() else shutil.copy)(name, folder / name)
    shutil.copytree(layout.prepared(dataset), folder / layout.prepared(dataset))
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    return folder


def trained(place: Path, run: Run) -> dict[str, float]:
    """Seconds of one training by part; the training runs in a process of its own."""
    arguments = [word for name, value in run._asdict().items() for word in (f"--{name}", str(value))]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "MLFLOW_"))}
    command = [sys.executable, "-c", "from benchmarks import tracking; tracking.timed()", *arguments]
    subprocess.run(command, cwd=place, env=environment, check=True)
    return json.loads((place / FOUND).read_text())


def timed() -> None:
    """Run the training that the command line names, with clocks, and write their times to a file."""
    from stages.tracking import live

    spent: defaultdict[str, float] = defaultdict(float)
    for method, part in PARTS.items():
        setattr(live.TrainingRun, method, clocked(getattr(live.TrainingRun, method), part, spent))
    clocked(runpy.run_module, "training", spent)("stages.train", run_name="__main__", alter_sys=True)
    Path(FOUND).write_text(json.dumps(spent))


def clocked(function: Callable, part: str, spent: dict[str, float]) -> Callable:
    def call(*arguments, **named):
        wall, cpu = time.perf_counter(), time.thread_time()
        try:
            return function(*arguments, **named)
        finally:
            spent[f"{part}, CPU s"] += time.thread_time() - cpu
            spent[f"{part}, wall s"] += time.perf_counter() - wall

    return call


def rounded(found: dict[str, float]) -> dict[str, float]:
    shares = {
        f"{part}, % of the training": round(100 * found[f"{part}, CPU s"] / found["training, CPU s"], 3)
        for part in ("start", "log")
    }
    return {name: round(value, 3) for name, value in sorted(found.items())} | shares


if __name__ == "__main__":
    main()
