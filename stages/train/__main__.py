"""Prepared dataset + variant + seed -> model and history."""

import sys

import pandas as pd
import torch
from accelerate.utils import set_seed

from stages import layout, prepared, run, tracking
from stages.evaluate.protocols import PROTOCOLS
from stages.evaluate.score import frame
from stages.params import Params
from stages.samples import Expressions, PictureError
from stages.train import build
from stages.train.loop import NonFiniteLossError, fit


def main() -> None:
    cell, settings = run.from_command_line("train", __doc__)
    try:
        train(cell, settings)
    except (FileNotFoundError, prepared.MissingSplitError, NonFiniteLossError, PictureError) as error:
        sys.exit(f"error: {error}")


def train(cell: run.Run, settings: Params) -> None:
    """Build the variant's model, fit it on train, keep the epoch that is best on val."""
    recipe, variant = settings.recipes[settings.experiment.recipe], settings.variants[cell.variant]
    dataset = prepared.read(layout.prepared(cell.dataset))
    train_rows, val_rows = dataset.split("train"), dataset.validation
    protocol = PROTOCOLS[settings.evaluation.protocol]

    torch.set_num_threads(recipe.training.threads)
    set_seed(cell.seed, deterministic=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # a safeguard that costs a fortieth of a step
    processor = build.processor(recipe.model, train_rows["text"].tolist())
    model = build.model(recipe, variant, processor.tokenizer)
    train_set = Expressions(dataset, train_rows, processor)
    val_set = Expressions(dataset, val_rows, processor, frame(protocol))
    set_seed(cell.seed, deterministic=True)

    with tracking.training_run(*cell, params=tracking.flatten(recipe=recipe, variant=variant)) as tracked:
        model, history = fit(model, train_set, val_set, recipe.training, protocol, cell.seed, tracked.log)
        folder = layout.model(*cell)
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        layout.history(*cell).parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(history).assign(protocol=protocol.name).to_csv(layout.history(*cell), index=False)
        tracked.log_folder(folder, "model")


if __name__ == "__main__":
    main()
