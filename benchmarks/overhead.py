"""How much more time does the flow take than plain `dvc repro`, and how much does `--jobs 2` save?

`noop`: everything is up to date. `tiny`: the whole DAG from nothing, on a tiny setting. In these two, `dvc repro` and
the flow take turns, so that other load on the machine affects both. `default`: the flow runs the experiment of
`params.yaml` from nothing, once for each value of `--jobs`: hours on two cores, 20 minutes with `--epochs 1`.

Adds rows to `benchmarks/results/overhead.csv`.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import table
from benchmarks.clones import ENVIRONMENT, clone, run, tiny

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path("benchmarks/results/overhead.csv")
FLOW = (sys.executable, "-m", "pipelines.experiment")
COMMANDS = {
    "dvc repro": (sys.executable, "-m", "dvc", "repro"),
    "flow": FLOW,
    "flow, --jobs 2": (*FLOW, "--jobs", "2"),
}
ROUNDS = {"noop": 5, "tiny": 1}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["noop", "tiny", "default"])
    parser.add_argument(
        "--jobs", type=int, nargs="+", default=[2, 1], metavar="N", help="values of --jobs for `default` (default: 2 1)"
    )
    parser.add_argument(
        "--epochs", type=int, metavar="N", help="epochs of each training in `default` (default: the recipe's)"
    )
    options = parser.parse_args()
    if options.what == "default":
        fewer = ["--set", f"recipes.small.training.epochs={options.epochs}"] if options.epochs else []
        for jobs in options.jobs:
            with project(small=False) as folder:
                command = (*FLOW, "--jobs", str(jobs), *fewer)
                record(" ".join(["default", *fewer]), f"flow, --jobs {jobs}", [seconds(folder, *command)])
        return
    measured = noop() if options.what == "noop" else from_nothing()
    for how, times in measured.items():
        record(options.what, how, times, measured["dvc repro"])


def noop() -> dict[str, list[float]]:
    """Seconds of each command in one project where everything is up to date."""
    measured = {how: [] for how in COMMANDS}
    with project(small=True) as folder:
        seconds(folder, *COMMANDS["flow"])
        for _ in range(ROUNDS["noop"]):
            for how, command in COMMANDS.items():
                measured[how].append(seconds(folder, *command))
    return measured


def from_nothing() -> dict[str, list[float]]:
    """Seconds of each command for the whole DAG."""
    measured = {how: [] for how in COMMANDS}
    for _ in range(ROUNDS["tiny"]):
        for how, command in COMMANDS.items():
            with project(small=True) as folder:
                measured[how].append(seconds(folder, *command))
    return measured


@contextmanager
def project(small: bool) -> Iterator[Path]:
    """A clone of the checkout in a temporary folder, in which Prefect's database exists already."""
    with tempfile.TemporaryDirectory() as folder:
        place = clone(ROOT, Path(folder))
        run(place, sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y")
        yield tiny(place) if small else place


def seconds(folder: Path, *command: str) -> float:
    begin = time.monotonic()
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    took = time.monotonic() - begin
    if done.returncode:
        sys.exit(f"error: {command} ended with code {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    print(f"{took:.1f} s: {' '.join(command[1:])}", flush=True)
    return took


def record(what: str, how: str, times: list[float], against: list[float] | None = None) -> None:
    """A row: the median time, and what it is more than that of plain `dvc repro`, in seconds and as a ratio."""
    median, plain = statistics.median(times), statistics.median(against) if against else None
    row = {
        **table.surroundings("dvc", "prefect", "torch"),
        "what": what,
        "how": how,
        "seconds": round(median, 1),
        "rounds": len(times),
        "more than dvc repro, s": round(median - plain, 1) if plain else "",
        "ratio to dvc repro": round(median / plain, 2) if plain else "",
        "command": table.command("overhead"),
    }
    print(f"{what}, {how}: {median:.1f} s", flush=True)
    table.append(RESULTS, [row])


if __name__ == "__main__":
    main()
