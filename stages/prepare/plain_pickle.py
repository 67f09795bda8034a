"""Loads pickles from unknown sources: lists, dictionaries, strings and numbers of 64 bits; anything else is refused.

To refuse classes is not enough. Seven bytes make the unpickler of the standard library clear 64 GB for a memo of four
billion places; a tuple of 200,000 tuples within each other crashes the interpreter once it is the key of a dictionary;
long integers chosen to collide keep a dictionary busy for hours. A file of refs holds none of these. So all opcodes are
read first, and nothing is loaded where one of them is not plain.

They are read by a regular expression, which for the refs of RefCOCO takes 0.9 of the time that loading takes (0.7 in
protocol 0). A loop over the opcodes takes 2.6 times as long as loading (3.6 in protocol 0), and `pickletools.genops`,
which also refuses strings of Python 2 that are not ASCII, 5 times (7).
"""

import io
import pickle
import pickletools
import re

from stages.prepare.problems import shown

SHORT = 24  # bytes; the regular expression skips strings below that, longer ones are skipped one by one
AT_ONCE = 10_000  # opcodes of one match, so that the regular expression engine keeps few ways back
STRINGS = {b"T": 4, b"U": 1, b"X": 4, b"B": 4, b"C": 1, b"\x8c": 1}  # width of the length before a string
CLASSES = b"cioRbPQ\x81\x82\x83\x84\x92\x93"


class NotPlain(ValueError):
    """The bytes are not a whole pickle of plain data; the message says what is wrong, and where."""


def load(content: bytes) -> object:
    """The data of a pickle by Python 2 or 3, in protocol 0 to 5. Byte strings of Python 2 are UTF-8, or else Latin-1.

    Raises:
        NotPlain: it is refused; no class was looked up and nothing was called.
    """
    content = content[: _stop(content)]
    try:
        try:
            return _Unpickler(_file(content), encoding="utf-8").load()
        except UnicodeDecodeError:
            return _Unpickler(_file(content), encoding="latin-1").load()
    except Exception as error:  # opcodes in the wrong order raise nearly anything
        raise NotPlain(f"not a whole pickle: {type(error).__name__}: {shown(str(error))}") from None


class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        raise _ClassRefused(f"{module}.{name}")


class _ClassRefused(Exception):
    pass


def _file(content: bytes) -> io.BufferedReader:
    return io.BufferedReader(io.BytesIO(content))  # the unpickler reads it in large pieces, unlike a BytesIO


def _stop(content: bytes) -> int:
    """Where the pickle ends. Raises NotPlain at the first opcode that is not plain."""
    plain = _plain_opcodes(len(content))
    position = 0
    while (opcode := content[position : position + 1]) != b".":
        end = plain.match(content, position).end()
        if end == position and opcode in STRINGS:
            start = position + 1 + STRINGS[opcode]
            end = start + int.from_bytes(content[position + 1 : start], "little")
        if end > len(content) or not opcode:
            raise NotPlain(f"not a whole pickle: cut off after {len(content)} bytes")
        if end == position:
            raise NotPlain(_refusal(content, position))
        position = end
    return position + 1


def _plain_opcodes(size: int) -> re.Pattern[bytes]:
    """A run of whole plain opcodes, for a file of so many bytes.

    An opcode fills one place of the memo, so no place beyond the file's size is ever used. One of up to ten times that,
    or 10,000, is let through too: it takes 160 bytes of memory for each byte of the file, where plain lists take 80.
    """
    digits = max(len(str(size)), 4)
    third, fourth = min(size >> 16, 255), min(size >> 24, 255)  # the high bytes of a place
    opcodes = [  # the frequent ones first
        rb"r..[\x00-\x%02x][\x00-\x%02x]" % (third, fourth),
        rb"[hqK].",
        _strings(b"X", 4),
        rb"[\](}lasedu\x88\x89\x94N]",  # containers, None, True, False, MEMOIZE
        rb"[Jj]....",
        rb"M..",
        *(_strings(opcode, width) for opcode, width in STRINGS.items() if opcode != b"X"),
        rb"[SV][^\n]*\n",
        rb"[gp][0-9]{1,%d}\n" % digits,
        rb"[IL][^\n]{1,21}\n",
        rb"F[^\n]{1,30}\n",
        rb"G.{8}",
        _with_lengths(b"\x8a", 1, 9),
        rb"\x80.",
        rb"\x95.{8}",
    ]
    return re.compile(rb"(?:" + rb"|".join(opcodes) + rb"){0,%d}" % AT_ONCE, re.DOTALL)


def _strings(opcode: bytes, width: int) -> bytes:
    return _with_lengths(opcode, width, SHORT)


def _with_lengths(opcode: bytes, width: int, end: int) -> bytes:
    """An opcode, a length below `end` in `width` bytes, and so many bytes: one alternative for each length."""
    lengths = (re.escape(length.to_bytes(width, "little")) + rb".{%d}" % length for length in range(end))
    return re.escape(opcode) + rb"(?:" + rb"|".join(lengths) + rb")"


def _refusal(content: bytes, position: int) -> str:
    opcode = content[position : position + 1]
    known = pickletools.code2op.get(opcode.decode("latin-1"))
    name = known.name if known else f"no opcode, {opcode!r}"
    if opcode not in CLASSES:
        return f"not a whole pickle of lists, dictionaries, strings and numbers: {name} at byte {position}"
    lines = re.compile(rb"[ci][^\n]*\n[^\n]*\n|.", re.DOTALL).match(content, position)
    until = content[: lines.end()].ljust(len(content), b".")  # as long as before, since a frame states its length
    try:  # to learn the name; all that comes before is plain
        _Unpickler(_file(until)).load()
    except _ClassRefused as error:
        name = shown(str(error))
    except Exception:
        pass
    return f"asks for {name} at byte {position}; plain data hold no classes, so it is refused"
