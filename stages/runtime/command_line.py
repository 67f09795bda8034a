"""The command line of a stage that works on one run: `--dataset D --variant V --seed S`."""

import argparse
from collections.abc import Collection

from stages.runtime import experiments, params
from stages.runtime.params import Params
from stages.runtime.run import Run


def parser(stage: str, description: str) -> argparse.ArgumentParser:
    """A parser for `python -m stages.STAGE` with the three arguments that name a run."""
    command = argparse.ArgumentParser(prog=f"python -m stages.{stage}", description=description)
    experiments.add_option(command)
    command.add_argument("--dataset", required=True, help="a key of datasets in params.yaml")
    command.add_argument("--variant", required=True, help="a key of variants in params.yaml")
    command.add_argument(
        "--seed", required=True, type=int, help="of initial weights and of the order of samples, 0 or larger"
    )
    return command


def run_and_params(command: argparse.ArgumentParser, options: argparse.Namespace) -> tuple[Run, Params]:
    """The run that the parsed arguments name, and the parameters of `params.yaml`.

    A wrong `params.yaml` or an unknown name ends the process with exit code 2 and a message with the allowed names.
    """
    settings = params.read_or_exit()
    require_known(command, "dataset", options.dataset, settings.datasets)
    require_known(command, "variant", options.variant, settings.variants)
    return Run(options.dataset, options.variant, options.seed), settings


def require_known(command: argparse.ArgumentParser, option: str, name: str, known: Collection[str]) -> None:
    """End the process with exit code 2 if params.yaml does not define `name`; the message lists the `known` names."""
    if name not in known:
        command.error(f"--{option} {name!r} is not in params.yaml; it has: {', '.join(known)}")


def read_run(stage: str, description: str) -> tuple[Run, Params]:
    """`parser` and `run_and_params` in one, for a stage without further arguments."""
    command = parser(stage, description)
    return run_and_params(command, command.parse_args())
