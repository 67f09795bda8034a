"""Prepared dataset + variant + seed -> model and history."""

import sys
from contextlib import nullcontext

import pandas as pd

from stages import dry_run, layout, prepared, processes, run, tracking
from stages.params import Params
from stages.samples import PictureError
from stages.train.assembly import assemble
from stages.train.loop import NonFiniteLossError, fit


def main() -> None:
    command = run.parser("train", __doc__)
    command.add_argument("--dry-run", action="store_true", help="train nothing, say what it would take")
    command.add_argument("--recipe", help="of a dry run: a key of recipes in params.yaml; without it experiment.recipe")
    arguments = command.parse_args()
    if arguments.recipe and not arguments.dry_run:
        command.error("--recipe is for --dry-run alone: a training has experiment.recipe of params.yaml")
    cell, settings = run.named(command, arguments)
    if arguments.recipe:
        settings = run.with_recipe(command, settings, arguments.recipe)
    try:
        if arguments.dry_run:
            print(dry_run.report(cell, settings))
        else:
            train(cell, settings)
    except (
        FileNotFoundError,
        prepared.MissingSplitError,
        processes.NotOneRunError,
        NonFiniteLossError,
        PictureError,
    ) as error:
        sys.exit(f"error: {error}")


def train(cell: run.Run, settings: Params) -> None:
    """Build the variant's model, fit it on train, keep the epoch that is best on val."""
    with processes.group() as process:
        start = assemble(cell, settings)
        params = tracking.flatten(recipe=start.recipe, variant=start.variant)
        main = process.is_main_process
        with tracking.training_run(*cell, params=params) if main else nullcontext() as tracked:
            model, history = fit(
                start.model,
                start.train,
                start.val,
                start.recipe.training,
                start.protocol,
                cell.seed,
                tracked and tracked.log,
            )
            if not main:
                return
            folder = layout.model(*cell)
            model.save_pretrained(folder)
            start.processor.save_pretrained(folder)
            layout.history(*cell).parent.mkdir(parents=True, exist_ok=True)
            pd.DataFrame(history).assign(protocol=start.protocol.name).to_csv(layout.history(*cell), index=False)
            tracked.log_folder(folder, "model")


if __name__ == "__main__":
    main()
