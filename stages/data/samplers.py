"""Which rows of a table of expressions are in which batch, and which process takes them.

Training takes one expression of each ref, evaluation takes whole images. Several processes share every batch in
training, and take turns at the batches in evaluation.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from torch.utils.data import Sampler

from models.parallel import BatchPart
from stages.runtime.processes import ProcessShare


class PartRows(NamedTuple):
    """The rows of a batch that one process takes, and where they lie in it; None where it takes the whole batch."""

    rows: list[int]
    part: BatchPart | None


class OneExpressionPerRef(Sampler):
    """For each epoch one random expression of each ref, in random order; seed and epoch determine it.

    Args:
        rows: the table of expressions, with columns ref_id and image_id.
        seed: the run's.
        by_image: the images come in random order, and all refs of an image follow each other.
        mirror: half of the images come mirrored, drawn anew in each epoch: N is added to the numbers of their N rows.

    Attributes:
        epoch: the one to serve.
        done: how many of its first expressions to leave out, because they were served before a break.
    """

    def __init__(self, rows: pd.DataFrame, seed: int, by_image: bool = False, mirror: bool = False):
        _, self.counts = np.unique(rows["ref_id"], return_counts=True)
        self.by_ref = np.argsort(rows["ref_id"].to_numpy(), kind="stable")
        self.images = pd.factorize(rows["image_id"])[0]
        self.by_image, self.mirror = by_image, mirror
        self.seed = seed
        self.epoch, self.done = 0, 0

    def __len__(self) -> int:
        return len(self.counts)

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng((self.seed, self.epoch))
        firsts = self.counts.cumsum() - self.counts
        chosen = self.by_ref[firsts + random.integers(self.counts)]
        chosen = random.permutation(chosen)
        if self.by_image:
            rank = random.permutation(self.images.max() + 1)
            chosen = chosen[np.argsort(rank[self.images[chosen]], kind="stable")]
        if self.mirror:
            mirrored = random.integers(2, size=self.images.max() + 1)
            chosen = chosen + len(self.images) * mirrored[self.images[chosen]]
        return iter(chosen[self.done :].tolist())


class WholeImages(Sampler):
    """Batches of rows, image by image in the order in which the table names them.

    Args:
        images: (N,) which image each row is about.
        batch_size: rows in a batch, at most. The next image goes into the same batch where it fits as a whole; an image
            with more rows than that is cut.
        share: process i of W takes the batches i, i + W, i + 2 W, ...; None for all batches.
    """

    def __init__(self, images: np.ndarray, batch_size: int, share: ProcessShare | None = None):
        self.share = share or ProcessShare(0, 1)
        image_index = pd.factorize(images)[0]
        self.order = np.argsort(image_index, kind="stable")
        self.starts, position, filled = [], 0, batch_size
        for count in np.bincount(image_index).tolist():
            for start in range(0, count, batch_size):
                taken = min(batch_size, count - start)
                if filled + taken > batch_size:
                    self.starts.append(position)
                    filled = 0
                filled, position = filled + taken, position + taken

    def __len__(self) -> int:
        return len(self.starts[self.share.index :: self.share.count])

    def __iter__(self) -> Iterator[list[int]]:
        batches = np.split(self.order, self.starts[1:])
        return (rows.tolist() for rows in batches[self.share.index :: self.share.count])


class BatchParts(Sampler):
    """The part of every batch that one process takes.

    The samples of an image stay together, so that it is encoded once, and counted once in a batch norm, as it is where
    one process takes the whole batch. The batch is ordered by image, in the order in which images first appear, and
    each process takes an equal number of images that follow each other. Where a batch has fewer images than there are
    processes, every process takes the whole batch.

    Args:
        batches: the rows of each batch.
        images: (N,) which image each row of the table is about.
    """

    def __init__(self, batches: Sampler[list[int]], images: np.ndarray, share: ProcessShare):
        self.batches, self.images, self.share = batches, images, share

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[PartRows]:
        return map(self.part, self.batches)

    def part(self, rows: list[int]) -> PartRows:
        image_index, images = pd.factorize(self.images[rows])
        if len(images) < self.share.count:
            return PartRows(rows, None)
        order = np.argsort(image_index, kind="stable")
        own = np.array_split(range(len(images)), self.share.count)[self.share.index]
        first, end = np.searchsorted(image_index[order], (own[0], own[-1] + 1)).tolist()
        return PartRows([rows[place] for place in order[first:end]], BatchPart(first, len(rows)))
