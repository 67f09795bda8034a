"""Encoded images on disk: what levels of a vision encoder that compute the same in every training made of each image.

A folder `CHECKPOINTS/encoded/KEY` holds the images of one split. KEY is a hash of all that determines them: weights and
configuration of these levels, the content of the image files, how they become pixel values. For level L it has
`L.npy`, float16 of shape (N, K + h w, C), the K tokens without a position first; `encoded.json` has what the shapes do
not tell. All variants, seeds and experiments read the same folder. It is no output of a stage, since it can be made
again.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import nn

from models.encoders import EncodedImages, Grid
from stages.runtime import layout, progress
from stages.runtime.atomic_write import atomic_write
from stages.runtime.errors import UserError

AT_ONCE = 8  # images
ABOUT = "encoded.json"


class NoRoomError(UserError):
    """Encoded images do not fit; the message says how much they need and what to do."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """The encoded images of a folder; memory maps, so processes share what the operating system keeps of them.

    Attributes:
        folder: where they lie.
        size: (H, W) of the images.
        grids: (h, w) of each level.
        prefixes: tokens without a position of each level.
    """

    folder: Path
    size: tuple[int, int]
    grids: list[tuple[int, int]]
    prefixes: list[int]
    _maps: list[np.ndarray] = field(default_factory=list, repr=False)

    @classmethod
    def read(cls, folder: Path) -> "Encoded":
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        found = cls(folder, tuple(about["size"]), [tuple(grid) for grid in about["grids"]], about["prefixes"])
        found._maps.extend(np.load(folder / f"{level}.npy", mmap_mode="r") for level in range(len(found.grids)))
        return found

    def of(self, images: list[int]) -> EncodedImages:
        """Some of the images, in this order, as float32."""
        grids = []
        for values, size, prefix in zip(self._maps, self.grids, self.prefixes, strict=True):
            tokens = torch.from_numpy(values[images]).float()  # (P, K + h w, C)
            grids.append(Grid(tokens[:, prefix:], size, tokens[:, :prefix] if prefix else None))
        return EncodedImages(grids, self.size)

    def __reduce__(self):
        return Encoded.read, (self.folder,)  # a pickled memory map would hold all values


def weights_hash(modules: Iterable[nn.Module]) -> str:
    """SHA-256 of all parameters and buffers of some modules."""
    found = hashlib.sha256()
    for module in modules:
        for name, tensor in module.state_dict().items():
            found.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


@dataclass(frozen=True, eq=False)
class Images:
    """The images of a split, to be encoded.

    Attributes:
        split: its name, for the progress bar.
        key: what determines the result.
        count: N, the number of images.
        pixels: number of an image -> pixel values (3, H, W).
    """

    split: str
    key: Sequence[object]
    count: int
    pixels: Callable[[int], torch.Tensor]


def encoded(
    splits: Sequence[Images], encode: Callable[[torch.Tensor], EncodedImages], gigabytes: float
) -> list[Encoded]:
    """The encoded images of the splits of one training, none of which makes way for another.

    They are made first, by one process while others wait, where they are not there yet.

    Args:
        encode: pixel values (P, 3, H, W) -> the levels' output, on any device.
        gigabytes: room for all encoded images; those of other trainings that were used longest ago are removed.

    Raises:
        ImageError: an image cannot be read.
        NoRoomError: they need more than `gigabytes`, or the disk is full.
    """
    root = layout.project() / layout.CHECKPOINTS / "encoded"
    root.mkdir(parents=True, exist_ok=True)
    folders = [
        root / hashlib.sha256(json.dumps(images.key, default=str).encode()).hexdigest()[:16] for images in splits
    ]
    wanted = dict(zip(folders, splits, strict=True))
    with ExitStack() as held:
        for folder in sorted(wanted):  # in one order, or two trainings would wait for each other
            held.enter_context(_only_one(folder))
        missing = {folder: images for folder, images in wanted.items() if not (folder / ABOUT).exists()}
        first = {folder: encode(images.pixels(0)[None]) for folder, images in missing.items()}
        needed = sum(
            missing[folder].count * sum(_values(grid) * 2 for grid in first[folder].grids)
            if folder in missing
            else _size(folder)
            for folder in wanted
        )
        if missing:
            _make_room(root, set(wanted), needed, gigabytes)
        for folder, images in missing.items():
            try:
                with atomic_write(folder) as partial:
                    _write(partial, first[folder], images, encode)
            except OSError as error:
                raise NoRoomError(
                    f"encoded images cannot be written to {folder}: {error.strerror or error}. Those of this training "
                    f"need {needed / 1e9:.1f} GB: make room, or set training.encode_once of the recipe to false"
                ) from error
        for folder in wanted:
            folder.touch()
        return [Encoded.read(folder) for folder in folders]


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder of encoded images; waits for another process that makes them, and says so."""
    lock = _lock(folder)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"waiting for another process, which encodes these images into {folder}", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _lock(folder: Path) -> FileLock:
    """The lock of a folder, and of the unfinished one that `atomic_write` makes of it."""
    return FileLock(folder.with_name(f"{_key(folder)}.lock"))


