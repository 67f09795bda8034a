"""A set of the RefCOCO family in any format -> tables of expressions, their instances, and all things on their images.

A format gives what the REFER release has: refs, and COCO's annotations. All checks are here, the same for every format.
Nothing is dropped or repaired. What is wrong is collected, and one error names it.
"""

import gc
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from stages.data.prepared import EXPRESSION_COLUMNS
from stages.prepare import boxes, coco, image_files
from stages.prepare.coco import Annotations
from stages.prepare.formats import refused
from stages.prepare.problems import DatasetError, Malformed, Problems, field, shown
from stages.prepare.tables import Tables, check_splits, check_unique, visible
from stages.runtime import layout
from stages.runtime.problems import SHOWN

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
COCO_FILES = (
    "instances_train2014.json",
    "annotations/instances_train2014.json",
    "coco/annotations/instances_train2014.json",
)
LONGEST_SPLIT = 80  # characters


@dataclass(frozen=True)
class Content:
    """What a format gives, unchecked.

    Attributes:
        refs: by the file that they are from, entries as in `refs(*).p`: ref_id, ann_id, image_id, split, sentences; a
            sentence has sent_id and the texts `raw` and `sent`, or one of them.
        annotations: COCO's, of the refs and, where the format has them, of the other things on their images.
        notes: what was made, since the format lacks it.
    """

    refs: dict[Path, list]
    annotations: Annotations
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Release(ABC):
    """Where the files of one set lie.

    Attributes:
        root: folder of the files.
        name: the set, as in `refer_sets.SetName`.
        split_by: which of its published splits.
        images: folder of the images, or a folder above it; None to look below `root`.
    """

    root: Path
    name: str
    split_by: str
    images: Path | None = None

    @property
    @abstractmethod
    def annotations(self) -> list[Path]:
        """Every file but pictures, in the order of reading. A file that must be there is in the list if it is not."""

    @abstractmethod
    def load(self, problems: Problems) -> Content:
        """The content of the files. An entry that cannot be given is a problem.

        Raises:
            DatasetError: a file is missing, or is something else.
        """

    @abstractmethod
    def listed(self) -> dict[Path, set[str]]:
        """By folder, the names of all pictures that the files list, sound or not; those of the images come first."""

    def complete(self) -> bool:
        """Whether every annotation file is there, and of this set where its name does not tell."""
        return all(layout.source(path).is_file() for path in self.annotations)

    def has_images(self) -> bool:
        return image_files.holds_images(self.image_folder())

    def image_folder(self) -> Path:
        """The first of `IMAGE_FOLDERS` that holds images; the first of them where none does."""
        if self.images is None:
            return image_files.find_folder(self.root, IMAGE_FOLDERS)
        return image_files.find_folder(self.images, (".", *IMAGE_FOLDERS))

    def coco_files(self) -> list[Path]:
        """COCO's own annotations: the first of `COCO_FILES` below `root`, or beside the images; empty without any."""
        folders = [self.root, *([self.images, self.images.parent] if self.images else [])]
        candidates = [folder / name for folder in folders for name in COCO_FILES]
        return [file for file in candidates if layout.source(file).is_file()][:1]

    def of_coco(self, image_ids: Collection[int], meant: Collection[int], problems: Problems) -> Annotations:
        """What COCO's own file has on some images, and its categories. Raises DatasetError where there is none.

        Args:
            meant: ids of the annotations whose masks are needed.
        """
        return coco.load_on((self.coco_files() or [self.root / COCO_FILES[0]])[0], image_ids, meant, problems)


def read(release: Release, sentence: str, check_images: bool = True) -> Tables:
    """Read and check one set.

    Args:
        sentence: which text of an expression, `raw` or `sent`.
        check_images: whether to check that the images exist and have the stated sizes; if not, none is read.

    Raises:
        DatasetError: a file is missing or malformed, or entries are wrong; the message names every kind of problem.
    """
    require(release)
    problems = Problems()
    with _no_collection():
        content = release.load(problems)
        where = next(iter(content.refs)) if len(content.refs) == 1 else release.root
        if not any(content.refs.values()):
            problems.stop()
            raise DatasetError(f"{where}: no refs of {release.name}")
        expressions = _expressions(content.refs, where, sentence, problems)
        instances, notes = coco.instances(content.annotations, _referred(expressions), problems)
        things, about_boxes = boxes.boxes(content.annotations, instances)
        notes = [*content.notes, *notes, *about_boxes]
        del content  # else the collector searches it as soon as it is enabled again
    overlap = check_splits(where, expressions, problems, tolerate_overlap=release.split_by == "google")
    folder = release.image_folder()
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
    paths = {name: image_files.join(folder, name) for name in instances["image"].unique()}
    instances["image"] = instances["image"].map(paths)
    return Tables(expressions, instances, things, release.annotations, sizes, checks, warnings, notes)


def require(release: Release) -> None:
    """Raises DatasetError where a file is missing; it says what to use in place of files that are not read."""
    missing = [path for path in release.annotations if not layout.source(path).is_file()]
    if missing and (others := refused.below(release.root)):
        raise DatasetError("\n".join([f"{missing[0]}: no such file; what is there is not read", *others[:SHOWN]]))
    for path in missing:
        try:
            coco.sha256(path)
        except DatasetError as error:
            look = f"`python -m stages.prepare --detect {release.root}` tells what is there"
            raise DatasetError(f"{error}" + (f". {look}" if layout.source(release.root).is_dir() else "")) from None


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


def _expressions(refs: dict[Path, list], where: Path, sentence: str, problems: Problems) -> pd.DataFrame:
    rows, ref_ids = [], []
    for path, entries in refs.items():
        for position, ref in enumerate(entries):
            _add(rows, ref_ids, path, position, ref, sentence, problems)
    expressions = pd.DataFrame(rows, columns=EXPRESSION_COLUMNS)
    check_unique(where, "ref_id", pd.Series(ref_ids), problems)
    check_unique(where, "sent_id", expressions["sent_id"], problems)
    return expressions


def _add(
    rows: list[tuple], ref_ids: list[int], path: Path, position: int, ref: object, sentence: str, problems: Problems
) -> None:
    """Add a row of `EXPRESSION_COLUMNS` for each sentence of a ref."""
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
        return
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
