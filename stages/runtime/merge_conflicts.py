"""Files that git left half merged."""

import re
from pathlib import Path

from stages.runtime import layout


def named(path: Path) -> str | None:
    """That a text file holds a merge conflict, where, and the way out; None where it holds none, or is missing."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    if not (marker := re.search(r"^<{7} .*^={7}$.*^>{7} ", text, re.MULTILINE | re.DOTALL)):
        return None
    path = layout.from_root(path)
    line = text.count("\n", 0, marker.start()) + 1
    return (
        f"{path}: line {line}: a merge conflict of git. `git checkout --ours {path}` keeps the side of this branch, "
        f"`git checkout --theirs {path}` that of the branch which is merged in"
    )
