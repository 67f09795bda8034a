"""Loads a trained model and its processor from their folder."""

from pathlib import Path

from transformers.utils import logging

from models.alignformer import AlignFormer
from models.processing import AlignFormerProcessor
from stages.runtime import layout
from stages.runtime.errors import UserError
from stages.runtime.run import Run, how_to_train


class OtherModelError(UserError):
    """A folder holds weights that do not fit the model its config describes; the message names some of them."""


def load(folder: Path) -> tuple[AlignFormer, AlignFormerProcessor]:
    """The model, ready to predict, and its processor.

    Raises:
        FileNotFoundError: there is none. Where the folder is that of a run, the message has the command that trains it.
        OtherModelError: its weights do not fit the model that this code builds.
    """
    if not (folder / "model.safetensors").exists():
        run = _run_of(folder)
        train = f"; {how_to_train(run)}" if run else ""
        raise FileNotFoundError(f"{folder} holds no model: it has no model.safetensors{train}")
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # the tokenizer's loader warns that it does not know this kind of model
    model, report = AlignFormer.from_pretrained(folder, output_loading_info=True, ignore_mismatched_sizes=True)
    mismatched = {name for name, *_ in report["mismatched_keys"]}
    wrong = sorted({*report["missing_keys"], *report["unexpected_keys"], *mismatched})
    if wrong:
        raise OtherModelError(
            f"{folder}: {len(wrong)} tensors do not belong to this AlignFormer ({', '.join(wrong[:3])}, ...): "
            "it was trained by other code. Train it again, or use the code it was trained by"
        )
    return model, AlignFormerProcessor.from_pretrained(folder)


def _run_of(folder: Path) -> Run | None:
    """The run that a folder holds the model of; None for a folder of any other model."""
    models = layout.RESULTS / "models"
    parts = folder.relative_to(models).parts if folder.is_relative_to(models) else ()
    return Run(parts[0], parts[1], int(parts[2])) if len(parts) == 3 and parts[2].isdecimal() else None
