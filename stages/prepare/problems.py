"""What is wrong with a source: collected while it is read, and reported in one error."""

import reprlib

from stages.runtime import problems
from stages.runtime.errors import UserError

LONGEST = 300  # characters of a value that is shown


class DatasetError(UserError):
    """A source is wrong; the message names for each file and kind of problem how many there are and the first ones."""


class Malformed(ValueError):
    """An entry lacks a key, or its value is of the wrong type; the message names the key."""


class Problems(problems.Problems):
    """Those of a source: `stop` raises DatasetError."""

    def __init__(self):
        super().__init__(DatasetError)


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
