"""What a training would take: parameters and FLOPs by part, memory, and the seconds of its whole schedule."""

from collections.abc import Sequence

from stages.runtime import command_line
from stages.runtime.errors import exit_on_error
from stages.runtime.startup import start


def main(arguments: Sequence[str] | None = None) -> None:
    command = command_line.parser("estimate", f"{__doc__} Trains a few steps and keeps nothing.")
    command.add_argument("--recipe", help="a key of recipes in params.yaml (default: experiment.recipe)")
    options = command.parse_args(arguments)
    run, settings = command_line.run_and_params(command, options)
    recipe = options.recipe or settings.experiment.recipe
    if recipe not in settings.recipes:
        command.error(f"--recipe {recipe!r} is not in params.yaml; it has: {', '.join(settings.recipes)}")
    with exit_on_error():
        from stages.estimate.estimate import report

        print(report(run, settings.with_recipe(recipe)))


if __name__ == "__main__":
    start()
    main()
