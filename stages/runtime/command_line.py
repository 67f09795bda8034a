"""Which run a stage is asked for on the command line: `--dataset D --variant V --seed S`."""

import argparse

from stages.runtime import params
from stages.runtime.params import Params
from stages.runtime.run import Run


def parser(stage: str, description: str) -> argparse.ArgumentParser:
    """A parser for `python -m stages.STAGE` with the arguments that name a run."""
    command = argparse.ArgumentParser(prog=f"python -m stages.{stage}", description=description)
    command.add_argument("--dataset", required=True, help="a key of datasets in params.yaml")
    command.add_argument("--variant", required=True, help="a key of variants in params.yaml")
    command.add_argument("--seed", required=True, type=int, help="0 or larger")
    return command


def run_and_params(command: argparse.ArgumentParser, options: argparse.Namespace) -> tuple[Run, Params]:
    """The run that parsed arguments name, and the checked parameters.

    A wrong name ends the process with exit code 2 and the names that are allowed.
    """
    settings = params.read_or_exit()
    for key, known in (("dataset", settings.datasets), ("variant", settings.variants)):
        if getattr(options, key) not in known:
            command.error(f"--{key} {getattr(options, key)!r} is not in params.yaml; it has: {', '.join(known)}")
    return Run(options.dataset, options.variant, options.seed), settings


def read_run(stage: str, description: str) -> tuple[Run, Params]:
    """The same for a stage whose command line names a run and nothing else."""
    command = parser(stage, description)
    return run_and_params(command, command.parse_args())
