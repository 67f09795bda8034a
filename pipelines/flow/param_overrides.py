"""`--set experiment.seeds=[0,1,2]`: values in `params.yaml` changed in place, as `dvc exp run -S` does.

All changes are made at once, and only to what the schema allows. A flow holds the clone's lock, and one that changed
the parameters holds it alone. At its end `params.yaml` is put back byte for byte, unless the flow keeps the changes.
After a `kill -9` the next flow puts it back, from the record that is written before the file.
"""

import fcntl
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.nodes import CollectionNode, MappingNode, Node

from stages.runtime import layout, params
from stages.runtime.atomic_write import atomic_write

LOCK = Path(".dvc/tmp/experiment.lock")
RECORD = Path(".dvc/tmp/experiment.params.json")  # there as long as params.yaml holds values that may be put back

Say = Callable[[str], None]


class OverrideError(Exception):
    """A wrong key or value, or another flow at work; nothing was changed. The message names it and the way out."""


class Change(NamedTuple):
    """One key of `params.yaml` and its new value. The old one is None where the key is not there yet."""

    key: str
    old: Any
    new: Any

    def __str__(self) -> str:
        old = "nothing" if self.old is None else json.dumps(self.old)
        return f"{self.key}: {old} -> {json.dumps(self.new)}"


@contextmanager
def held(overrides: Sequence[str], say: Say) -> Iterator[Callable[[], None]]:
    """Hold the clone for a flow, with the overrides in `params.yaml`. However the block ends, the file is put back.

    Args:
        say: gets one line for each change, and one where the file is put back.

    Yields:
        A function that keeps the changes for good.

    Raises:
        OverrideError: a key or a value is wrong, or another flow is running, which has other values.
    """
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with LOCK.open("w") as lock:  # closed, also by kill -9, is unlocked
        changes = _hold(lock.fileno(), overrides, say)
        try:
            if changes:
                apply(overrides)
                for change in changes:
                    say(f"params.yaml: {change}")
            yield _forget
        finally:
            if changes:
                _put_back(say)


def put_back(say: Say) -> None:
    """Put back what a flow that was killed left in `params.yaml`. Does nothing while a flow runs."""
    if RECORD.exists():
        with LOCK.open("w") as lock:
            if _is_alone(lock.fileno()):
                _put_back(say)


def check(overrides: Sequence[str]) -> list[Change]:
    """What the overrides would change.

    Raises:
        OverrideError: a key or a value is wrong.
    """
    return _changed(overrides)[0] if overrides else []


def apply(overrides: Sequence[str]) -> None:
    """Write them into `params.yaml`, and before that the record. Raises OverrideError as `check`."""
    before = _text()
    changes, text = _changed(overrides)
    record = {"before": before, "written": text, "changes": "; ".join(map(str, changes))}
    _write(RECORD, json.dumps(record))
    _write(layout.PARAMS.resolve(), text)


def _hold(lock: int, overrides: Sequence[str], say: Say) -> list[Change]:
    """Take the lock: alone where the overrides change something, else with others. What is to be changed."""
    while True:
        alone = _is_alone(lock)
        if alone:
            _put_back(say)
        changes = check(overrides)
        if alone and changes:
            return changes
        if changes:
            raise OverrideError(
                "another flow runs in this folder, and --set would change params.yaml under it: wait for its end, "
                "run without --set, or run in another clone"
            )
        if not alone and RECORD.exists():
            say("waits for the flow that changed params.yaml in this folder")
        fcntl.flock(lock, fcntl.LOCK_SH)
        if not RECORD.exists() and not check(overrides):
            return []
        fcntl.flock(lock, fcntl.LOCK_UN)  # another flow changed the file meanwhile, and was killed, or has kept it
        time.sleep(0.1)


