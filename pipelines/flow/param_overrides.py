"""`--set experiment.seeds=[0,1,2]`: values changed in the text of a `params.yaml`, whose other characters all stay."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.nodes import CollectionNode, MappingNode, Node

from stages.runtime import params


class OverrideError(Exception):
    """A wrong key or value, or a file that must not change; nothing was changed. The message names the way out."""


class Change(NamedTuple):
    """One key and its new value. The old one is None where the key is not there yet."""

    key: str
    old: Any
    new: Any

    def __str__(self) -> str:
        old = "nothing" if self.old is None else json.dumps(self.old)
        return f"{self.key}: {old} -> {json.dumps(self.new)}"


def read(file: Path) -> str:
    """The text of a `params.yaml` with its own line ends. Raises OverrideError where it is missing, or is not YAML."""
    try:
        params.content(file)
    except params.ParamsError as error:
        raise OverrideError(str(error)) from None
    with file.open(encoding="utf-8", newline="") as opened:
        return opened.read()


def spliced(text: str, overrides: Sequence[str], file: Path) -> tuple[list[Change], str]:
    """What the overrides change, and the text with them.

    Args:
        text: of a `params.yaml`, which may leave keys to the project's.
        file: where it is, or will be.

    Raises:
        OverrideError: the text is wrong, or a key or a value is.
    """
    try:
        wanted = YAML(typ="safe").load(text)
        params.check(wanted, file)
    except params.ParamsError as error:
        raise OverrideError(str(error)) from None
    changes = []
    for override in overrides:
        key, value, raw = _parsed(override)
        old = _value(params.whole(wanted, file), key)
        if type(old) is not type(value) or old != value:
            changes.append(Change(".".join(key), old, value))
            _set(wanted, key, value)
            text = _with_value(text, key, value, raw, wanted)
    try:
        params.check(wanted, file)
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


def _value(content: Any, key: Sequence[str]) -> Any:
    """The value of a key, None where there is none."""
    for depth, part in enumerate(key):
        if not isinstance(content, dict):
            section = ".".join(key[:depth])
            raise OverrideError(f"{'.'.join(key)}: {section} is not a section but {json.dumps(content)}")
        if part not in content:
            return None
        content = content[part]
    return content


def _set(content: dict, key: Sequence[str], value: Any) -> None:
    *sections, last = key
    for section in sections:
        content = content.setdefault(section, {})
    content[last] = value


# Not by ruamel's round trip: it keeps comments, but lays out anew what a user wrote in another way. So a value is
# replaced where it stands in the text, and every other character stays.
def _with_value(text: str, key: Sequence[str], value: Any, raw: str, wanted: dict) -> str:
    """The text with one value replaced, or added to its section.

    The new text is parsed: it must say what is wanted, and nothing else. The value stands as the user wrote it where it
    can stand so in that place.
    """
    for written in (raw, json.dumps(value, ensure_ascii=False)):
        new = _put(text, key, written)
        try:
            if YAML(typ="safe").load(new) == wanted:
                return new
        except YAMLError:
            pass
    raise OverrideError(f"{'.'.join(key)} cannot be changed in the layout that params.yaml has: edit it by hand")


def _put(text: str, key: Sequence[str], written: str) -> str:
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
