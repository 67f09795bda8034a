"""What a card says of a model, read from the files of its folder and of its diagnosis without loading the model."""

import json
from pathlib import Path
from typing import NamedTuple

from stages.runtime import layout
from stages.runtime.run import Run


class ModelFacts(NamedTuple):
    """A trained model in numbers.

    Attributes:
        vision, text: kinds of the two encoders, as transformers names them.
        parameters: how many.
        image_size: pixels, height = width.
        max_tokens: of an expression, the special ones included.
        vocabulary: how many tokens the tokenizer knows.
    """

    vision: str
    text: str
    parameters: int
    image_size: int
    max_tokens: int
    vocabulary: int


def read(run: Run) -> ModelFacts:
    """The facts of a run's model. Raises FileNotFoundError with the command that makes what is missing."""
    folder = layout.model(*run)
    config, processor = (_json(folder / f"{name}.json", run.stage("train")) for name in ("config", "processor_config"))
    tokenizer, its_config = (_json(folder / f"{n}.json", run.stage("train")) for n in ("tokenizer", "tokenizer_config"))
    diagnosis = _json(layout.diagnosis(*run) / "summary.json", run.stage("diagnose"))
    added = {token["content"] for token in tokenizer["added_tokens"]}
    return ModelFacts(
        vision=config["vision_config"]["model_type"],
        text=config["text_config"]["model_type"],
        parameters=diagnosis["parameters"],
        image_size=processor["image_processor"]["size"]["height"],
        max_tokens=its_config["model_max_length"],
        vocabulary=len(added | set(tokenizer["model"]["vocab"])),
    )


def _json(path: Path, stage: str) -> dict:
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: make it with: dvc repro {stage}")
    return json.loads(path.read_text(encoding="utf-8"))
