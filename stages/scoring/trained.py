"""A model folder -> the model and its processor."""

from pathlib import Path

from transformers.utils import logging

from models.alignformer import AlignFormer
from models.processing import AlignFormerProcessor
from stages.runtime import layout
from stages.runtime.errors import UserError


class OtherModelError(UserError):
    """A folder holds the weights of another model than its config describes; the message names some of them."""


def load(folder: Path) -> tuple[AlignFormer, AlignFormerProcessor]:
    """The model, ready to predict, and its processor.

    Raises:
        FileNotFoundError: there is none; the message has the command that trains one of this project.
        OtherModelError: its weights are not those of the model that this code builds.
    """
    if not (folder / "model.safetensors").exists():
        ours = folder.is_relative_to(layout.RESULTS)
        train = f"; train it with: dvc repro train@{'-'.join(folder.parts[-3:])}" if ours else ""
        raise FileNotFoundError(f"{folder} holds no model: it has no model.safetensors{train}")
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # the tokenizer's loader warns that it does not know this kind of model
    model, report = AlignFormer.from_pretrained(folder, output_loading_info=True, ignore_mismatched_sizes=True)
    mismatched = {name for name, *_ in report["mismatched_keys"]}
    wrong = sorted({*report["missing_keys"], *report["unexpected_keys"], *mismatched})
    if wrong:
        raise OtherModelError(
            f"{folder}: {len(wrong)} tensors are not this AlignFormer's ({', '.join(wrong[:3])}, ...): "
            "it was trained by other code. Train it again, or use the code it was trained by"
        )
    return model, AlignFormerProcessor.from_pretrained(folder)