def _key(folder: Path) -> str:
    return folder.name.removeprefix(".").removesuffix(".partial")


def _write(folder: Path, first: EncodedImages, images: Images, encode: Callable[[torch.Tensor], EncodedImages]) -> None:
    folder.mkdir(exist_ok=True)
    starts = range(0, images.count, AT_ONCE)
    with ExitStack() as stack:  # no memory maps: a full disk would kill the process
        files = [stack.enter_context((folder / f"{level}.npy").open("wb")) for level in range(len(first.grids))]
        for file, grid in zip(files, first.grids, strict=True):
            header = {"descr": "<f2", "fortran_order": False, "shape": (images.count, *_whole(grid).shape[1:])}
            np.lib.format.write_array_header_1_0(file, header)
        for start in progress.bar(starts, f"encoding images of {images.split}", len(starts)):
            numbers = range(start, min(start + AT_ONCE, images.count))
            made = encode(torch.stack([images.pixels(number) for number in numbers]))
            for file, grid in zip(files, made.grids, strict=True):
                file.write(_whole(grid).half().cpu().numpy().astype("<f2").tobytes())
    prefixes = [0 if grid.prefix_tokens is None else grid.prefix_tokens.shape[1] for grid in first.grids]
    about = {"size": first.size, "grids": [grid.size for grid in first.grids], "prefixes": prefixes}
    (folder / ABOUT).write_text(json.dumps(about) + "\n", encoding="utf-8")


def _whole(grid: Grid) -> torch.Tensor:
    """All tokens, those without a position first: (P, K + h w, C)."""
    return grid.tokens if grid.prefix_tokens is None else torch.cat([grid.prefix_tokens, grid.tokens], dim=1)


def _values(grid: Grid) -> int:
    return _whole(grid)[0].numel()


def _make_room(root: Path, wanted: Collection[Path], needed: int, gigabytes: float) -> None:
    """Remove folders that are not wanted, those used longest ago first, until the `needed` bytes of all that are fit.

    Those being made stay.

    Raises:
        NoRoomError: they cannot fit.
    """
    limit = gigabytes * 1e9
    own = {folder.name for folder in wanted}
    others = [path for path in root.iterdir() if path.is_dir() and _key(path) not in own]
    sizes = {path: _size(path) for path in sorted(others, key=_last_used)}
    for path in list(sizes):
        if needed <= limit < sum(sizes.values()) + needed:
            with suppress(Timeout), _lock(path).acquire(timeout=0):
                shutil.rmtree(path, ignore_errors=True)
                del sizes[path]
    if (kept := sum(sizes.values())) + needed > limit:
        beside = f" beside {kept / 1e9:.1f} GB that are being made" if needed <= limit else ""
        raise NoRoomError(
            f"the encoded images of this training need {needed / 1e9:.1f} GB{beside}, and machine.encoded_gigabytes of "
            f"params.yaml is {gigabytes:g}: raise it, or set training.encode_once of the recipe to false"
        )


def _last_used(folder: Path) -> float:
    with suppress(FileNotFoundError):  # its maker renamed it
        return folder.stat().st_mtime
    return 0.0


def _size(folder: Path) -> int:
    """Bytes of its files; 0 where its maker renamed it meanwhile."""
    with suppress(FileNotFoundError):
        return sum(file.stat().st_size for file in folder.iterdir())
    return 0
