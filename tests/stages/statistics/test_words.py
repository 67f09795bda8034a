"""Kinds of words: on expressions read by hand, on a grammar that knows the answer, on a set that forbids positions."""

import pickle

import pytest

from stages.prepare.scenes import release as scenes
from stages.runtime.params import ImageCounts, ScenesSource
from stages.statistics.words import KINDS, kinds

READ_BY_HAND = {  # of RefCOCO and RefCOCO+: a attribute, p position, r relation
    "": [
        "woman",
        "catcher",
        "pizza slice",
        "number 13",
        "the batter",
    ],
    "a": [
        "blue shirt",
        "man in a black shirt",
        "girl with long hair",
        "woman with her back to us",
        "man with glasses",
        "guy standing",
        "biggest elephant",
        "person with back turned",
        "giraffe looking left",
        "woman in red top",
        "Man's striped tie!",
        "zebra facing the camera",
        "dark-brown couch",
    ],
    "p": [
        "person on the right",
        "far left person",
        "second from left",
        "horse closest to us",
        "elephant in front",
        "3rd giraffe from the right",
        "middle zebra",
        "top-left donut",
        "leftmost cow",
        "left of image",
        "left of picture",
        "left of photo",
        "chair on the very left",
        "bottom right",
        "pizza at the top",
        "man in back",
    ],
    "r": [
        "man next to chair",
        "person behind fence",
        "woman holding umbrella",
        "bowl in front of the cat",
        "girl on horse",
        "chair to the left of the woman",
        "man between the buses",
        "plate with broccoli",
        "carrot closest to the knife",
        "bench above bag",
        "guy by window",
    ],
    "ap": ["red couch on left", "right guy in white shirt", "white shirt top left", "tallest person in the middle"],
    "ar": ["old man next to dog", "girl sitting on bench", "black bag to right of red one"],
    "pr": ["left man on bike", "car on right behind bus", "top donut with sprinkles", "lady on left next to horse"],
    "apr": ["guy in red shirt on left holding bat", "small boat in front of the bridge on right"],
}


@pytest.mark.parametrize(("letters", "text"), [(key, text) for key, texts in READ_BY_HAND.items() for text in texts])
def test_expressions_read_by_hand(letters, text):
    assert kinds(text) == [kind for kind in KINDS if kind[0] in letters]


def test_rendered_scenes(tmp_path):
    """Their grammar knows what each expression says; sizes and colours are attributes, highest and lowest positions."""
    images = ImageCounts(train=40, val=10, testA=10, testB=20)
    scenes.write(ScenesSource(kind="scenes", seed=5, image_size=64, image_counts=images, sentence="sent"), tmp_path)
    refs = pickle.loads((tmp_path / "scenes" / "refs(unc).p").read_bytes())
    sentences = [sentence for ref in refs for sentence in ref["sentences"]]
    assert {sentence["kind"] for sentence in sentences} == {"attribute", "position", "comparison", "relation"}
    named = {"red", "orange", "yellow", "green", "blue", "purple", "small", "little", "large", "big"}
    named |= {"smaller", "smallest", "larger", "largest", "bigger", "biggest"}
    for sentence in sentences:
        words = set(sentence["sent"].split())
        extreme = bool(words & {"higher", "highest", "lower", "lowest"})
        expected = {
            "attribute": bool(words & named),
            "position": sentence["kind"] == "position" or (sentence["kind"] == "comparison" and extreme),
            "relation": sentence["kind"] == "relation",
        }
        for text in (sentence["sent"], sentence["raw"]):
            assert kinds(text) == [kind for kind, there in expected.items() if there], text


def test_photographs(shared_data):
    """Who wrote RefCOCO+ was forbidden to say where in the image; attributes and relations had to do."""
    shares = {}
    for name in ("refcoco", "refcoco+"):
        refs = pickle.loads((shared_data / "refer_mini" / name / "refs(unc).p").read_bytes())
        found = [kinds(sentence["sent"]) for ref in refs for sentence in ref["sentences"]]
        shares[name] = {kind: sum(kind in one for one in found) / len(found) for kind in KINDS}
    assert shares["refcoco"]["position"] > 0.55 and shares["refcoco+"]["position"] < 0.12
    assert shares["refcoco+"]["attribute"] > 1.4 * shares["refcoco"]["attribute"]
    assert shares["refcoco+"]["relation"] > 1.4 * shares["refcoco"]["relation"]
