"""How far a stage is: a bar on a terminal, or a file for the flow that started the stage."""

import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from tqdm import tqdm

from stages.runtime.atomic_write import atomic_write

VARIABLE = "STAGES_PROGRESS"  # names the file; without it, a stage writes none
EVERY = 1.0  # seconds between two writes

Item = TypeVar("Item")

_begun: dict[str, tuple[float, float]] = {}  # file -> time and share of its first write


class Position(NamedTuple):
    """Where a stage is.

    Attributes:
        what: the part that it works on, such as `epoch 3/20`.
        step, steps: done and all steps of this part.
        left: seconds to the end of the stage; None where that is not known.
    """

    what: str
    step: int
    steps: int
    left: float | None = None


def bar(
    items: Iterable[Item],
    what: str,
    steps: int,
    done: int = 0,
    part: tuple[int, int] | None = None,
    hidden: bool = False,
) -> Iterator[Item]:
    """Yield the items. Meanwhile a terminal shows a bar, or the file that `VARIABLE` names says where the stage is.

    Changes no result: a file that cannot be written is left out.

    Args:
        what: label of the bar.
        steps, done: steps of this part of the stage, and those that were done before the first item.
        part: number of this part, from 0, and of all parts, where they make up the stage and take about as long each.
        hidden: show and write nothing.
    """
    file = os.environ.get(VARIABLE)
    if hidden or not file:
        yield from tqdm(items, what, steps, initial=done, leave=False, disable=hidden or None)
        return
    written = -EVERY
    for step, item in enumerate(items, start=done):
        if (now := time.monotonic()) - written >= EVERY:
            written = now
            position = Position(what, step, steps)
            _write(file, position._replace(left=_left(file, now, position, *part)) if part else position)
        yield item


def _left(file: str, now: float, position: Position, part: int, parts: int) -> float | None:
    share = (part + position.step / position.steps) / parts
    began, first = _begun.setdefault(file, (now, share))
    return (now - began) / (share - first) * (1 - share) if share > first else None


def _write(file: str, position: Position) -> None:
    with suppress(OSError), atomic_write(Path(file)) as partial:
        partial.write_text(json.dumps(position), encoding="utf-8")


def read(file: Path) -> Position | None:
    """What a stage wrote last, its seconds counted down since then. None where it has written nothing."""
    try:
        position = Position(*json.loads(file.read_text(encoding="utf-8")))
        age = time.time() - file.stat().st_mtime
    except (OSError, ValueError, TypeError):
        return None
    return position if position.left is None else position._replace(left=max(position.left - age, 0.0))
