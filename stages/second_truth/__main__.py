"""Compare predictions with masks drawn anew for the same expressions: what of the error is the annotation's."""

import argparse
from collections.abc import Sequence

from stages.runtime import command_line, experiments, params
from stages.runtime.errors import exit_on_error
from stages.runtime.startup import start


def main(arguments: Sequence[str] | None = None) -> None:
    command = argparse.ArgumentParser(prog="python -m stages.second_truth", description=__doc__)
    experiments.add_option(command)
    command.add_argument("--dataset", required=True, help="the dataset that the models of the experiment are scored on")
    command.add_argument("--truth", required=True, help="a dataset of params.yaml with other masks, as of RefCOCO-M")
    options = command.parse_args(arguments)
    settings = params.read_or_exit()
    for option in ("dataset", "truth"):
        command_line.require_known(command, option, getattr(options, option), settings.datasets)
    with exit_on_error():
        from stages.second_truth import comparison

        comparison.compare(options.dataset, options.truth, settings)


if __name__ == "__main__":
    start()
    main()
