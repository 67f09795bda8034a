"""A short key of everything that determines a run: two trainings with the same key compute the same."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import torch
import transformers

from stages.runtime import layout
from stages.runtime.kernels import rounding_settings
from stages.runtime.params import Model, Recipe, Variant
from stages.runtime.processes import here
from stages.runtime.run import Run
from stages.scoring.protocols import Protocol

PROJECT = Path(__file__).parents[2]
SOURCES = (  # the code among the deps of stage train in dvc.yaml
    "models/alignformer.py",
    "models/configuration.py",
    "models/encoders.py",
    "models/frames.py",
    "models/grouping.py",
    "models/images.py",
    "models/losses.py",
    "models/parallel.py",
    "models/pixel_decoder.py",
    "models/processing.py",
    "models/variant.py",
    "models/vlba.py",
    "stages/data",
    "stages/runtime/kernels.py",
    "stages/runtime/processes.py",
    "stages/scoring/grid.py",
    "stages/scoring/metrics.py",
    "stages/scoring/protocols.py",
    "stages/scoring/score.py",
    "stages/setup",
    "stages/train",
)
COMMANDS = "__main__.py"  # .dvcignore leaves these files out


def key(run: Run, recipe: Recipe, variant: Variant, protocol: Protocol) -> str:
    """A hash of parameters, data, code, pretrained weights, versions, processes, kind of device, rounding settings.

    Returns:
        16 hexadecimal digits.
    """
    determined_by = {
        "run": run,
        "recipe": recipe.model_dump(mode="json"),
        "variant": variant.model_dump(mode="json"),
        "protocol": protocol.name,
        "data": _digests([layout.prepared(run.dataset)]),
        "code": _digests((PROJECT / name for name in SOURCES), "*.py"),
        "weights": _digests(_weights(recipe.model)),
        "versions": [torch.__version__, transformers.__version__],
        "processes": here().num_processes,
        "device": here().device.type,
        "rounding": rounding_settings(),
    }
    return hashlib.sha256(json.dumps(determined_by, sort_keys=True).encode()).hexdigest()[:16]


def _digests(places: Iterable[Path], pattern: str = "*") -> list[tuple[str, str]]:
    """Path and SHA-256 of every file that is one of the places or lies below one."""
    found = []
    for place in places:
        for path in [place] if place.is_file() else sorted(place.rglob(pattern)):
            if path.is_file() and path.name != COMMANDS:
                with path.open("rb") as file:
                    relative = str(path.relative_to(place.parent))
                    found.append((relative, hashlib.file_digest(file, "sha256").hexdigest()))
    return found


def _weights(recipe: Model) -> list[Path]:
    """The folders of pretrained weights. A model on a hub has no folder; its name is part of the recipe."""
    named = [layout.source(encoder.weights) for encoder in (recipe.vision, recipe.text) if encoder.kind == "pretrained"]
    return [path for path in named if path.is_dir()]
