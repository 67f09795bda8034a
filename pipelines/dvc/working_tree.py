"""Whether outputs lie in the working tree as `dvc.lock` records them."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from stages.runtime import dvc_internals


class Tree:
    """The working tree of the experiment in the current folder."""

    def __init__(self, files: dvc_internals.WorkingTree):
        self._files = files

    def holds(self, *outs: Mapping) -> bool:
        """Whether every output, or dependency, lies there as its entry in `dvc.lock` says."""
        return all(self._files.hash(out["path"]) == out.get("md5") for out in outs)

    def way_back(self, outs: Iterable[Mapping]) -> str:
        """The command of DVC that brings outputs which are not there; without a DVC remote, nothing can be pulled."""
        if any(Path(out["path"]).exists() and not self.holds(out) for out in outs):
            return "repro"
        if all(self._files.is_cached(out["md5"]) for out in outs if "md5" in out):
            return "checkout"
        return "pull" if self._remote else "repro"

    @cached_property
    def _remote(self) -> str | None:
        return dvc_internals.default_remote(("local", "repo", "global", "system"))


@contextmanager
def opened() -> Iterator[Tree]:
    """The working tree of the experiment in the current folder. Raises DvcError where there is none."""
    with dvc_internals.working_tree() as files:
        yield Tree(files)
