"""Mirrored samples: the image from right to left, and its expression with left and right exchanged.

In the 142,210 expressions of RefCOCO (unc), `left` and `right` also stand within words, such as `bottomright`, and
mean the side there but for the words that `SIDE` leaves out. The abbreviations are those of expressions as typed; the
cleaned ones have none, as the release spells them out.
"""

import re

PAIRS = (("left", "right"), ("lft", "rt"), ("lf", "rgt"), ("l", "r"))
EXCHANGED = {one: other for pair in PAIRS for one, other in (pair, pair[::-1])}
SIDE = re.compile(
    r"(?<!\bb)(?<!\bf)(?<!\bw)(?<!\bc)(?<!\bup)(?<!\bal)(?<!\bout)(?<!\bdown)(?<!\bcopy)(?:left|right)(?!over)"
    r"|\b(?:lft|rt|lf|rgt)(?=(?:most|side|hand)?\b)"
    r"|(?<!letter )(?<![\w'&-])[lr](?![\w'&-]| shape)",
    re.IGNORECASE,
)


def mirrored_text(text: str) -> str:
    """The expression of the same thing in the mirrored image: `leftmost cat` -> `rightmost cat`.

    Words keep their case where all letters or the first are capital. What else depends on the side, such as letters in
    the image or the position of a clock's hand, stays.
    """

    def exchanged(match: re.Match) -> str:
        word = match[0]
        other = EXCHANGED[word.lower()]
        return other.upper() if word.isupper() else other.capitalize() if word[0].isupper() else other

    return SIDE.sub(exchanged, text)
