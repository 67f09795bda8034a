"""A model folder -> the model and its processor."""

from pathlib import Path

from transformers.utils import logging

from models.alignformer import AlignFormer
from models.processing import AlignFormerProcessor


def load(folder: Path) -> tuple[AlignFormer, AlignFormerProcessor]:
    """The model, ready to predict, and its processor. Raises FileNotFoundError with the command that trains it."""
    if not (folder / "model.safetensors").exists():
        raise FileNotFoundError(
            f"{folder} holds no model; train it with: dvc repro train@{'-'.join(folder.parts[-3:])}"
        )
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # the tokenizer's loader warns that it does not know this kind of model
    return AlignFormer.from_pretrained(folder).eval(), AlignFormerProcessor.from_pretrained(folder)
