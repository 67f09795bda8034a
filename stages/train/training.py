"""One training, from its parameters to the files that DVC keeps."""

import shutil
from contextlib import nullcontext

import pandas as pd
import torch
import transformers
from safetensors import SafetensorError

from models.alignformer import AlignFormer
from models.processing import AlignFormerProcessor
from stages.data import lost, samples
from stages.runtime import kernels, layout, processes
from stages.runtime.atomic_write import atomic_write
from stages.runtime.errors import UserError
from stages.runtime.params import Params
from stages.runtime.run import Run
from stages.runtime.run_lock import only_trainer
from stages.setup.training_setup import TrainingSetup, assemble
from stages.tracking import live, mlruns
from stages.train.checkpoints import Checkpoints
from stages.train.identity import key
from stages.train.loop import fit


class OutputError(UserError):
    """The trained model or its history cannot be written; the message says why, and that the training is not lost."""


def train(run: Run, settings: Params, checkpoint_seconds: float) -> None:
    """Build the variant's model, train it on train, and write the weights of the best epoch on val.

    Raises:
        FileNotFoundError, MissingSplitError: the dataset is not prepared, or lacks train or val.
        WeightsError: pretrained weights are missing.
        RunTakenError: another process trains this run.
        NotOneRunError, OtherEndedError: several processes do not form one group, or one of them ended early.
        NonFiniteLossError: the loss of a step is infinite or not a number.
        ImageError: an image cannot be read.
        NoRoomError: there is no room for encoded images.
        CheckpointError, OutputError: a file cannot be written.
    """
    folder = layout.checkpoints(*run)
    with processes.group() as process, only_trainer(folder):
        setup = assemble(run, settings)
        checkpoints = Checkpoints(folder, key(run, setup.recipe, setup.variant, setup.protocol), checkpoint_seconds)
        params = mlruns.flatten(recipe=setup.recipe, variant=setup.variant)
        main = process.is_main_process
        if main:
            say(setup)
        if setup.recipe.training.encode_once:
            encode_once(setup, settings.machine.encoded_gigabytes)
        setup.model.config.trained_with = kernels.rounding_settings() or None
        with live.training_run(*run, params=params) if main else nullcontext() as tracked:
            model, history = fit(
                setup.model,
                setup.train,
                setup.val,
                setup.recipe.training,
                setup.protocol,
                run.seed,
                log=tracked and tracked.log,
                checkpoints=checkpoints,
                workers=settings.machine.workers,
            )
            if not main:
                return
            write(run, model, setup.processor, pd.DataFrame(history).assign(protocol=setup.protocol.name))
            tracked.log_folder(layout.model(*run), "model")


def encode_once(setup: TrainingSetup, gigabytes: float) -> None:
    """Have the images of train and val encoded by the frozen levels, which compute the same in every training."""
    model, device = setup.model, processes.here().device
    if model.frozen_levels:
        model.to(device)
        made_with = [torch.__version__, transformers.__version__, device.type, kernels.rounding_settings()]
        samples.encode_once({"train": setup.train, "val": setup.val}, model, made_with, gigabytes)


def say(setup: TrainingSetup) -> None:
    """Print what changes the result and is easily overlooked: data that the model does not see, the user's settings."""
    counts = samples.lost({"train": setup.train, "val": setup.val})
    lines = lost.sentences(counts, setup.recipe.model.max_words, setup.val.frame.size)
    if settings := kernels.rounding_settings():
        lines.append(f"Set in the environment and recorded, since results follow from it: {settings}.")
    if lines:
        print("note:", *lines, flush=True)


def write(run: Run, model: AlignFormer, processor: AlignFormerProcessor, history: pd.DataFrame) -> None:
    """Write model folder and history. Raises OutputError if one cannot be written; then neither is left behind."""
    folder, table = layout.model(*run), layout.history(*run)
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
            f"again. It resumes from the end of the training, which is in {layout.checkpoints(*run)}"
        ) from error
