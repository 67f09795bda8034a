"""Outputs that are there whole, or not at all, whenever and however the stage that writes them ends."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A path beside `path`, for a file or a folder to be written, which takes its place when the block ends.

    After an exception `path` is as it was before. After a `kill -9` too, but for what lies beside it, which the next
    writer removes and DVC does not look at (`.dvcignore`).
    """
    partial = path.with_name(f".{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove(partial)
    try:
        yield partial
        if path.is_dir():
            shutil.rmtree(path)
        partial.replace(path)
    finally:
        _remove(partial)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
