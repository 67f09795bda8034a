"""The layout of a REFER release -> tables of expressions, their instances, and all things on the images of these.

    ROOT/NAME/refs(SPLIT_BY).p         list of refs: which expressions mean which annotation
    ROOT/NAME/instances.json           COCO: images, annotations, categories
    ROOT/images/mscoco/images/train2014/FILE_NAME, or another of `IMAGE_FOLDERS`

Nothing is dropped or repaired. What is wrong is collected, and one error names it.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from stages.data.prepared import EXPRESSION_COLUMNS
from stages.prepare import boxes, coco, image_files, plain_pickle
from stages.prepare.problems import DatasetError, Malformed, Problems, field, shown
from stages.prepare.tables import Tables, check_splits, check_unique, visible

IMAGE_FOLDERS = (
    "images/mscoco/images/train2014",
    "images/mscoco/train2014",
    "images/train2014",
    "mscoco/images/train2014",
    "coco/train2014",
    "train2014",
    "images",
    ".",
)
LONGEST_SPLIT = 80  # characters
OVERLAPPING = {("refcocog", "google")}  # published with images shared by train and val


@dataclass(frozen=True)
class ReferFiles:
    """Where the files of one set of a REFER release lie.

    Attributes:
        root: folder of the release.
        name: folder of the set below it.
        split_by: which of its published splits, as in `refs(SPLIT_BY).p`.
        images: folder of the images, or a folder above it; None to look below `root`.
    """

    root: Path
    name: str
    split_by: str
    images: Path | None = None

    @property
    def refs(self) -> Path:
        return self.root / self.name / f"refs({self.split_by}).p"

    @property
    def instances(self) -> Path:
        return self.root / self.name / "instances.json"

    @property
    def annotations(self) -> list[Path]:
        """Every file but the images."""
        return [self.refs, self.instances]

    def image_folder(self) -> Path:
        """The first of `IMAGE_FOLDERS` that holds images; the first of them where none does."""
        if self.images is None:
            return image_files.find_folder(self.root, IMAGE_FOLDERS)
        return image_files.find_folder(self.images, (".", *IMAGE_FOLDERS))


def read(files: ReferFiles, sentence: str, check_images: bool = True) -> Tables:
    """Read and check one set.

    Args:
        sentence: which text of an expression, `raw` or `sent`.
        check_images: whether to check that the images exist and have the stated sizes; if not, none is read.

    Raises:
        DatasetError: a file is missing or malformed, or entries are wrong; the message names every kind of problem.
    """
    problems = Problems()
    with _no_collection():
        expressions = _expressions(files.refs, sentence, problems)
        annotations = coco.load(files.instances, problems)
        instances, notes = coco.instances(annotations, _referred(expressions), problems)
        things, about_boxes = boxes.boxes(annotations, instances)
        notes += about_boxes
    overlap = check_splits(
        files.refs, expressions, problems, tolerate_overlap=(files.name, files.split_by) in OVERLAPPING
    )
    folder = files.image_folder()
    sizes, warnings = {}, [*overlap]
    checks = ["ids unique", "annotations exist", "masks valid, not empty and inside their images"]
    if check_images:
        found = image_files.check(instances, folder, problems)
        sizes = found.sizes
        warnings += found.warnings
        notes += found.notes
        checks.append("image files exist, whole and of the stated size")
    else:
        warnings.append("images were not checked: neither that they exist nor their sizes")
    problems.stop()
    if not overlap:
        checks.append("no image in two splits")
    instances["image"] = [image_files.join(folder, name) for name in instances["image"]]
    return Tables(expressions, instances, things, files.annotations, sizes, checks, warnings, notes)


def load_refs(path: Path) -> list:
    """The list in `refs(*).p`, a pickle of Python 2 or 3.

    Raises:
        DatasetError: the file is missing, is not a whole pickle, or holds anything but lists, dictionaries, strings and
            numbers.
    """
    try:
        refs = plain_pickle.load(coco.read_bytes(path))
    except plain_pickle.NotPlain as error:
        raise DatasetError(f"{path}: {error}") from None
    if not isinstance(refs, list) or not refs:
        raise DatasetError(f"{path}: expected a list of refs, found {shown(refs)}")
    return refs


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without the garbage collector, which would search the growing data for cycles again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _expressions(path: Path, sentence: str, problems: Problems) -> pd.DataFrame:
    rows, ref_ids = [], []
    for position, ref in enumerate(load_refs(path)):
        what = f"ref number {position}"
        try:
            ref_id = field(ref, "ref_id", int)
            what = f"ref {ref_id}"
            ann_id, image_id = field(ref, "ann_id", int), field(ref, "image_id", int)
            split = field(ref, "split", str)
            if not split.isprintable() or len(split) > LONGEST_SPLIT:
                raise Malformed(f"split is {shown(split)}, which is not a name")
            sentences = field(ref, "sentences", list)
        except Malformed as error:
            problems.add(path, "malformed ref", f"{what}: {error}")
            continue
        ref_ids.append(ref_id)
        if not sentences:
            problems.add(path, "ref without sentences", what)
        for number, item in enumerate(sentences):
            try:
                sent_id = field(item, "sent_id", int)
                text = field(item, sentence, str)
            except Malformed as error:
                problems.add(path, "malformed sentence", f"number {number} of {what}: {error}")
                continue
            if not visible(text):
                problems.add(path, f"empty {sentence}", f"sentence {sent_id} of {what}")
            rows.append((sent_id, ref_id, ann_id, image_id, split, text))

    expressions = pd.DataFrame(rows, columns=EXPRESSION_COLUMNS)
    check_unique(path, "ref_id", pd.Series(ref_ids), problems)
    check_unique(path, "sent_id", expressions["sent_id"], problems)
    return expressions


def _referred(expressions: pd.DataFrame) -> pd.DataFrame:
    """who, ann_id, image_id: every annotation that is referred to, once for each image that refs say it is on."""
    first = expressions.drop_duplicates(["ann_id", "image_id"])
    return pd.DataFrame(
        {
            "who": pd.Series([f"ref {ref_id}" for ref_id in first["ref_id"]], first.index, dtype=object),
            "ann_id": first["ann_id"],
            "image_id": first["image_id"],
        }
    )
