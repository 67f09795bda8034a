"""What does it cost to hold the numerical libraries to kernels that many processors have?

Measured is a training step of the highlighted variant, with its frozen levels, under each choice:

- `native`: each library chooses by the processor;
- `AVX2`: the default, see `stages.runtime.kernels`;
- `AVX2, MKL compatible`: `MKL_CBWR=COMPATIBLE`, with which Intel's and AMD's processors compute the same bits.

The libraries read their settings when they start, so each measurement is a process of its own. The choices take turns,
since the speed of a shared machine varies. `ratio` is that of the medians, to `native`; `lowest` and `highest` are of
single rounds.

Needs the prepared dataset: `python -m stages.prepare --dataset NAME`, of the same experiment.
Adds its rows to `benchmarks/results/kernels.csv`.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

from benchmarks import bits, table
from benchmarks.steps import ratio
from stages.data.samplers import OneExpressionPerRef
from stages.estimate.estimate import step_cost
from stages.runtime import experiments, params, processes
from stages.runtime.kernels import CHOICE, ROUNDING
from stages.runtime.run import Run
from stages.setup.training_setup import assemble

ROOT = Path().absolute()  # the experiment's folder becomes the current one
RESULTS = ROOT / "benchmarks/results/kernels.csv"
CHOICES = {"native": {CHOICE: "native"}, "AVX2": {}, "AVX2, MKL compatible": {"MKL_CBWR": "COMPATIBLE"}}
MEASURE = "from stages.runtime import kernels; kernels.hold(); from benchmarks.kernels import step; print(step())"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="default: 5")
    experiments.add_option(parser)
    rounds = parser.parse_args().rounds
    experiment = params.read_or_exit().experiment
    seconds = {name: [] for name in CHOICES}
    for number in range(rounds):
        for name in list(CHOICES)[:: 1 if number % 2 else -1]:
            seconds[name].append(step_apart(CHOICES[name]))
            print(f"round {number + 1} of {rounds}, {name}: {seconds[name][-1]:.3f} s", flush=True)
    kind = bits.kind()
    rows = [
        {
            "experiment": experiments.current(),
            "dataset": experiment.datasets[0],
            "variant": experiment.highlight,
            "recipe": experiment.recipe,
            "kernels": name,
            "seconds": round(median(found), 4),
            **ratio(found, seconds["native"]),
            "processor": kind["processor"],
            "instruction set": kind["instruction set"],
            **table.surroundings("torch", "numpy"),
            "command": table.command("kernels"),
        }
        for name, found in seconds.items()
    ]
    for row in rows:
        print(", ".join(f"{key} {value}" for key, value in list(row.items())[4:9]))
    table.append(RESULTS, rows)


def step_apart(choice: dict[str, str]) -> float:
    """`step` in a process of its own, with no other choice of kernels than this one."""
    free = {name: value for name, value in os.environ.items() if not name.startswith(ROUNDING)}
    environment = free | choice | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", MEASURE]
    done = subprocess.run(command, env=environment, check=True, text=True, stdout=subprocess.PIPE)
    return float(done.stdout.splitlines()[-1])


def step() -> float:
    """Seconds of a training step of the experiment's highlighted variant, on its first dataset."""
    settings = params.read_or_exit()
    experiment = settings.experiment
    run = Run(experiment.datasets[0], experiment.highlight, experiment.seeds[0])
    setup = assemble(run, settings)
    training = setup.recipe.training
    order = list(OneExpressionPerRef(setup.train.rows, run.seed, training.by_image))
    return step_cost(setup, order, processes.accelerator(training.precision)).seconds


if __name__ == "__main__":
    main()
