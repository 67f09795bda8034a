"""VLBA's shares sum to 1 as they should, and do not depend on what else is in the batch."""

import numpy as np
import pandas as pd
import pytest
import torch

from stages.attention.shares import COLUMNS, attention_table, look_inside

DIRECTIONS = {
    "none": set(),
    "text_to_pixel": {"text_to_pixel"},
    "pixel_to_text": {"pixel_to_text"},
    "bidirectional": {"text_to_pixel", "pixel_to_text"},
}


def test_the_similarity_is_that_of_the_output_and_the_cosine_of_what_is_kept(shared_squares):
    model, batch = shared_squares.model(), shared_squares.expressions("val")[[0, 1]]
    found = look_inside(model, batch.inputs(model.device))
    with torch.no_grad():
        output = model(**batch.inputs(torch.device("cpu")))
    torch.testing.assert_close(found.similarity, output.similarity)
    torch.testing.assert_close((found.pixels * found.center[:, None, None]).sum(dim=-1), output.similarity)


@pytest.mark.parametrize("vlba", DIRECTIONS)
def test_attention_is_shares(shared_squares, vlba):
    """Over the words of a pixel and over the pixels of a word; the same for a sample by itself, without padding."""
    model, expressions = shared_squares.model(vlba=vlba), shared_squares.expressions("train")
    batch = expressions[[0, 1, 2]]
    lengths = batch.attention_mask.sum(dim=1)[batch.text_index]
    assert lengths.min() < lengths.max()
    found = look_inside(model, batch.inputs(model.device))
    assert not any(module._forward_pre_hooks for module in model.vlba.values())
    for sample, length in enumerate(lengths.tolist()):
        words = [f"word{index}" for index in range(length)]
        table = attention_table(found, sample, words)
        assert set(table["direction"]) == DIRECTIONS[vlba]
        if vlba == "none":
            assert table.empty and list(table) == list(COLUMNS)
            continue
        assert len(table) == len(DIRECTIONS[vlba]) * length * (8 * 8 + 4 * 4)
        assert (table["word"] == "word" + table["word_index"].astype(str)).all()
        by_direction = {"text_to_pixel": ["row", "column"], "pixel_to_text": ["word_index"]}
        for direction, rows in table.groupby("direction"):
            sums = rows.groupby(["level", *by_direction[direction]])["share"].sum()
            np.testing.assert_allclose(sums, 1, atol=1e-5)
        alone = attention_table(look_inside(model, expressions[[sample]].inputs(model.device)), 0, words)
        pd.testing.assert_frame_equal(table, alone, atol=1e-5)
