"""Prepared dataset + variant + seed -> model and history."""

import shutil
import sys
from contextlib import nullcontext

import pandas as pd
from safetensors import SafetensorError

from models.alignformer import AlignFormer
from models.processing import AlignFormerProcessor
from stages import tracking
from stages.data import prepared
from stages.data.samples import ImageError
from stages.estimate import estimate
from stages.runtime import layout, processes, run
from stages.runtime.atomic_write import atomic_write
from stages.runtime.params import Params
from stages.runtime.run_lock import RunTakenError, only_trainer
from stages.setup.pretrained import WeightsError
from stages.setup.training_setup import assemble
from stages.train.checkpoints import SECONDS, CheckpointError, Checkpoints
from stages.train.identity import key
from stages.train.loop import fit
from stages.train.loss_meter import NonFiniteLossError


class OutputError(RuntimeError):
    """The trained model or its history cannot be written; the message says why, and that the training is not lost."""


def main() -> None:
    command = run.parser("train", __doc__)
    command.add_argument("--dry-run", action="store_true", help="train nothing, say what it would take")
    command.add_argument("--recipe", help="of a dry run: a key of recipes in params.yaml; without it experiment.recipe")
    command.add_argument(
        "--checkpoint-seconds",
        type=float,
        default=SECONDS,
        metavar="N",
        help="keep where an epoch stands every N seconds (default: %(default)g), for a next start; changes no result",
    )
    arguments = command.parse_args()
    if arguments.recipe and not arguments.dry_run:
        command.error("--recipe is for --dry-run alone: a training has experiment.recipe of params.yaml")
    cell, settings = run.named(command, arguments)
    if arguments.recipe:
        settings = run.with_recipe(command, settings, arguments.recipe)
    try:
        if arguments.dry_run:
            print(estimate.report(cell, settings))
        else:
            train(cell, settings, arguments.checkpoint_seconds)
    except (
        FileNotFoundError,
        prepared.MissingSplitError,
        processes.NotOneRunError,
        processes.OtherEndedError,
        CheckpointError,
        NonFiniteLossError,
        OutputError,
        ImageError,
        RunTakenError,
        WeightsError,
    ) as error:
        sys.exit(f"error: {error}")


def train(cell: run.Run, settings: Params, checkpoint_seconds: float = SECONDS) -> None:
    """Build the variant's model, fit it on train, keep the epoch that is best on val."""
    folder = layout.checkpoints(*cell)
    with processes.group() as process, only_trainer(folder):
        start = assemble(cell, settings)
        checkpoints = Checkpoints(folder, key(cell, start.recipe, start.variant, start.protocol), checkpoint_seconds)
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
                checkpoints,
            )
            if not main:
                return
            write(cell, model, start.processor, pd.DataFrame(history).assign(protocol=start.protocol.name))
            tracked.log_folder(layout.model(*cell), "model")


def write(cell: run.Run, model: AlignFormer, processor: AlignFormerProcessor, history: pd.DataFrame) -> None:
    """Write what DVC keeps. Raises OutputError, and leaves nothing half written."""
    folder, table = layout.model(*cell), layout.history(*cell)
    try:
        with atomic_write(folder) as partial:
            model.save_pretrained(partial)
            processor.save_pretrained(partial)
            if {path.name for path in partial.iterdir()} != set(layout.MODEL_FILES):
                raise OSError(f"DVC would keep {layout.MODEL_FILES}, transformers wrote {sorted(partial.iterdir())}")
        with atomic_write(table) as partial:
            history.to_csv(partial, index=False)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        table.unlink(missing_ok=True)
        raise OutputError(
            f"{folder} and {table} cannot be written: {error}. Nothing is lost: make room and run the same command "
            f"again, which goes on from {layout.checkpoints(*cell)}, where the training is at its end"
        ) from error


if __name__ == "__main__":
    main()
