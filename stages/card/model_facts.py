"""The facts on a model that its card states, read from the files of the model and its diagnosis. No model is loaded."""

import json
from pathlib import Path
from typing import NamedTuple

from stages.data.lost import CUT, VANISHED
from stages.runtime import experiments, layout
from stages.runtime.run import Run


class ModelFacts(NamedTuple):
    """A trained model in numbers.

    Attributes:
        vision, text: kinds of the two encoders, by their names in transformers.
        parameters: number of parameters.
        image_size: pixels, height = width.
        max_tokens: maximal tokens of an expression, special tokens included.
        vocabulary: how many tokens the tokenizer knows.
        lost: `lost.CUT` and `lost.VANISHED` -> split -> how many.
        trained_with: variables of the environment that the training rounded by.
    """

    vision: str
    text: str
    parameters: int
    image_size: int
    max_tokens: int
    vocabulary: int
    lost: dict[str, dict[str, int]]
    trained_with: dict[str, str]


def read(run: Run) -> ModelFacts:
    """The facts on a run's model.

    Raises:
        FileNotFoundError: a file of the model or its diagnosis is missing; the message has the command that makes it.
    """
    folder, train = layout.model(*run), run.stage("train")
    config = _json(folder / "config.json", train)
    processor = _json(folder / "processor_config.json", train)
    tokenizer = _json(folder / "tokenizer.json", train)
    tokenizer_config = _json(folder / "tokenizer_config.json", train)
    diagnosis = _json(layout.diagnosis(*run) / "summary.json", run.stage("diagnose"))
    added = {token["content"] for token in tokenizer["added_tokens"]}
    return ModelFacts(
        vision=config["vision_config"]["model_type"],
        text=config["text_config"]["model_type"],
        parameters=diagnosis["parameters"],
        image_size=processor["image_processor"]["size"]["height"],
        max_tokens=tokenizer_config["model_max_length"],
        vocabulary=len(added | set(tokenizer["model"]["vocab"])),
        lost={kind: diagnosis[kind] for kind in (CUT, VANISHED)},
        trained_with=config.get("trained_with") or {},
    )


def _json(path: Path, stage: str) -> dict:
    """The content of a file that a DVC stage writes."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: make it with: {experiments.dvc('repro', stage)}")
    return json.loads(path.read_text(encoding="utf-8"))
