"""Expressions are read back from their wording alone, by a second reading that shares nothing with the grammar."""

import re

import numpy as np
import pytest

from stages.prepare.scenes import release as scenes
from stages.prepare.scenes import wording
from stages.prepare.scenes.arrangement import Scene, Thing
from stages.prepare.scenes.grammar import Attribute, Comparison, Finder, Noun, Position, Relation, needs_all, referent
from stages.runtime.params import ImageCounts, ScenesSource

SOURCE = ScenesSource(
    kind="scenes",
    seed=7,
    image_size=64,
    image_counts=ImageCounts(train=1, val=1, testA=1, testB=1),
    sentence="sent",
)

COLOUR = "red|orange|yellow|green|blue|purple"
NOUN = rf"(?:(small|little|large|big) )?(?:({COLOUR}) )?(circle|square|triangle|cross|thing|object)"
SIDE = r"((?:(?:top|bottom|upper|lower) )?(?:left|right)|top|bottom)"
FORMS = {
    "relation": rf"{NOUN} (?:to the )?(left|right|above|over|below|under|closest|nearest)(?: of| to)? the {NOUN}",
    "comparison": rf"(larg|bigg|small|high|low)(er|est) (of the two )?{NOUN}(?:e?s)?",
    "extreme": rf"(left|right|top|bottom)most {NOUN}|{NOUN} (?:furthest to the|at the very) (left|right|top|bottom)",
    "middle": rf"middle {NOUN}|{NOUN} in the middle",
    "side": rf"{SIDE} {NOUN}|{NOUN} (?:on|at|in) the {SIDE}(?: corner)?",
    "attribute": NOUN,
}


def called(scene: Scene, size: str, colour: str, shape: str) -> list[Thing]:
    """The things that the words of a noun fit; a small thing is one of less than 9 of 64 pixels radius."""
    return [
        thing
        for thing in scene.things
        if (not size or (size in ("small", "little")) == (thing.radius < 9 * scene.size / 64))
        and (not colour or thing.colour == colour)
        and (shape in ("thing", "object") or thing.shape == shape)
    ]


def read(text: str, scene: Scene) -> tuple[str, list[Thing]]:
    """The kind of an expression and all things it is true of, in a plain reading without margins."""
    matches = {form: re.fullmatch(f"(?:the )?(?:{pattern})", text) for form, pattern in FORMS.items()}
    ((form, groups),) = [(form, match.groups()) for form, match in matches.items() if match]
    if form == "attribute":
        return "attribute", called(scene, *groups)
    if form == "relation":
        (anchor,) = called(scene, *groups[4:])
        things = [thing for thing in called(scene, *groups[:3]) if thing is not anchor]
        if groups[3] in ("closest", "nearest"):
            return "relation", [min(things, key=lambda t: np.hypot(t.x - anchor.x, t.y - anchor.y))]
        lead = {
            "left": lambda t: anchor.x - t.x,
            "right": lambda t: t.x - anchor.x,
            "above": lambda t: anchor.y - t.y,
            "over": lambda t: anchor.y - t.y,
            "below": lambda t: t.y - anchor.y,
            "under": lambda t: t.y - anchor.y,
        }[groups[3]]
        return "relation", [thing for thing in things if lead(thing) > 2]
    if form == "comparison":
        things = called(scene, *groups[3:])
        assert (len(things) == 2) == (groups[1] == "er"), text
        measure = {
            "larg": lambda t: t.mask.sum(),
            "bigg": lambda t: t.mask.sum(),
            "small": lambda t: -float(t.mask.sum()),
            "high": lambda t: -t.y,
            "low": lambda t: t.y,
        }[groups[0]]
        return "comparison", [max(things, key=measure)]
    if form == "middle":
        things = called(scene, *(groups[:3] if groups[2] else groups[3:]))
        return "position", [
            t for t in things if max(abs(t.x - scene.size / 2), abs(t.y - scene.size / 2)) < scene.size / 4
        ]
    where, noun = (groups[0], groups[1:4]) if groups[0] else (groups[7], groups[4:7])
    things = called(scene, *noun)
    ahead = {"left": lambda t: -t.x, "right": lambda t: t.x, "top": lambda t: -t.y, "bottom": lambda t: t.y}
    if form == "extreme":
        return "position", [max(things, key=ahead[where])]
    for word in where.replace("upper", "top").replace("lower", "bottom").split():
        half = scene.size / 2 * (-1 if word in ("left", "top") else 1)
        things = [thing for thing in things if ahead[word](thing) > half]
    return "position", things


@pytest.fixture(scope="module")
def images():
    return [scenes.draw(SOURCE, split, index) for split in scenes.SPLITS for index in range(80)]


