"""Mirrored samples: images, masks and the words for the two sides."""

import numpy as np
import pandas as pd
import pytest
import torch

from stages.data.mirroring import mirrored_text
from stages.data.samplers import OneExpressionPerRef
from stages.data.samples import Expressions


@pytest.mark.parametrize(("text", "mirrored"), [
    ("left cat", "right cat"),
    ("the cat to the right of the left chair", "the cat to the left of the right chair"),
    ("leftmost, then rightmost", "rightmost, then leftmost"),
    ("Left cat", "Right cat"),
    ("RIGHT CAT", "LEFT CAT"),
    ("lft guy rt hand", "rt guy lft hand"),
    ("lefty on righthand side", "righty on lefthand side"),
    ("left-hand man's right", "right-hand man's left"),
    ("bright alright cart art leftover cleft", "bright alright cart art leftover cleft"),
    # of RefCOCO
    ("second from lowerright white shirt orange accents", "second from lowerleft white shirt orange accents"),
    ("dark bottle with red cap topleft", "dark bottle with red cap topright"),
    ("man onleft", "man onright"),
    ("middle rowright pic", "middle rowleft pic"),
    ("blue top leftish", "blue top rightish"),
    ("rightest donut", "leftest donut"),
    ("surf board held by bright blue guy", "surf board held by bright blue guy"),
    ("book on the far left standing upright", "book on the far right standing upright"),
    ("car with brightest lights", "car with brightest lights"),
    ("person with wright on shirt", "person with wright on shirt"),
    ("pizza leftover", "pizza leftover"),
    ("lr90", "lr90"),
    ("snowboard that says ltr on left", "snowboard that says ltr on right"),
    # as people type them before RefCOCO spells them out
    ("guy on rgt, lf hand", "guy on lf, rgt hand"),
    ("bottom l", "bottom r"),
    ("R guy, then l.", "L guy, then r."),
    ("l shaped couch on l bottom", "l shaped couch on r bottom"),
    ("L-shaped desk, letter r, l'oreal, r&b", "L-shaped desk, letter r, l'oreal, r&b"),
    ("woman in red", "woman in red"),
    ("", ""),
])  # fmt: skip
def test_left_and_right_are_exchanged(text, mirrored):
    assert mirrored_text(text) == mirrored
    assert mirrored_text(mirrored) == text


def test_a_mirrored_row_is_the_same_sample_from_right_to_left(squares):
    rows = squares.prepared.split("train").copy()
    rows["text"] = ["the red square", "green one"] * 4
    plain, mirrored = (
        Expressions(squares.prepared, rows, squares.processor, mirror=mirror) for mirror in (False, True)
    )
    count = len(rows)
    known, found = plain[[0, 1, 5]], mirrored[[count, count + 1, 5]]
    assert len(mirrored) == count
    assert torch.equal(found.masks[:2], known.masks[:2].flip(-1))
    assert torch.equal(found.masks[2], known.masks[2])
    assert torch.equal(found.pixel_values[0], known.pixel_values[0].flip(-1))
    assert torch.equal(found.pixel_values[1], known.pixel_values[1])
    assert torch.equal(found.sent_ids, known.sent_ids) and torch.equal(found.image_ids, known.image_ids)


def test_a_mirrored_image_is_another_image_in_a_batch(squares):
    mirrored = Expressions(squares.prepared, squares.prepared.split("train"), squares.processor, mirror=True)
    found = mirrored[[0, 1, len(mirrored), len(mirrored) + 1]]
    assert found.images == len(found.pixel_values) == 2
    assert found.image_index.tolist() == [0, 0, 1, 1]


def test_the_words_of_a_mirrored_row_are_exchanged(squares, monkeypatch):
    monkeypatch.setattr("stages.data.samples.mirrored_text", lambda text: text.replace("the", "square"))
    rows = squares.prepared.split("train")
    mirrored = Expressions(squares.prepared, rows, squares.processor, mirror=True)
    decoded = squares.processor.tokenizer.batch_decode
    place = rows.index[rows["text"].str.startswith("the ")][0]
    (found,) = decoded(mirrored[[len(rows) + place]].input_ids, skip_special_tokens=True)
    assert found == rows["text"][place].replace("the", "square")


@pytest.mark.parametrize("by_image", [False, True])
def test_half_of_the_images_are_mirrored_and_nothing_else_changes(by_image):
    rows = pd.DataFrame({"ref_id": np.arange(900) // 2, "image_id": np.arange(900) // 6})
    plain, mirroring = (OneExpressionPerRef(rows, 3, by_image, mirror) for mirror in (False, True))
    shares = []
    for epoch in range(1, 9):
        plain.epoch = mirroring.epoch = epoch
        known, found = np.array(list(plain)), np.array(list(mirroring))
        assert (found % 900 == known).all()
        of_images = pd.Series(found // 900).groupby(rows["image_id"].to_numpy()[known]).nunique()
        assert (of_images == 1).all()
        shares.append((found // 900).mean())
    assert 0.4 < np.mean(shares) < 0.6 and len(set(shares)) > 1
