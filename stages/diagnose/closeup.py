"""A few samples from close up: which ones, and a map of their pixel embeddings and centers."""

import numpy as np
import pandas as pd
import torch
from sklearn.decomposition import PCA

from stages.diagnose.regions import Regions

SAMPLES = 6


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
