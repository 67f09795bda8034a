"""A file of predictions -> a mask for each expression of the evaluation splits. All that is wrong is named at once."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from stages.data.prepared import PreparedDataset
from stages.runtime.predictions import PredictionsError
from stages.runtime.problems import Problems
from stages.score import entries
from stages.score.entries import Entry
from stages.score.segmentations import Mask, Wrong, encode, shown
from stages.scoring.protocols import Protocol

BY_TEXT = ("image_id", "ref_id", "text")


@dataclass(frozen=True)
class Predicted:
    """The masks of a file.

    Attributes:
        masks: sent_id -> its mask, of the image's size or of the protocol's grid.
        missing: sent_ids of the evaluation splits without a prediction; empty unless these may be missing.
        of_train: predictions of expressions that are not in an evaluation split, and so not scored.
    """

    masks: dict[int, Mask]
    missing: list[int]
    of_train: int


def read(path: Path, dataset: PreparedDataset, protocol: Protocol, allow_missing: bool) -> Predicted:
    """Every prediction of a file, checked against the dataset.

    Raises:
        PredictionsError: the file cannot be read, or something is wrong: the message has a line for each kind of
            problem, with how many there are and the first of them.
    """
    wanted = _Wanted(dataset, protocol)
    problems = Problems(PredictionsError)
    masks: dict[int, Mask] = {}
    first: dict[int, str] = {}
    of_train = 0
    for entry in entries.read(path):
        try:
            sent_ids = wanted.named(entry)
            for sent_id in sent_ids:
                if sent_id in first:
                    raise Wrong("expression predicted more than once", f"sent_id {sent_id}, before: {first[sent_id]}")
                first[sent_id] = entry.where
            scored = [sent_id for sent_id in sent_ids if sent_id in wanted.sizes]
            of_train += len(sent_ids) - len(scored)
            masks |= {sent_id: _mask(entry, wanted.sizes[sent_id]) for sent_id in scored}
        except Wrong as wrong:
            problems.add(path, wrong.kind, f"{entry.where}: {wrong.found}" if wrong.found else entry.where)
    missing = [sent_id for sent_id in wanted.sizes if sent_id not in first]
    if not allow_missing:
        for sent_id in missing:
            problems.add(
                path,
                f"expressions without a prediction, of {len(wanted.sizes):,} (to score them as empty masks, set "
                "allow_missing)",
                f"sent_id {sent_id}",
            )
    problems.stop()
    return Predicted(masks, missing, of_train)


def sizes(dataset: PreparedDataset, protocol: Protocol) -> dict[int, list[tuple[int, int]]]:
    """The sizes (height, width) that the mask of each expression of the evaluation splits may have, by sent_id."""
    grid = [(protocol.size, protocol.size)] if protocol.grid == "input" else []
    of_images = dataset.instances[["height", "width"]]
    of_images = dict(zip(of_images.index.tolist(), of_images.itertuples(index=False, name=None), strict=True))
    table = dataset.expressions
    scored: pd.DataFrame = table[table["split"].isin(dataset.evaluation_splits)]
    return {
        sent_id: [tuple(map(int, of_images[ann_id])), *grid]
        for sent_id, ann_id in zip(scored["sent_id"].tolist(), scored["ann_id"].tolist(), strict=True)
    }


class _Wanted:
    """What a file may predict.

    Attributes:
        sizes: as the function `sizes` gives them.
    """

    def __init__(self, dataset: PreparedDataset, protocol: Protocol):
        table = dataset.expressions
        self._images = dict(zip(table["sent_id"].tolist(), table["image_id"].tolist(), strict=True))
        self._by_text: dict[tuple, list[int]] = {}
        keys = table[[*BY_TEXT, "sent_id"]].itertuples(index=False, name=None)
        for *key, sent_id in keys:
            self._by_text.setdefault(tuple(key), []).append(sent_id)
        self.sizes = sizes(dataset, protocol)

    def named(self, entry: Entry) -> list[int]:
        """The expressions that an entry is about: one, or all of a ref with the same text. Raises Wrong."""
        content = entry.content
        if not isinstance(content, dict):
            raise Wrong("entry is not an object with keys", shown(content))
        if "sent_id" in content:
            sent_id, image_id = content["sent_id"], content.get("image_id")
            if type(sent_id) is not int:
                raise Wrong("sent_id is not a whole number", shown(sent_id))
            if sent_id not in self._images:
                raise Wrong("sent_id that the dataset does not have", shown(sent_id))
            if image_id is not None and image_id != self._images[sent_id]:
                found = f"sent_id {sent_id} is of image {self._images[sent_id]}, not {shown(image_id)}"
                raise Wrong("sent_id of another image", found)
            return [sent_id]
        if absent := [key for key in BY_TEXT if key not in content]:
            raise Wrong("entry without sent_id, or else image_id, ref_id and text", f"lacks {', '.join(absent)}")
        key = tuple(content[name] for name in BY_TEXT)
        if [type(part) for part in key] != [int, int, str] or key not in self._by_text:
            found = ", ".join(f"{name} {shown(part)}" for name, part in zip(BY_TEXT, key, strict=True))
            raise Wrong("image_id, ref_id and text that the dataset does not have", found)
        return self._by_text[key]


def _mask(entry: Entry, sizes: list[tuple[int, int]]) -> Mask:
    if entry.wrong:
        raise entry.wrong
    if entry.content.get("segmentation") is None:
        raise Wrong("entry without a segmentation")
    return encode(entry.content["segmentation"], sizes)
