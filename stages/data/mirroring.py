"""Mirrored samples: the image from right to left, and its expression with left and right exchanged."""

import re

EXCHANGED = {"left": "right", "right": "left", "lft": "rt", "rt": "lft"}
SIDE = re.compile(r"\b(left|right|lft|rt)(?=most\b|side\b|hand\b|est\b|er\b|y\b|\b)", re.IGNORECASE)


def mirrored_text(text: str) -> str:
    """The expression of the same thing in the mirrored image: `leftmost cat` -> `rightmost cat`.

    Words keep their case where all letters or the first are capital. What else depends on the side, such as letters in
    the image or the position of a clock's hand, stays.
    """

    def exchanged(match: re.Match) -> str:
        word = match[1]
        other = EXCHANGED[word.lower()]
        return other.upper() if word.isupper() else other.capitalize() if word[0].isupper() else other

    return SIDE.sub(exchanged, text)
