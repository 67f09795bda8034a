"""Referring expressions: what they mean in a scene, and how those that refer to a thing are found.

    expression = Attribute(noun)
               | Position(noun, place)
               | Comparison(noun, quality, of_two)
               | Relation(noun, relation, anchor)
    noun       = [size] [colour] [shape]

An expression is clearly true of a thing, clearly false, or doubtful. It refers to a thing where it is clearly true of
that one and clearly false of every other. Lengths are shares of the image's size.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from stages.prepare.scenes.arrangement import Scene, Thing

Kind = Literal["attribute", "position", "comparison", "relation"]
Judgement = dict[int, bool]  # by index of a thing: True for clearly true, False for doubtful, absent for clearly false

APART = 0.1  # least distance of an extreme thing from the next one
RATIO = 1.25  # least ratio of radii that counts as a difference
SIDE, NOT_SIDE = 0.4, 0.52  # distance from an edge: up to SIDE a thing is at that side, from NOT_SIDE on clearly not
CENTRAL, NOT_CENTRAL = 0.15, 0.25  # the same for the distance from the middle of the image, in x and y
BESIDE, NOT_BESIDE = 0.12, 0.03  # the same for the distance of a thing from its anchor, along the direction
CONE = 1.2  # a thing clearly lies in a direction where it is at most this many times as far across as along

DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}  # x, y
CORNERS = {f"{v} {h}": (v, h) for v in ("top", "bottom") for h in ("left", "right")}
EXTREMES = {f"{direction}most": direction for direction in DIRECTIONS}
PLACES = (*DIRECTIONS, *CORNERS, *EXTREMES, "middle")
QUALITIES = ("large", "small", "high", "low")
RELATIONS = (*DIRECTIONS, "closest")


@dataclass(frozen=True)
class Noun:
    """What a thing is called; None for an attribute that is not named."""

    size: str | None = None
    colour: str | None = None
    shape: str | None = None

    def among(self, scene: Scene) -> list[int]:
        """Indexes of the things it covers."""
        size, colour, shape = self.size, self.colour, self.shape
        return [
            index
            for index, thing in enumerate(scene.things)
            if (shape is None or shape == thing.shape)
            and (colour is None or colour == thing.colour)
            and (size is None or size == thing.size)
        ]

    def simpler(self) -> Iterator["Noun"]:
        """The noun without one of its attributes."""
        for name in ("size", "colour", "shape"):
            if getattr(self, name) is not None:
                yield replace(self, **{name: None})


@dataclass(frozen=True)
class Attribute:
    """ "the large red circle" """

    noun: Noun
    kind = "attribute"

    def judge(self, scene: Scene) -> Judgement:
        return dict.fromkeys(self.noun.among(scene), True)

    def simpler(self) -> Iterator["Expression"]:
        yield from (Attribute(noun) for noun in self.noun.simpler())


@dataclass(frozen=True)
class Position:
    """ "the red circle in the top left", "the leftmost square": where in the image, or the extreme of its kind."""

    noun: Noun
    place: str  # one of PLACES
    kind = "position"

    def judge(self, scene: Scene) -> Judgement:
        things = {index: scene.things[index] for index in self.noun.among(scene)}
        if self.place in EXTREMES:
            ahead = EXTREMES[self.place]
            return _most(
                {index: _along(ahead, thing.x, thing.y) for index, thing in things.items()}, APART * scene.size
            )
        if self.place == "middle":
            off = {i: max(abs(t.x / scene.size - 0.5), abs(t.y / scene.size - 0.5)) for i, t in things.items()}
            return {index: value < CENTRAL for index, value in off.items() if value < NOT_CENTRAL}
        sides = CORNERS.get(self.place, (self.place,))
        off = {
            i: max(0.5 - _along(side, t.x / scene.size - 0.5, t.y / scene.size - 0.5) for side in sides)
            for i, t in things.items()
        }
        return {index: value < SIDE for index, value in off.items() if value < NOT_SIDE}

    def simpler(self) -> Iterator["Expression"]:
        yield Attribute(self.noun)
        yield from (Position(noun, self.place) for noun in self.noun.simpler())


@dataclass(frozen=True)
class Comparison:
    """ "the larger of the two red circles", "the highest square": of two, or of more than two."""

    noun: Noun
    quality: str  # one of QUALITIES
    of_two: bool
    kind = "comparison"

    def judge(self, scene: Scene) -> Judgement:
        things = {index: scene.things[index] for index in self.noun.among(scene)}
        if (len(things) == 2) != self.of_two:
            return {}
        if self.quality in ("high", "low"):
            sign = 1 if self.quality == "low" else -1
            return _most({index: sign * thing.y for index, thing in things.items()}, APART * scene.size)
        sign = 1 if self.quality == "large" else -1
        return _most({index: sign * math.log(thing.radius) for index, thing in things.items()}, math.log(RATIO))

    def simpler(self) -> Iterator["Expression"]:
        yield Attribute(self.noun)
        for noun in self.noun.simpler():
            yield from (Comparison(noun, self.quality, of_two) for of_two in (True, False))


@dataclass(frozen=True)
class Relation:
    """ "the circle left of the blue square", "the red thing closest to the small cross"."""

    noun: Noun
    relation: str  # one of RELATIONS
    anchor: Noun
    kind = "relation"

    def judge(self, scene: Scene) -> Judgement:
        anchors = self.anchor.among(scene)
        if len(anchors) != 1:
            return {}
        origin = scene.things[anchors[0]]
        offsets = {
            index: ((scene.things[index].x - origin.x) / scene.size, (scene.things[index].y - origin.y) / scene.size)
            for index in self.noun.among(scene)
            if index != anchors[0]
        }
        if self.relation == "closest":
            return _most({index: -math.hypot(*offset) for index, offset in offsets.items()}, APART)
        judgement = {}
        for index, (dx, dy) in offsets.items():
            along = _along(self.relation, dx, dy)
            across = abs(dy) if self.relation in ("left", "right") else abs(dx)
            if along > NOT_BESIDE:
                judgement[index] = along > BESIDE and across < CONE * along
        return judgement

    def simpler(self) -> Iterator["Expression"]:
        yield Attribute(self.noun)
        yield from (Relation(noun, self.relation, self.anchor) for noun in self.noun.simpler())
        yield from (Relation(self.noun, self.relation, anchor) for anchor in self.anchor.simpler())


Expression = Attribute | Position | Comparison | Relation


def _along(direction: str, x: float, y: float) -> float:
    return DIRECTIONS[direction][0] * x + DIRECTIONS[direction][1] * y


def _most(values: dict[int, float], margin: float) -> Judgement:
    """The thing with the largest value; where others come within the margin of it, all of them are doubtful."""
    top = max(values.values(), default=0)
    near = [index for index, value in values.items() if value > top - margin]
    return dict.fromkeys(near, len(near) == 1)


def referent(expression: Expression, scene: Scene) -> int | None:
    """The index of the thing that the expression refers to; None where there is none, or where it is doubtful."""
    judgement = expression.judge(scene)
    return next(iter(judgement)) if list(judgement.values()) == [True] else None


def needs_all(expression: Expression, scene: Scene) -> bool:
    """Whether the expression no longer refers to its thing if any part of it is left out."""
    target = referent(expression, scene)
    return all(referent(simpler, scene) != target for simpler in expression.simpler())


class Finder:
    """Finds the expressions that refer to a thing of a scene and need all their parts."""

    def __init__(self, scene: Scene):
        self.scene = scene

    @cached_property
    def _names(self) -> list[list[Noun]]:
        """For every thing, the nouns that refer to it without anything else, and need all their parts."""
        return [
            [noun for noun in _nouns(thing) if self._fits(Attribute(noun), index)]
            for index, thing in enumerate(self.scene.things)
        ]

    def find(self, target: int, kind: Kind, generator: np.random.Generator) -> Iterator[Expression]:
        """All such expressions of a kind, in random order; those of a higher `_weight` tend to come first."""
        candidates = getattr(self, f"_{kind}")(target)
        rank = generator.random(len(candidates)) / [_weight(candidate) for candidate in candidates]
        for index in np.argsort(rank, kind="stable"):
            if self._fits(candidates[index], target):
                yield candidates[index]

    def _shared(self, target: int) -> list[Noun]:
        """Nouns that cover the target and other things, so that something has to be added to them."""
        return [noun for noun in _nouns(self.scene.things[target]) if len(noun.among(self.scene)) > 1]

    def _fits(self, expression: Expression, target: int) -> bool:
        return referent(expression, self.scene) == target and needs_all(expression, self.scene)

    def _attribute(self, target: int) -> list[Expression]:
        return [Attribute(noun) for noun in self._names[target]]

    def _position(self, target: int) -> list[Expression]:
        return [Position(noun, place) for noun in self._shared(target) for place in PLACES]

    def _comparison(self, target: int) -> list[Expression]:
        return [
            Comparison(noun, quality, of_two)
            for noun in self._shared(target)
            if noun.size is None
            for quality in QUALITIES
            for of_two in (True, False)
        ]

    def _relation(self, target: int) -> list[Expression]:
        anchors = [name for index, names in enumerate(self._names) if index != target for name in names]
        return [
            Relation(noun, relation, anchor)
            for noun in self._shared(target)
            for relation in RELATIONS
            for anchor in anchors
        ]


def _nouns(thing: Thing) -> list[Noun]:
    """Every noun that covers the thing."""
    return [
        Noun(size, colour, shape)
        for size in (None, thing.size)
        for colour in (None, thing.colour)
        for shape in (None, thing.shape)
    ]


def _weight(expression: Expression) -> float:
    """How often an expression is used: those with a colour more often, "closest", which fits often, less often."""
    named = (2 if expression.noun.colour else 1) * (0.5 if expression.noun.shape else 1)
    return named * (0.2 if isinstance(expression, Relation) and expression.relation == "closest" else 1)
