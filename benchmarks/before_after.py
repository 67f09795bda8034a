"""How much CPU time do people wait for beside the training, in two checkouts of the project?

BEFORE and AFTER are two folders in which the default experiment is finished: `dvc repro` has nothing to do. Copies of
both are measured in turn, so that other load on the machine matters little. Seconds are CPU seconds of a command and of
every process that it starts, also those that outlive it.

- `evaluate`, `diagnose`, ...: all stages of that kind, run again one after the other as a flow runs them, per stage.
  `own work` is what a stage computes, from calls in one process, without imports and without MLflow; `overhead` is the
  rest. A training has one epoch, and one variant is trained.
- `all but train`: the sum over the stages of all other kinds: the default experiment without its training time.
- `no-op dvc repro`, `no-op make repro`, `no-op make check`: nothing has changed.

Adds rows to `benchmarks/results/before_after.csv`. Takes 10 minutes for each folder.
"""

import argparse
import ctypes
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from benchmarks import table
from benchmarks.clones import ENVIRONMENT, set_params
from stages.runtime.warm import OWNER

RESULTS = Path("benchmarks/results/before_after.csv")
KINDS = ("prepare", "evaluate", "diagnose", "card", "ablate", "report", "train")  # `train` changes params.yaml: last
PYTHON = sys.executable
DVC, FLOW = (PYTHON, "-m", "dvc", "repro"), (PYTHON, "-m", "pipelines.experiment", "--jobs", "2")
NOOPS = {
    "no-op dvc repro": [DVC],
    "no-op make repro": [(PYTHON, "-m", "stages.params", "--check"), FLOW],
    "no-op make check": [(PYTHON, "-m", "stages.report", "--check")],
}
OWN_WORK = """
import importlib, shlex, shutil, sys, time
from unittest.mock import MagicMock
from stages.runtime import keys
from stages.runtime.startup import start
import stages.tracking
start()
stages.tracking.live = MagicMock()
entries, spent = keys.locked_entries(), []
for stage in [sys.argv[1], *sys.argv[1:]]:  # what the first call imports is not counted
    _, _, module, *sys.argv[1:] = shlex.split(entries[stage]["cmd"])
    main = importlib.import_module(f"{module}.__main__").main
    shutil.rmtree("checkpoints", ignore_errors=True)  # a training would resume
    begin = time.process_time()
    main()
    spent.append(time.process_time() - begin)
print("\\nown work", sum(spent[1:]) / len(spent[1:]))
"""
AGAIN = f"""
import os, subprocess, sys
os.environ["{OWNER}"] = str(os.getpid())
for stage in sys.argv[1:]:
    command = [sys.executable, "-m", "pipelines.dvc", "repro", "--single-item", "--force", stage]
    subprocess.run(command, check=True, start_new_session=True)
"""
ADOPT_ORPHANS = 36  # PR_SET_CHILD_SUBREAPER of Linux


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.before_after", description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path, help="a folder of an earlier commit, in which everything is finished")
    parser.add_argument("after", type=Path, help="the same, of a later commit")
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=KINDS, help=f"default: {' '.join(KINDS)}")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="of each no-op (default: 3)")
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(ADOPT_ORPHANS, 1)
    with tempfile.TemporaryDirectory() as folder:
        sides = [copied(options.before, Path(folder, "before")), copied(options.after, Path(folder, "after"))]
        for what, commands in NOOPS.items():
            in_turn = [[sum(spent(side, *each) for each in commands) for side in sides] for _ in range(options.rounds)]
            record(what, [statistics.median(times) for times in zip(*in_turn, strict=True)], options.rounds)
        rest = [0.0, 0.0]
        for kind in options.kinds:
            stages = of_kind(sides[0], kind)
            for side in sides if kind == "train" else []:
                set_params(side, recipes__small__training__epochs=1)
            totals = [spent(side, PYTHON, "-c", AGAIN, *stages) for side in sides]
            whole = [total / len(stages) for total in totals]
            own = [float(output(side, PYTHON, "-c", OWN_WORK, *stages).rpartition("own work ")[2]) for side in sides]
            record(kind, whole, len(stages))
            record(f"{kind}, own work", own, len(stages))
            record(f"{kind}, overhead", [every - work for every, work in zip(whole, own, strict=True)], len(stages))
            if kind != "train":
                rest = [every + total for every, total in zip(rest, totals, strict=True)]
        if set(options.kinds) >= {*KINDS} - {"train"}:
            record("all but train", rest, 1)


def copied(project: Path, place: Path) -> Path:
    """A copy of a project whose hashes DVC knows. Ends the process where something is to be run in it."""
    shutil.copytree(project, place, symlinks=True, ignore=shutil.ignore_patterns(".venv", ".prefect"))
    printed = output(place, *DVC) + output(place, *FLOW)  # the first flow makes Prefect's database
    if "Running stage 'train" in printed or "Running stage 'evaluate" in printed:
        sys.exit(f"error: {project} is not finished: dvc repro had something to run in it")
    output(place, PYTHON, "-m", "stages.report", "--check")  # the first has no earlier one to remember
    return place


def of_kind(side: Path, kind: str) -> list[str]:
    """The stages of a kind; of the trainings, those of one variant."""
    listed = output(side, PYTHON, "-m", "dvc", "stage", "list", "--name-only").split()
    return [name for name in listed if name.partition("@")[0] == kind and (kind != "train" or "-alignformer-" in name)]


def spent(side: Path, *command: str) -> float:
    """CPU seconds of a command and of all that it started, which may end a little later."""
    before = table.cpu_of_children()
    output(side, *command)
    with suppress(ChildProcessError):  # no process is left
        while True:
            os.wait()
    return table.cpu_of_children() - before


def output(side: Path, *command: str) -> str:
    done = subprocess.run(
        command, cwd=side, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        sys.exit(
            f"error: {' '.join(command[1:5])} in {side.name} ended with code {done.returncode}:\n{done.stdout[-3000:]}"
        )
    return done.stdout


def record(what: str, seconds: list[float], rounds: int) -> None:
    before, after = seconds
    row = {
        **table.surroundings("torch", "transformers", "dvc", "mlflow", "prefect"),
        "what": what,
        "before, CPU s": round(before, 2),
        "after, CPU s": round(after, 2),
        "ratio": round(after / before, 2),
        "rounds": rounds,
        "command": "python -m benchmarks.before_after BEFORE AFTER",
    }
    print(f"{what}: {before:.2f} -> {after:.2f} CPU s, ratio {row['ratio']}", flush=True)
    table.append(RESULTS, [row])


if __name__ == "__main__":
    main()
