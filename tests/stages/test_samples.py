"""Samples: what a model sees of each expression, and which expressions an epoch has."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from stages import samples
from stages.samples import OneExpressionPerRef


@pytest.fixture
def refs() -> pd.DataFrame:
    """Eight refs with one to four expressions each, in no order."""
    ref_ids = [ref for ref in range(8) for _ in range(1 + ref % 4)]
    return pd.DataFrame({"ref_id": np.random.default_rng(0).permutation(ref_ids)})


def epoch(rows: pd.DataFrame, seed: int, number: int) -> list[int]:
    sampler = OneExpressionPerRef(rows, seed)
    sampler.epoch = number
    return list(sampler)


def test_an_epoch_has_each_ref_exactly_once(refs):
    for number in range(20):
        drawn = epoch(refs, 0, number)
        assert len(drawn) == len(OneExpressionPerRef(refs, 0)) == 8
        assert sorted(refs["ref_id"].iloc[drawn]) == list(range(8))


def test_an_epoch_follows_from_seed_and_number(refs):
    torch.manual_seed(0)
    first = epoch(refs, 3, 5)
    np.random.seed(1)
    torch.manual_seed(1)
    assert epoch(refs, 3, 5) == first
    assert epoch(refs, 3, 6) != first
    assert epoch(refs, 4, 5) != first
    sampler = OneExpressionPerRef(refs, 3)
    sampler.epoch = 5
    assert list(sampler) == list(sampler) == first


def test_every_expression_is_drawn_about_equally_often(refs):
    epochs = 600
    counts = Counter(row for number in range(epochs) for row in epoch(refs, 0, number))
    sizes = refs["ref_id"].map(refs["ref_id"].value_counts())
    assert set(counts) == set(range(len(refs)))
    for row, size in enumerate(sizes):
        spread = np.sqrt(epochs / size * (1 - 1 / size))
        assert abs(counts[row] - epochs / size) <= 4.5 * spread, row


def test_every_ref_comes_first_at_some_time(refs):
    assert {refs["ref_id"].iloc[epoch(refs, 0, number)[0]] for number in range(100)} == set(range(8))


def test_masks_equal_an_independent_nearest_resize(squares):
    """The value at the centre of each of 32 x 32 cells."""
    expressions = squares.expressions("train")
    for row, ann_id in enumerate(expressions.rows["ann_id"]):
        truth = squares.masks[ann_id]
        np.testing.assert_array_equal(expressions.true_mask(row), truth)
        found = expressions[[row]].masks[0]
        assert found.dtype == torch.bool
        height, width = truth.shape
        for y in range(32):
            for x in range(32):
                assert found[y, x] == truth[int((y + 0.5) * height / 32), int((x + 0.5) * width / 32)]


def test_pixels_are_the_stretched_picture(squares):
    expressions = squares.expressions("val")
    for row, ann_id in enumerate(expressions.rows["ann_id"]):
        path = squares.prepared.instances.loc[ann_id, "image"]
        picture = Image.open(path).resize((32, 32), Image.Resampling.BILINEAR)
        expected = np.asarray(picture, dtype=np.float64).transpose(2, 0, 1) / 255 * 2 - 1
        np.testing.assert_allclose(expressions[[row]].pixel_values[0].numpy(), expected, atol=1e-5)


def test_pictures_are_remembered_within_the_limit(squares, monkeypatch):
    monkeypatch.setattr(samples, "PIXEL_MEMORY", 3 * 32 * 32 * 4)
    expressions = squares.expressions("val")
    first, last = expressions.reader.pixels(0), expressions.reader.pixels(1)
    assert expressions.reader.pixels(0) is first
    assert expressions.reader.pixels(1) is not last
    torch.testing.assert_close(expressions.reader.pixels(1), last, rtol=0, atol=0)


def test_grey_and_transparent_pictures_are_read_as_colour(squares):
    path = squares.prepared.instances["image"].iloc[0]
    for mode in ("L", "LA", "RGBA", "P"):
        Image.open(path).convert("RGB").convert(mode).save(path)
        assert squares.expressions("val")[[0]].pixel_values.shape == (1, 3, 32, 32)


def test_a_batch_pads_to_its_longest_expression(squares):
    rows = squares.prepared.split("train").iloc[:3].copy()
    rows["text"] = ["red square", "blue", "the green one the green one the green one"]
    expressions = samples.Expressions(squares.prepared, rows, squares.processor)
    batch = expressions[[2, 1, 0]]

    tokenizer = squares.processor.tokenizer
    assert batch.rows == [2, 1, 0]
    assert batch.sent_ids.tolist() == rows["sent_id"].tolist()[::-1]
    assert batch.image_ids.tolist() == rows["image_id"].tolist()[::-1]
    assert batch.attention_mask.sum(dim=1).tolist() == [8, 3, 4]  # the longest is cut at 8
    assert batch.input_ids.shape == batch.attention_mask.shape == (3, 8)
    assert tokenizer.convert_ids_to_tokens(batch.input_ids[1]) == ["[CLS]", "blue", "[SEP]"] + ["[PAD]"] * 5
    assert tokenizer.convert_ids_to_tokens(batch.input_ids[0])[:4] == ["[CLS]", "the", "green", "one"]
    assert ((batch.attention_mask == 0) == (batch.input_ids == tokenizer.pad_token_id)).all()
    assert batch.masks.shape == (3, 32, 32)
    assert batch.pixel_values.shape == (1, 3, 32, 32)
    assert batch.pictures.tolist() == [0, 0, 0]
    short = expressions[[1, 0]]
    assert short.input_ids.shape == (2, 4)


def test_inputs_are_what_the_model_takes(squares):
    expressions = squares.expressions("train")
    (batch,) = expressions.loader(100)
    output = squares.model().eval()(**batch.inputs(torch.device("cpu")))
    assert output.loss.isfinite()
    assert output.logits.shape == batch.masks.shape


def test_a_loader_keeps_the_order_or_takes_a_samplers(squares):
    expressions = squares.expressions("train")
    batches = list(expressions.loader(3))
    assert [row for batch in batches for row in batch.rows] == list(range(8))
    assert [len(batch.rows) for batch in batches] == [3, 3, 2]
    sampler = OneExpressionPerRef(expressions.rows, 0)
    assert [row for batch in expressions.loader(3, sampler) for row in batch.rows] == list(sampler)
