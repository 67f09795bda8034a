"""What does it cost to hold the numerical libraries to kernels that many processors have?

Measured is a training step of the highlighted variant, with its frozen levels, under each choice:

- `native`: each library chooses by the processor;
- `AVX2`: the default, see `stages.runtime.kernels`;
- `AVX2, MKL compatible`: `MKL_CBWR=COMPATIBLE`, with which Intel's and AMD's processors compute the same bits.

The libraries read their settings when they start, so each measurement is a process of its own. The choices take turns,
since the speed of a shared machine varies. `ratio` is the median of the ratios to `native` within rounds.

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
from stages.runtime import experiments, params
from stages.runtime.kernels import CHOICE, ROUNDING

RESULTS = Path("benchmarks/results/kernels.csv").absolute()
CHOICES = {"native": {CHOICE: "native"}, "AVX2": {}, "AVX2, MKL compatible": {"MKL_CBWR": "COMPATIBLE"}}
STEP = """
from stages.runtime import kernels

kernels.hold()
import torch
from stages.estimate.estimate import step_cost
from stages.data.samplers import OneExpressionPerRef
from stages.runtime import params, processes
from stages.runtime.run import Run
from stages.setup.training_setup import assemble

settings = params.read_or_exit()
experiment = settings.experiment
run = Run(experiment.datasets[0], experiment.highlight, experiment.seeds[0])
setup = assemble(run, settings)
training = setup.recipe.training
torch.set_num_threads(training.threads)
order = OneExpressionPerRef(setup.train.rows, run.seed, training.by_image)
print(step_cost(setup, list(order), processes.accelerator(training.precision)).seconds)
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="default: 5")
    experiments.add_option(parser)
    rounds = parser.parse_args().rounds
    experiment = params.read_or_exit().experiment
    seconds = {name: [] for name in CHOICES}
    for number in range(rounds):
        for name in list(CHOICES)[:: 1 if number % 2 else -1]:
            seconds[name].append(step(CHOICES[name]))
            print(f"round {number + 1} of {rounds}, {name}: {seconds[name][-1]:.3f} s", flush=True)
    kind = bits.kind()
    rows = []
    for name, found in seconds.items():
        ratios = [one / native for one, native in zip(found, seconds["native"], strict=True)]
        rows.append(
            {
                "experiment": experiments.current(),
                "dataset": experiment.datasets[0],
                "variant": experiment.highlight,
                "recipe": experiment.recipe,
                "kernels": name,
                "seconds": round(median(found), 4),
                "ratio": round(median(ratios), 3),
                "lowest": round(min(ratios), 3),
                "highest": round(max(ratios), 3),
                "rounds": rounds,
                "processor": kind["processor"],
                "instruction set": kind["instruction set"],
                **table.surroundings("torch", "numpy"),
                "command": table.command("kernels"),
            }
        )
        print(", ".join(f"{key} {value}" for key, value in list(rows[-1].items())[4:9]))
    table.append(RESULTS, rows)


def step(choice: dict[str, str]) -> float:
    """Seconds of a training step in a process of its own, with no other choice of kernels than this one."""
    free = {name: value for name, value in os.environ.items() if not name.startswith(ROUNDING)}
    root = str(RESULTS.parents[2])
    done = subprocess.run(
        [sys.executable, "-c", STEP],
        env=free | choice | {"PYTHONPATH": root},
        check=True,
        text=True,
        stdout=subprocess.PIPE,
    )
    return float(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
