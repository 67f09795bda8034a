"""Puts an expression of the grammar into words: one of several wordings, drawn at random."""

import numpy as np

from stages.prepare.scenes.grammar import Attribute, Comparison, Expression, Noun, Position, Relation

_SIZES = {"small": ("small", "little"), "large": ("large", "big")}
_ANY_SHAPE = ("thing", "object")

_PLACES = {
    "left": ("{} on the left", "left {}"),
    "right": ("{} on the right", "right {}"),
    "top": ("{} at the top", "top {}"),
    "bottom": ("{} at the bottom", "bottom {}"),
    "top left": ("{} in the top left", "top left {}", "{} in the upper left corner"),
    "top right": ("{} in the top right", "top right {}", "{} in the upper right corner"),
    "bottom left": ("{} in the bottom left", "bottom left {}", "{} in the lower left corner"),
    "bottom right": ("{} in the bottom right", "bottom right {}", "{} in the lower right corner"),
    "leftmost": ("leftmost {}", "{} furthest to the left"),
    "rightmost": ("rightmost {}", "{} furthest to the right"),
    "topmost": ("topmost {}", "{} at the very top"),
    "bottommost": ("bottommost {}", "{} at the very bottom"),
    "middle": ("{} in the middle", "middle {}"),
}

_OF_TWO = {"large": ("larger", "bigger"), "small": ("smaller",), "high": ("higher",), "low": ("lower",)}
_OF_MORE = {"large": ("largest", "biggest"), "small": ("smallest",), "high": ("highest",), "low": ("lowest",)}

_RELATIONS = {
    "left": ("left of", "to the left of"),
    "right": ("right of", "to the right of"),
    "top": ("above", "over"),
    "bottom": ("below", "under"),
    "closest": ("closest to", "nearest to"),
}


def say(expression: Expression, generator: np.random.Generator) -> str:
    """A wording of the expression, in lower case, words separated by one space, sometimes without a leading "the"."""
    phrase = _phrase(expression, generator)
    return phrase if generator.random() < 0.25 else f"the {phrase}"


def _phrase(expression: Expression, generator: np.random.Generator) -> str:
    def one_of(options: tuple[str, ...]) -> str:
        return options[generator.integers(len(options))]

    def called(noun: Noun, plural: bool = False) -> str:
        size = one_of(_SIZES[noun.size]) if noun.size else None
        shape = noun.shape or one_of(_ANY_SHAPE)
        if plural:
            shape += "es" if shape.endswith("s") else "s"
        return " ".join(word for word in (size, noun.colour, shape) if word)

    match expression:
        case Attribute(noun):
            return called(noun)
        case Position(noun, place):
            return one_of(_PLACES[place]).format(called(noun))
        case Comparison(noun, quality, of_two=True):
            word = one_of(_OF_TWO[quality])
            return (
                f"{word} of the two {called(noun, plural=True)}"
                if generator.random() < 0.5
                else f"{word} {called(noun)}"
            )
        case Comparison(noun, quality):
            return f"{one_of(_OF_MORE[quality])} {called(noun)}"
        case Relation(noun, relation, anchor):
            return f"{called(noun)} {one_of(_RELATIONS[relation])} the {called(anchor)}"
