"""Which run a stage is asked for: a dataset, a variant and a seed, on the command line."""

import argparse
from typing import NamedTuple

from stages.runtime import params
from stages.runtime.params import Params


class Run(NamedTuple):
    """One training of the comparison, with all that is made from it. The names are keys of `params.yaml`."""

    dataset: str
    variant: str
    seed: int

    @property
    def name(self) -> str:
        """As DVC names it in a matrix: `scenes-alignformer-0`."""
        return f"{self.dataset}-{self.variant}-{self.seed}"

    def stage(self, kind: str) -> str:
        """The DVC stage of a kind (train, evaluate, diagnose, card) that belongs to the run: `train@scenes-baseline-0`."""
        return f"{kind}@{self.name}"


def from_command_line(stage: str, description: str) -> tuple[Run, Params]:
    """The run named by `--dataset --variant --seed`, and the checked parameters.

    A wrong name ends the process with exit code 2 and the names that are allowed.
    """
    command = parser(stage, description)
    return named(command, command.parse_args())


def parser(stage: str, description: str) -> argparse.ArgumentParser:
    """What names a run on the command line of a stage, for a stage that adds to it."""
    command = argparse.ArgumentParser(prog=f"python -m stages.{stage}", description=description)
    command.add_argument("--dataset", required=True, help="a key of datasets in params.yaml")
    command.add_argument("--variant", required=True, help="a key of variants in params.yaml")
    command.add_argument("--seed", required=True, type=int, help="0 or larger")
    return command


def named(command: argparse.ArgumentParser, arguments: argparse.Namespace) -> tuple[Run, Params]:
    """The run that parsed arguments name, and the checked parameters; as `from_command_line`."""
    settings = params.read_or_exit()
    for key, known in (("dataset", settings.datasets), ("variant", settings.variants)):
        if getattr(arguments, key) not in known:
            command.error(f"--{key} {getattr(arguments, key)!r} is not in params.yaml; it has: {', '.join(known)}")
    return Run(arguments.dataset, arguments.variant, arguments.seed), settings


def with_recipe(command: argparse.ArgumentParser, settings: Params, recipe: str) -> Params:
    """The parameters with another recipe for the experiment. A wrong name ends the process as above."""
    if recipe not in settings.recipes:
        command.error(f"--recipe {recipe!r} is not in params.yaml; it has: {', '.join(settings.recipes)}")
    return settings.model_copy(update={"experiment": settings.experiment.model_copy(update={"recipe": recipe})})
