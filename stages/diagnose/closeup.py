"""A few samples from close up: a map of their pixel embeddings and centers, and VLBA's attention word by word."""

import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from sklearn.decomposition import PCA
from torch.nn import functional as F

from models.alignformer import AlignFormer
from models.losses import cosine
from stages.diagnose.regions import Regions

SAMPLES = 6
DIRECTIONS = ("text_to_pixel", "pixel_to_text")
ATTENTION = {
    "stage": "int64",
    "direction": "str",
    "word_index": "int64",
    "word": "str",
    "row": "int64",
    "column": "int64",
    "share": "float32",
}


@dataclass(frozen=True)
class Inner:
    """What the model makes of B samples on the way.

    Attributes:
        pixels: (B, h, w, D) vectors of unit length, whose cosine with the center is the similarity.
        center: (B, D), likewise.
        similarity: (B, h, w).
        attention: vision level -> direction -> shares (B, N, L): of text to pixel, which sum to 1 over the words of a
            pixel, and of pixel to text, which sum to 1 over the pixels of a word. Nothing where there is no VLBA.
    """

    pixels: torch.Tensor
    center: torch.Tensor
    similarity: torch.Tensor
    attention: dict[int, dict[str, torch.Tensor]]


def choose(rows: pd.DataFrame) -> pd.DataFrame:
    """`SAMPLES` images evenly spaced by image_id, of each the expression of the most words, the first of equals.

    Follows from the dataset alone, so that all variants and seeds show the same samples.
    """
    words = rows.assign(words=rows["text"].str.split().str.len())
    order = words.sort_values(["image_id", "words", "sent_id"], ascending=[True, False, True])
    longest = order.drop_duplicates("image_id")
    count = min(SAMPLES, len(longest))
    places = (2 * np.arange(count) + 1) * len(longest) // (2 * count)
    return longest.iloc[places][rows.columns.tolist()].reset_index(drop=True)


@torch.no_grad()
def look_inside(model: AlignFormer, inputs: Mapping[str, torch.Tensor | None]) -> Inner:
    """Run a batch, of what `AlignFormer.forward` takes, and keep what happens on the way."""
    model.eval()
    attention: dict[int, dict[str, torch.Tensor]] = {}
    names = ("pixel_values", "input_ids", "attention_mask", "image_index", "text_index")
    with ExitStack() as hooks:
        for stage, vlba in model.vlba.items():

            def keep(module, arguments, stage=int(stage)):
                read, gathered = module.attention(*arguments)
                shares = (read, None if gathered is None else gathered.transpose(1, 2))  # (B, N, L) each
                there = zip(DIRECTIONS, shares, strict=True)
                attention[stage] = {name: values.float().cpu() for name, values in there if values is not None}

            hooks.callback(vlba.register_forward_pre_hook(keep).remove)
        pixels, center = model.project(*model.represent(**{name: inputs.get(name) for name in names}))
    similarity = cosine(pixels, center)
    pixels, center = F.normalize(pixels, dim=-1), F.normalize(center, dim=-1)
    return Inner(pixels.float().cpu(), center.float().cpu(), similarity.float().cpu(), attention)


def embedding_map(
    pixels: torch.Tensor, center: torch.Tensor, similarity: torch.Tensor, regions: Regions
) -> tuple[pd.DataFrame, np.ndarray]:
    """The two directions in which the pixel embeddings of a sample vary most (PCA), and the center in them.

    Args:
        pixels, center: (h, w, D) and (D,), of unit length, so that distances grow as the similarity falls.
        similarity: (h, w).

    Returns:
        A table, a row a cell of the image and last the center: row, column (-1 for the center), x, y, kind
        ("inside", "outside" or "center"), distractor (whether same-category distractors cover the cell), similarity.
        And the shares that x and y have of the variance of the pixel embeddings, (2,).
    """
    rows, columns = regions.image.nonzero()
    vectors = pixels[rows, columns].double().numpy()  # (M, D)
    pca = PCA(n_components=2, svd_solver="full").fit(vectors)
    x, y = pca.transform(np.vstack([vectors, center.double().numpy()])).T
    table = pd.DataFrame(
        {
            "row": [*rows, -1],
            "column": [*columns, -1],
            "x": x,
            "y": y,
            "kind": [*np.where(regions.inside[rows, columns], "inside", "outside"), "center"],
            "distractor": [*regions.distractors[rows, columns], False],
            "similarity": [*similarity[rows, columns].tolist(), 1.0],
        }
    )
    return table, pca.explained_variance_ratio_


def attention_table(inner: Inner, sample: int, words: list[str]) -> pd.DataFrame:
    """Every share of one sample, columns `ATTENTION`; row and column are of the stage's own grid.

    No row where there is no VLBA.
    """
    parts = [pd.DataFrame({name: [] for name in ATTENTION})]
    for stage, directions in inner.attention.items():
        for direction, shares in directions.items():
            values = shares[sample, :, : len(words)].T.numpy()  # (L, N)
            side = math.isqrt(values.shape[1])  # inputs are square, and so the grid of every stage
            word_index, row, column = np.indices((len(words), side, side)).reshape(3, -1)
            table = pd.DataFrame({"word_index": word_index, "row": row, "column": column, "share": values.ravel()})
            parts.append(table.assign(stage=stage, direction=direction, word=np.array(words)[word_index]))
    return pd.concat([part.astype(ATTENTION)[list(ATTENTION)] for part in parts], ignore_index=True)