def _is_alone(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _put_back(say: Say) -> None:
    """Bring `params.yaml` back as the record has it, unless it has been edited since."""
    if not RECORD.exists():
        return
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    now = layout.PARAMS.read_bytes() if layout.PARAMS.exists() else None
    if now == record["written"].encode():
        _write(layout.PARAMS.resolve(), record["before"])
        say("params.yaml: put back as it was before this; DVC's run-cache keeps the results: " + record["changes"])
    elif now != record["before"].encode():
        say("params.yaml: not put back, as it was edited after a flow had changed " + record["changes"])
    _forget()


def _forget() -> None:
    RECORD.unlink(missing_ok=True)


def _text() -> str:
    """`params.yaml` with its own line ends."""
    with layout.PARAMS.open(encoding="utf-8", newline="") as file:
        return file.read()


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as partial, partial.open("w", encoding="utf-8", newline="") as new:
        new.write(text)
        new.flush()
        os.fsync(new.fileno())
        if path.exists():
            os.chmod(partial, path.stat().st_mode)


def _changed(overrides: Sequence[str]) -> tuple[list[Change], str]:
    """What would change, and the text of `params.yaml` with it."""
    try:
        wanted, text = params.content(), _text()
        params.check(wanted)
    except params.ParamsError as error:
        raise OverrideError(str(error)) from None
    changes = []
    for override in overrides:
        key, value, raw = _parsed(override)
        old = _set(wanted, key, value)
        if type(old) is not type(value) or old != value:
            changes.append(Change(".".join(key), old, value))
            text = _spliced(text, key, value, raw, wanted)
    try:
        params.check(wanted)
    except params.ParamsError as error:
        _, *wrong = str(error).splitlines()
        raise OverrideError("\n".join([f"--set {' --set '.join(overrides)}: nothing changed,", *wrong])) from None
    return changes, text


def _parsed(override: str) -> tuple[list[str], Any, str]:
    """`a.b=[1, 2]` -> the parts of the key, the value as YAML reads it, and its text."""
    name, equals, raw = override.partition("=")
    key = name.strip().split(".")
    if not equals or not all(key):
        raise OverrideError(f"--set {override}: expected KEY=VALUE, as in experiment.seeds=[0,1,2]")
    try:
        return key, YAML(typ="safe").load(raw), raw.strip()
    except YAMLError as error:
        raise OverrideError(f"--set {override}: the value is not YAML: {str(error).splitlines()[0]}") from None


def _set(content: dict, key: Sequence[str], value: Any) -> Any:
    """Change a content in place; the old value, None where there was none."""
    *sections, last = key
    for depth, section in enumerate(sections, start=1):
        content = content.setdefault(section, {})
        if not isinstance(content, dict):
            raise OverrideError(f"{'.'.join(key)}: {'.'.join(key[:depth])} is not a section but {json.dumps(content)}")
    old = content.get(last)
    content[last] = value
    return old


# Not by ruamel's round trip: it keeps comments, but whichever key is changed, it writes the table of `variants` anew,
# without its columns. So a value is replaced where it stands in the text, and every other character stays.
def _spliced(text: str, key: Sequence[str], value: Any, raw: str, wanted: dict) -> str:
    """The text with one value replaced, or added to its section.

    The new text is parsed: it must say what is wanted, and nothing else. The value stands as the user wrote it where it
    can stand so in that place.
    """
    for written in (raw, json.dumps(value, ensure_ascii=False)):
        new = _with(text, key, written)
        try:
            if YAML(typ="safe").load(new) == wanted:
                return new
        except YAMLError:
            pass
    raise OverrideError(f"{'.'.join(key)} cannot be changed in the layout that params.yaml has: edit it by hand")


def _with(text: str, key: Sequence[str], written: str) -> str:
    section, place = YAML().compose(text), 0
    while isinstance(section, MappingNode) and (found := _entry(section, key[place])):
        name, node = found
        place += 1
        if place == len(key):
            start, end = (name.end_mark.index, _end(node)) if _is_block(node) else (node.start_mark.index, _end(node))
            return f"{text[:start]}{': ' if _is_block(node) else ''}{written}{text[end:]}"
        section = node
    for part in reversed(key[place + 1 :]):
        written = f"{{{part}: {written}}}"
    return _added(text, section, f"{key[place]}: {written}")


def _added(text: str, section: MappingNode, entry: str) -> str:
    if not _is_block(section):
        end = section.value[-1][1].end_mark.index if section.value else section.start_mark.index + 1
        return f"{text[:end]}{', ' if section.value else ''}{entry}{text[end:]}"
    line_end = re.compile(r"\r?\n|\Z")
    place = line_end.search(text, _end(section)).start()
    new_line = f"{line_end.search(text)[0]}{' ' * section.start_mark.column}{entry}"
    return f"{text[:place]}{new_line}{text[place:]}"


def _entry(section: MappingNode, key: str) -> tuple[Node, Node] | None:
    return next(((name, node) for name, node in section.value if name.value == key), None)


def _is_block(node: Node) -> bool:
    return isinstance(node, CollectionNode) and not node.flow_style


def _end(node: Node) -> int:
    """Where a node ends. Of a block, ruamel's own mark lies behind the comments that follow it."""
    while _is_block(node) and node.value:
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    return node.end_mark.index
