"""What determines a run, as a short key: two trainings with the same key compute the same."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
import transformers

from stages.runtime import layout
from stages.runtime.params import Recipe, Variant
from stages.runtime.processes import here
from stages.runtime.run import Run
from stages.scoring.protocols import Protocol

PROJECT = Path(__file__).parents[2]
SOURCES = (  # as dvc.yaml has them
    "models/alignformer.py",
    "models/configuration.py",
    "models/encoders.py",
    "models/frames.py",
    "models/grouping.py",
    "models/losses.py",
    "models/parallel.py",
    "models/pixel_decoder.py",
    "models/processing.py",
    "models/variant.py",
    "models/vlba.py",
    "stages/data",
    "stages/runtime/processes.py",
    "stages/scoring/grid.py",
    "stages/scoring/metrics.py",
    "stages/scoring/protocols.py",
    "stages/scoring/score.py",
    "stages/setup",
    "stages/train",
)
COMMANDS = "__main__.py"  # which .dvcignore leaves out


def key(run: Run, recipe: Recipe, variant: Variant, protocol: Protocol) -> str:
    """A hash of parameters, data, code, pretrained weights, versions, processes and kind of device: 16 hex digits."""
    chosen = recipe.model_dump(mode="json")
    determined_by = {
        "run": run,
        "recipe": chosen,
        "variant": variant.model_dump(mode="json"),
        "protocol": protocol.name,
        "data": _digests([layout.prepared(run.dataset)]),
        "code": _digests((PROJECT / name for name in SOURCES), "*.py"),
        "weights": _digests(_weights(chosen)),
        "versions": [torch.__version__, transformers.__version__],
        "processes": here().num_processes,
        "device": here().device.type,
    }
    return hashlib.sha256(json.dumps(determined_by, sort_keys=True).encode()).hexdigest()[:16]


def _digests(places: Iterable[Path], pattern: str = "*") -> list[tuple[str, str]]:
    """Path and SHA-256 of the files that are, or lie below, the places."""
    found = []
    for place in places:
        for path in [place] if place.is_file() else sorted(place.rglob(pattern)):
            if path.is_file() and path.name != COMMANDS:
                with path.open("rb") as file:
                    relative = str(path.relative_to(place.parent))
                    found.append((relative, hashlib.file_digest(file, "sha256").hexdigest()))
    return found


def _weights(section: dict) -> Iterator[Path]:
    """Folders of pretrained weights that a recipe names; a name on a hub stands for itself."""
    for name, value in section.items():
        if isinstance(value, dict):
            yield from _weights(value)
        elif name == "weights" and Path(value).is_dir():
            yield Path(value)
