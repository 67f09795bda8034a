"""What a model computes on the way to its masks, and VLBA's attention of one sample as a table."""

import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F

from models.alignformer import AlignFormer
from models.losses import cosine

COLUMNS = {
    "level": "int64",
    "direction": "str",
    "word_index": "int64",
    "word": "str",
    "row": "int64",
    "column": "int64",
    "share": "float32",
}


@dataclass(frozen=True)
class Activations:
    """What the model computes for B samples before it groups pixels.

    Attributes:
        pixels: (B, h, w, D) vectors of unit length, whose cosine with the center is the similarity.
        center: (B, D), likewise.
        similarity: (B, h, w).
        attention: vision level, counted from 0 -> direction -> shares (B, N, L). Those of `text_to_pixel` sum to 1 over
            the words that a pixel reads, those of `pixel_to_text` over the pixels that a word gathers. Empty for a
            variant without VLBA.
    """

    pixels: torch.Tensor
    center: torch.Tensor
    similarity: torch.Tensor
    attention: dict[int, dict[str, torch.Tensor]]


@torch.no_grad()
def look_inside(model: AlignFormer, inputs: Mapping[str, torch.Tensor | None]) -> Activations:
    """Run a batch, the arguments of `AlignFormer.forward`, and keep what is computed on the way."""
    model.eval()
    attention: dict[int, dict[str, torch.Tensor]] = {}
    names = ("pixel_values", "input_ids", "attention_mask", "image_index", "text_index")
    with ExitStack() as hooks:
        for level, vlba in model.vlba.items():

            def keep(module, arguments, level=int(level)):
                read, gathered = module.attention(*arguments)  # (B, N, L), (B, L, N)
                gathered = None if gathered is None else gathered.transpose(1, 2)  # (B, N, L)
                shares = {"text_to_pixel": read, "pixel_to_text": gathered}
                attention[level] = {name: values.float().cpu() for name, values in shares.items() if values is not None}

            hooks.callback(vlba.register_forward_pre_hook(keep).remove)
        pixels, center = model.project(*model.represent(**{name: inputs.get(name) for name in names}))
    similarity = cosine(pixels, center)
    pixels, center = F.normalize(pixels, dim=-1), F.normalize(center, dim=-1)
    return Activations(pixels.float().cpu(), center.float().cpu(), similarity.float().cpu(), attention)


def attention_table(found: Activations, sample: int, words: list[str]) -> pd.DataFrame:
    """Every share of one sample, columns `COLUMNS`; row and column are those of the level's own grid.

    There is no row where there is no VLBA.

    Args:
        found: from `look_inside`.
        sample: its position in the batch.
        words: its tokens, without padding.
    """
    parts = []
    for level, directions in found.attention.items():
        for direction, shares in directions.items():
            values = shares[sample, :, : len(words)].T.numpy()  # (L, N)
            side = math.isqrt(values.shape[1])  # inputs are square, and so the grid of every level
            word_index, row, column = np.indices((len(words), side, side)).reshape(3, -1)
            table = pd.DataFrame({"word_index": word_index, "row": row, "column": column, "share": values.ravel()})
            parts.append(table.assign(level=level, direction=direction, word=np.array(words)[word_index]))
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(COLUMNS))
    return table.astype(COLUMNS)[list(COLUMNS)]
