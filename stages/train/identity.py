"""What determines a run, as a short key: two trainings with the same key compute the same."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
import transformers

from stages import layout
from stages.evaluate.protocols import Protocol
from stages.params import Recipe, Variant
from stages.processes import here
from stages.run import Run

PROJECT = Path(__file__).parents[2]
SOURCES = (
    "models",
    "stages/evaluate",
    "stages/prepared.py",
    "stages/processes.py",
    "stages/samples.py",
    "stages/train",
)


def key(cell: Run, recipe: Recipe, variant: Variant, protocol: Protocol) -> str:
    """A hash of parameters, data, code, pretrained weights, versions, processes and kind of device: 16 hex digits."""
    chosen = recipe.model_dump(mode="json")
    determined_by = {
        "run": cell,
        "recipe": chosen,
        "variant": variant.model_dump(mode="json"),
        "protocol": protocol.name,
        "data": _digests([layout.prepared(cell.dataset)]),
        "code": _digests((PROJECT / name for name in SOURCES), "*.py"),
        "weights": _digests(_folders_named_in(chosen)),
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
            if path.is_file():
                with path.open("rb") as file:
                    relative = str(path.relative_to(place.parent))
                    found.append((relative, hashlib.file_digest(file, "sha256").hexdigest()))
    return found


def _folders_named_in(value: object) -> Iterator[Path]:
    """Folders that a recipe names, at any depth: pretrained weights."""
    match value:
        case dict():
            for inner in value.values():
                yield from _folders_named_in(inner)
        case str() if Path(value).is_dir():
            yield Path(value)
