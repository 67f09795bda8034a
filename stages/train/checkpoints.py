"""The checkpoint files of one run, `CHECKPOINTS/DATASET-VARIANT-SEED/KEY/EPOCH-STEP-HASH.pt`.

They are not outputs of a DVC stage, since DVC deletes those before the stage runs. KEY is a hash of everything that
determines the run, so that no run resumes from another's checkpoint. HASH is the beginning of the file's SHA-256, which
reveals damage.
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
    """A checkpoint cannot be written; the message names it, the space it needs, and where the next start resumes."""


class Checkpoints:
    """The checkpoints of one run. Every process of the run calls every method; only the main one writes and removes.

    The last checkpoints stay when the training has ended. DVC has not recorded the outputs yet; if it is killed before
    it does, it deletes them at the next start. `stages.evaluate` removes the checkpoints.

    Args:
        folder: the folder of the run, `layout.checkpoints`.
        key: the hash of everything that determines the run, `identity.key`.
        seconds: wall-clock seconds after which a checkpoint within an epoch is due.
    """

    def __init__(self, folder: Path, key: str, seconds: float):
        self.folder = folder / key
        self.seconds = seconds
        self.last = time.monotonic()

    def resume(self, state: State) -> Path | None:
        """Restore `state` from the newest undamaged checkpoint and return its path; None if there is none."""
        (path,) = broadcast_object_list([self._newest_intact() if here().is_main_process else None])
        if path is not None:
            state.restore(torch.load(path, map_location="cpu", weights_only=True))
        return path

    def due(self) -> bool:
        """Whether a checkpoint within an epoch is due; every process gets the same answer."""
        (answer,) = broadcast_object_list([time.monotonic() - self.last >= self.seconds])
        return answer

    def save(self, state: State) -> None:
        """Write a checkpoint, whole or not at all, and remove all but the newest `KEPT` of them.

        Raises:
            CheckpointError: the disk is full, or the file cannot be written for another reason.
        """
        content = state.content()
        if here().is_main_process:
            self._write(content, f"{state.epoch:05d}-{state.step:08d}")
        self.last = time.monotonic()

    def newest_first(self) -> list[Path]:
        """All checkpoint files, unchecked, the newest first."""
        return sorted(self.folder.glob("*.pt"), reverse=True)

    def _newest_intact(self) -> Path | None:
        """The checkpoint to resume from. Removes checkpoints of other keys and damaged ones."""
        for other in _folders(self.folder.parent):
            if other != self.folder:
                print(f"{other} belongs to a run with other inputs, code or parameters: removed, not used", flush=True)
                shutil.rmtree(other)
        (self.folder / TEMPORARY).unlink(missing_ok=True)
        damaged = 0
        for path in self.newest_first():
            if _intact(path):
                return path
            damaged += 1
            log.warning("%s is damaged (its SHA-256 differs from the one in its name): removed, not used", path)
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
        onward = f"resumes from {newest}" if newest else "starts from the beginning, as there is no checkpoint yet"
        return (
            f"the checkpoint {file} cannot be written: {error.strerror or error}. It needs {needed}; {free} are free. "
            f"Make room or raise the limit on file size, then run the same command again: it {onward}"
        )


class _Hashing:
    """A binary file that hashes what is written to it, and remembers the error of a failed write."""

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
    """Write through to the disk and return the file's hash. Raises OSError if the file cannot be written."""
    with path.open("wb") as file:
        hashing = _Hashing(file)
        try:
            torch.save(content, hashing)
        except RuntimeError as error:  # torch's own error hides the cause
            raise hashing.error or error from None
        os.fsync(file.fileno())
    return hashing.hash.hexdigest()[:DIGITS]


def _sync_folder(folder: Path) -> None:
    """Write the folder to the disk: without it, a new file's name is lost in a crash."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _intact(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return path.stem.endswith("-" + hashlib.file_digest(file, "sha256").hexdigest()[:DIGITS])
    except OSError:  # for example a failing disk
        return False


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.exists() else []


def _free(folder: Path) -> int:
    """Free bytes on the disk of the folder, which need not exist yet."""
    return shutil.disk_usage(next(path for path in (folder, *folder.absolute().parents) if path.exists())).free


def _size(content: object) -> int:
    """Bytes of all tensors in nested containers."""
    match content:
        case torch.Tensor():
            return content.nbytes
        case dict():
            return sum(map(_size, content.values()))
        case list() | tuple():
            return sum(map(_size, content))
    return 0
