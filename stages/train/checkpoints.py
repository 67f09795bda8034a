"""The checkpoint files of one run, `CHECKPOINTS/DATASET-VARIANT-SEED/KEY/EPOCH-STEP-HASH.pt`.

Beside DVC, which deletes a stage's outputs before it runs. The key is made of what determines the run, so that no run
goes on from another's checkpoint; the hash is the file's own SHA-256, its beginning, so that damage is seen.
"""

import hashlib
import logging
import os
import shutil
import time
from pathlib import Path
from typing import BinaryIO

import torch
from accelerate.utils import broadcast_object_list

from stages.runtime.errors import UserError
from stages.runtime.processes import here
from stages.train.state import State

KEPT = 2
DIGITS = 16  # of a SHA-256, in a file's name
TEMPORARY = "partial.tmp"

log = logging.getLogger(__name__)


class CheckpointError(UserError):
    """A checkpoint cannot be written; the message names the file, what it needs, and where a next start goes on."""


class Checkpoints:
    """Every method is called by every process of the run; the main one alone writes and removes.

    The last ones stay when the run has ended: DVC has not recorded its outputs yet, and would remove them where it is
    killed before that. `stages.evaluate` removes them.

    Args:
        folder: of the run.
        key: of what determines the run.
        seconds: wall time after which a checkpoint within an epoch is due.
    """

    def __init__(self, folder: Path, key: str, seconds: float):
        self.folder = folder / key
        self.seconds = seconds
        self.last = time.monotonic()

    def resume(self, state: State) -> Path | None:
        """Put a fresh state where the newest undamaged checkpoint was; without one it stays as it is, and None."""
        (path,) = broadcast_object_list([self._newest_intact() if here().is_main_process else None])
        if path is not None:
            state.restore(torch.load(path, map_location="cpu", weights_only=True))
        return path

    def due(self) -> bool:
        """Whether it is time for a checkpoint within an epoch; the same answer for every process."""
        (answer,) = broadcast_object_list([time.monotonic() - self.last >= self.seconds])
        return answer

    def save(self, state: State) -> None:
        """Write a checkpoint, whole or not at all, and remove all but the newest `KEPT`.

        Raises:
            CheckpointError: the disk is full, or the file cannot be written for another reason.
        """
        content = state.content()
        if here().is_main_process:
            self._write(content, f"{state.epoch:05d}-{state.step:08d}")
        self.last = time.monotonic()

    def newest_first(self) -> list[Path]:
        """The files there are, unchecked."""
        return sorted(self.folder.glob("*.pt"), reverse=True)

    def _newest_intact(self) -> Path | None:
        """The file to go on from. What cannot be of use, now or later, is removed."""
        for other in _folders(self.folder.parent):
            if other != self.folder:
                print(f"{other} is of a run with other inputs, code or parameters: removed, not used", flush=True)
                shutil.rmtree(other)
        (self.folder / TEMPORARY).unlink(missing_ok=True)
        damaged = 0
        for path in self.newest_first():
            if _intact(path):
                return path
            damaged += 1
            log.warning("%s is damaged, as its SHA-256 is not the one in its name: removed, not used", path)
            path.unlink()
        if damaged:
            log.warning("no undamaged checkpoint is left in %s: training starts from the beginning", self.folder)
        return None

    def _write(self, content: dict, place: str) -> None:
        temporary = self.folder / TEMPORARY
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            digest = _write_through(temporary, content)
            temporary.replace(self.folder / f"{place}-{digest}.pt")
            _sync_folder(self.folder)
        except BaseException as error:
            temporary.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise CheckpointError(self._why(error, temporary, content)) from error
            raise
        for old in self.newest_first()[KEPT:]:
            old.unlink()

    def _why(self, error: OSError, file: Path, content: dict) -> str:
        needed, free = (f"{size / 1e6:.1f} MB" for size in (_size(content), _free(self.folder)))
        newest = next(iter(self.newest_first()), None)
        onward = f"goes on from {newest}" if newest else "starts from the beginning, as there is no checkpoint yet"
        return (
            f"the checkpoint {file} cannot be written: {error.strerror or error}. It needs {needed}; {free} are free. "
            f"Make room, or lift what limits files, and run the same command again: it {onward}"
        )


class _Hashing:
    """A binary file that hashes what is written to it, and remembers why it could not be written."""

    def __init__(self, file: BinaryIO):
        self.file, self.hash, self.error = file, hashlib.sha256(), None

    def write(self, data: memoryview) -> int:
        try:
            self.hash.update(data)
            return self.file.write(data)
        except BaseException as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def _write_through(path: Path, content: dict) -> str:
    """Write to the disk itself, one tensor after the other; the file's hash. Raises OSError."""
    with path.open("wb") as file:
        hashing = _Hashing(file)
        try:
            torch.save(content, hashing)
        except RuntimeError as error:  # in torch's own words, whatever went wrong
            raise hashing.error or error from None
        os.fsync(file.fileno())
    return hashing.hash.hexdigest()[:DIGITS]


def _sync_folder(folder: Path) -> None:
    """A new name is on the disk only when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _intact(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return path.stem.endswith("-" + hashlib.file_digest(file, "sha256").hexdigest()[:DIGITS])
    except OSError:  # a disk that fails
        return False


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.exists() else []


def _free(folder: Path) -> int:
    """Bytes that are free where the folder is, or will be."""
    return shutil.disk_usage(next(path for path in (folder, *folder.absolute().parents) if path.exists())).free


def _size(content: object) -> int:
    """Bytes of every tensor in nested containers."""
    match content:
        case torch.Tensor():
            return content.nbytes
        case dict():
            return sum(map(_size, content.values()))
        case list() | tuple():
            return sum(map(_size, content))
    return 0