def said(images):
    for image in images:
        for target, sentences in image.sentences.items():
            for sentence in sentences:
                yield image.scene, target, sentence


def test_a_plain_reading_of_the_words_finds_exactly_the_target(images):
    for scene, target, sentence in said(images):
        kind, things = read(sentence.text, scene)
        assert things == [scene.things[target]], sentence.text
        assert kind == sentence.expression.kind


def test_every_wording_of_every_rule_occurs_and_stays_short(images):
    texts = [sentence.text for _, _, sentence in said(images)]
    words = {word for text in texts for word in text.split()}
    assert max(len(text.split()) for text in texts) <= 14
    assert 50 <= len(words) < 100
    for form in FORMS.values():
        assert any(re.fullmatch(f"(?:the )?(?:{form})", text) for text in texts), form


def test_no_part_can_be_left_out(images):
    for scene, target, sentence in said(images):
        expression = sentence.expression
        assert referent(expression, scene) == target
        assert needs_all(expression, scene)
        noun = expression.noun
        bare = len(called(scene, noun.size, noun.colour, noun.shape or "thing"))
        assert bare == 1 if expression.kind == "attribute" else bare > 1
        if expression.kind == "attribute":
            assert noun.size is None or len(called(scene, None, noun.colour, noun.shape or "thing")) > 1
            assert noun.colour is None or len(called(scene, noun.size, None, noun.shape or "thing")) > 1
            assert noun.shape is None or len(called(scene, noun.size, noun.colour, "thing")) > 1


def scene(*rows: tuple) -> Scene:
    """A scene of 100 pixels from rows `shape, colour, radius, x, y`."""
    none = np.zeros((100, 100), dtype=bool)
    things = [
        Thing(shape, colour, "large" if radius > 14 else "small", x, y, radius, 0.0, none)
        for shape, colour, radius, x, y in rows
    ]
    return Scene(100, tuple(things))


RED, CIRCLE, ANY = Noun(colour="red"), Noun(shape="circle"), Noun()
FOUR = scene(
    ("circle", "red", 10, 20, 30),
    ("circle", "blue", 18, 75, 32),
    ("square", "red", 18, 24, 72),
    ("square", "blue", 10, 70, 80),
)


@pytest.mark.parametrize(
    ("expression", "target"),
    [
        (Attribute(Noun(colour="red", shape="circle")), 0),
        (Attribute(Noun("large", "red")), 2),
        (Attribute(RED), None),
        (Position(CIRCLE, "leftmost"), 0),
        (Position(ANY, "leftmost"), None),  # 20 and 24 are too close to call
        (Position(ANY, "left"), None),
        (Position(CIRCLE, "right"), 1),
        (Position(ANY, "top left"), 0),
        (Position(ANY, "bottom right"), 3),
        (Position(ANY, "middle"), None),
        (Comparison(CIRCLE, "large", True), 1),
        (Comparison(CIRCLE, "large", False), None),  # "largest" is for more than two
        (Comparison(CIRCLE, "high", True), None),  # 30 and 32 are too close to call
        (Comparison(RED, "low", True), 2),
        (Comparison(ANY, "large", False), None),
        (Relation(ANY, "left", Noun(colour="blue", shape="circle")), None),  # true of one, doubtful of another
        (Relation(CIRCLE, "left", Noun(colour="blue", shape="circle")), 0),
        (Relation(CIRCLE, "top", Noun(colour="blue", shape="square")), None),
        (Relation(RED, "bottom", Noun(colour="red", shape="circle")), 2),
        (Relation(ANY, "closest", Noun(colour="red", shape="circle")), 2),
        (Relation(ANY, "closest", CIRCLE), None),  # which circle?
    ],
)
def test_an_expression_refers_only_where_it_is_clear(expression, target):
    assert referent(expression, FOUR) == target


def test_needless_words_are_noticed():
    assert needs_all(Attribute(Noun(colour="red", shape="circle")), FOUR)
    assert not needs_all(Attribute(Noun("small", "red", "circle")), FOUR)
    assert not needs_all(Position(Noun(colour="red", shape="circle"), "left"), FOUR)
    assert not needs_all(Relation(RED, "bottom", Noun("small", "red", "circle")), FOUR)


def test_the_finder_finds_every_name_of_a_thing():
    names = {expression.noun for expression in Finder(FOUR).find(0, "attribute", np.random.default_rng(0))}
    assert names == {Noun("small", "red"), Noun("small", None, "circle"), Noun(None, "red", "circle")}


def test_plural_of_two():
    texts = {wording.say(Comparison(Noun(shape="cross"), "low", True), np.random.default_rng(n)) for n in range(40)}
    assert texts == {"lower of the two crosses", "the lower of the two crosses", "lower cross", "the lower cross"}
