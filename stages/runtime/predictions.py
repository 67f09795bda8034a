"""The files of predictions that others made: where they lie, and what they look like now.

They lie outside the project and may be folders, so DVC does not know them. The stage `params` writes their hashes at
every `dvc repro`, and the stage `score` runs again for the datasets whose hashes have changed.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from stages.runtime import layout
from stages.runtime.errors import UserError


class PredictionsError(UserError):
    """A file of predictions is missing or wrong; the message names for each kind of problem how many there are."""


def place(path: str | Path) -> Path:
    """Where a file or folder of predictions lies. Raises PredictionsError where there is none."""
    found = layout.source(path)
    if not found.exists():
        raise PredictionsError(f"{path}: no such file or folder of predictions")
    return found


def hashes(predictions: Mapping[str, str]) -> dict[str, str]:
    """Name -> SHA-256 of its predictions. Of a folder, it is that of the names and bytes of its PNG files.

    Args:
        predictions: name -> path, as `params.yaml` has it.

    Raises:
        PredictionsError: one is missing.
    """
    return {name: _sha256(place(path)) for name, path in predictions.items()}


def _sha256(path: Path) -> str:
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    lines = [f"{file.name} {_sha256(file)}" for file in sorted(path.glob("*.png"))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
