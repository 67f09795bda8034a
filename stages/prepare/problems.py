"""What is wrong with a source: collected while it is read, and reported in one error."""

import reprlib
from pathlib import Path

from stages.runtime.errors import UserError

LONGEST = 300  # characters of a value that is shown
SHOWN = 10  # offenders named of each kind


class DatasetError(UserError):
    """A source is wrong; the message names for each file and kind of problem how many there are and the first ones."""


class Malformed(ValueError):
    """An entry lacks a key, or its value is of the wrong type; the message names the key."""


class Problems:
    """Problems by file and kind, each once; takes little memory however many there are."""

    def __init__(self):
        self._counts: dict[tuple[str, str], int] = {}
        self._first: dict[tuple[str, str], list[str]] = {}
        self._seen: set[int] = set()  # hashes

    def add(self, path: Path, kind: str, offender: str) -> None:
        """Add an offender, such as `annotation 12`, to a kind, such as `mask without a pixel`, if it is not there."""
        key = (str(path), kind)
        if (seen := hash((*key, offender))) in self._seen:
            return
        self._seen.add(seen)
        self._counts[key] = self._counts.get(key, 0) + 1
        if self._counts[key] <= SHOWN:
            self._first.setdefault(key, []).append(offender)

    def stop(self) -> None:
        """Raise DatasetError where there is any problem."""
        if self._counts:
            raise DatasetError("\n".join(self._lines()))

    def _lines(self) -> list[str]:
        lines = []
        for (path, kind), count in self._counts.items():
            more = f" and {count - SHOWN:,} more" if count > SHOWN else ""
            lines.append(f"{path}: {kind} ({count:,}): {'; '.join(self._first[path, kind])}{more}")
        return lines


def field(entry: object, key: str, kind: type):
    """`entry[key]` of a type. An int, an id or a size, has 63 bits and is not negative; a str can be written as UTF-8.

    Raises:
        Malformed: the key is missing, or its value is of another type or out of range.
    """
    if not isinstance(entry, dict) or key not in entry:
        raise Malformed(f"no {key}")
    value = entry[key]
    if type(value) is not kind:
        raise Malformed(f"{key} is {shown(value)}, expected {kind.__name__}")
    if kind is int and not 0 <= value < 2**63:
        raise Malformed(f"{key} is {shown(value)}, out of range")
    if kind is str and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Malformed(f"{key} is {shown(value)}, which is no text") from None
    return value


def shown(value: object) -> str:
    """A short `repr` of anything, however deep or long."""
    try:
        text = _short.repr(value)
    except ValueError:  # an integer of more digits than Python prints
        return f"a {type(value).__name__} too long to show"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


_short = reprlib.Repr()
_short.maxlist = _short.maxdict = 8
_short.maxlevel = 3
_short.maxstring = 80
