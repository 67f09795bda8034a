"""Which rows of a dataset's table stand in which batch, and in which process's part of it.

One expression a ref in training, whole images in evaluation. Several processes share every batch in training, and
take turns at the batches in evaluation.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from torch.utils.data import Sampler

from models.parallel import BatchPart
from stages.runtime.processes import ProcessShare


class PartRows(NamedTuple):
    """A process's rows of a batch, and where they lie in it; see `Batch.part`."""

    rows: list[int]
    part: BatchPart | None


class OneExpressionPerRef(Sampler):
    """For each epoch one random expression of each ref, in random order; determined by seed and epoch.

    Args:
        rows: the expressions' table, with a column ref_id.
        seed: of the run.

    Attributes:
        epoch: the one to serve.
        done: how many of its expressions to leave out, the first ones: those that were served before a break.
    """

    def __init__(self, rows: pd.DataFrame, seed: int):
        _, self.counts = np.unique(rows["ref_id"], return_counts=True)
        self.by_ref = np.argsort(rows["ref_id"].to_numpy(), kind="stable")
        self.seed = seed
        self.epoch, self.done = 0, 0

    def __len__(self) -> int:
        return len(self.counts)

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng((self.seed, self.epoch))
        firsts = self.counts.cumsum() - self.counts
        chosen = self.by_ref[firsts + random.integers(self.counts)]
        return iter(chosen[random.permutation(len(chosen))][self.done :].tolist())


class WholeImages(Sampler):
    """Lists of rows, image by image in the order in which the table names them.

    Args:
        images: (N,) which image each row is about.
        batch_size: rows in a list, at most. The next image goes into the same list where it fits as a whole; one with
            more rows than that is cut.
        share: of several processes, process i of W takes the lists i, i + W, i + 2 W, ...; None for all lists.
    """

    def __init__(self, images: np.ndarray, batch_size: int, share: ProcessShare | None = None):
        self.share = share or ProcessShare(0, 1)
        which = pd.factorize(images)[0]
        self.order = np.argsort(which, kind="stable")
        self.starts, position, filled = [], 0, batch_size
        for count in np.bincount(which).tolist():
            for start in range(0, count, batch_size):
                part = min(batch_size, count - start)
                if filled + part > batch_size:
                    self.starts.append(position)
                    filled = 0
                filled, position = filled + part, position + part

    def __len__(self) -> int:
        return len(self.starts[self.share.index :: self.share.count])

    def __iter__(self) -> Iterator[list[int]]:
        parts = np.split(self.order, self.starts[1:])
        return (part.tolist() for part in parts[self.share.index :: self.share.count])


class BatchParts(Sampler):
    """Of every batch of all processes the part of one.

    Samples of one image stay together, so that it is encoded once, and counted once in a batch norm, as it is by one
    process: in a batch they follow each other, in the order in which images first appear. Each process takes an equal
    share of the images, contiguous in that order. A batch of fewer images than processes is computed by every
    process as a whole.

    Args:
        batches: lists of rows.
        images: (N,) which image each row of the table is about.
    """

    def __init__(self, batches: Sampler[list[int]], images: np.ndarray, share: ProcessShare):
        self.batches, self.images, self.share = batches, images, share

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[PartRows]:
        return map(self.part, self.batches)

    def part(self, rows: list[int]) -> PartRows:
        which, images = pd.factorize(self.images[rows])
        if len(images) < self.share.count:
            return PartRows(rows, None)
        order = np.argsort(which, kind="stable")
        mine = np.array_split(range(len(images)), self.share.count)[self.share.index]
        first, end = np.searchsorted(which[order], (mine[0], mine[-1] + 1)).tolist()
        return PartRows([rows[place] for place in order[first:end]], BatchPart(first, len(rows)))
