"""Which expression of another image each expression is replaced by: the control for whether words matter."""

import numpy as np
import pandas as pd


def of_other_images(rows: pd.DataFrame) -> np.ndarray:
    """For each expression the place of one of another image: (N,) int64, the same for every model.

    The images of the table follow each other in a random circle, and the expressions of each take those of the next, in
    order, from the first again where it has fewer. Where there is a single image, no place is given: (0,).

    Args:
        rows: expressions of one split, with the column image_id and an index from 0 on.
    """
    images, number = pd.factorize(rows["image_id"])[0], rows["image_id"].nunique()
    if number < 2:
        return np.empty(0, np.int64)
    circle = np.random.default_rng(0).permutation(number)
    following = np.empty(number, np.int64)
    following[circle] = np.roll(circle, -1)
    places = [np.flatnonzero(images == image) for image in range(number)]
    order = rows.groupby("image_id").cumcount().to_numpy()  # of each expression within its image
    given = [places[following[image]] for image in images]
    return np.array([there[place % len(there)] for there, place in zip(given, order, strict=True)], np.int64)
