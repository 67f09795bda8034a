"""Which run a stage is asked for: a dataset, a variant and a seed, on the command line."""

import argparse
from typing import NamedTuple

from stages import params
from stages.params import Params


class Run(NamedTuple):
    """One cell of the comparison. The names are keys of `params.yaml`."""

    dataset: str
    variant: str
    seed: int


def from_command_line(stage: str, description: str) -> tuple[Run, Params]:
    """The run named by `--dataset --variant --seed`, and the checked parameters.

    A wrong name ends the process with exit code 2 and the names that are allowed.
    """
    parser = argparse.ArgumentParser(prog=f"python -m stages.{stage}", description=description)
    parser.add_argument("--dataset", required=True, help="a key of datasets in params.yaml")
    parser.add_argument("--variant", required=True, help="a key of variants in params.yaml")
    parser.add_argument("--seed", required=True, type=int, help="0 or larger")
    arguments = parser.parse_args()
    settings = params.read_or_exit()
    for key, known in (("dataset", settings.datasets), ("variant", settings.variants)):
        if getattr(arguments, key) not in known:
            parser.error(f"--{key} {getattr(arguments, key)!r} is not in params.yaml; it has: {', '.join(known)}")
    return Run(arguments.dataset, arguments.variant, arguments.seed), settings
