"""Estimate the cost of a training: parameters and FLOPs by part, memory, and seconds of its whole schedule."""

from collections.abc import Sequence

from stages.runtime import command_line
from stages.runtime.errors import exit_on_error
from stages.runtime.startup import start


def main(arguments: Sequence[str] | None = None) -> None:
    command = command_line.parser("estimate", f"{__doc__} Trains a few steps and writes nothing.")
    command.add_argument("--recipe", help="a key of recipes in params.yaml (default: experiment.recipe)")
    options = command.parse_args(arguments)
    run, settings = command_line.run_and_params(command, options)
    recipe = options.recipe or settings.experiment.recipe
    command_line.require_known(command, "recipe", recipe, settings.recipes)
    with exit_on_error():
        from stages.estimate.estimate import report

        print(report(run, settings.with_recipe(recipe)))


if __name__ == "__main__":
    start()
    main()
