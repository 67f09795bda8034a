"""The REFER layout -> a table of expressions and a table of the instances they refer to.

    ROOT/NAME/refs(SPLIT_BY).p         list of refs: which words mean which annotation
    ROOT/NAME/instances.json           COCO: images, annotations, categories
    ROOT/images/mscoco/images/train2014/FILE_NAME, or another of `IMAGE_FOLDERS`

Nothing is dropped or repaired: what is wrong is collected, named and stops the reading.
"""

import gc
import io
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from stages.prepare import coco, pictures
from stages.prepare.problems import DatasetError, Malformed, Problems, field, shown
from stages.prepare.tables import Tables, check_splits, check_unique
from stages.prepared import EXPRESSION_COLUMNS

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
OVERLAPPING = {("refcocog", "google")}  # published with images shared by train and val
MEMORY = 2**29, 30  # bytes a pickle may take: so many, and so many times its own size


@dataclass(frozen=True)
class Release:
    """One set of one release: where its files lie.

    Attributes:
        root: folder of the release.
        name: folder of the set below it.
        split_by: which of its splits, as in `refs(SPLIT_BY).p`.
        images: folder of the images, or one above it; None to look below `root`.
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
    def files(self) -> list[Path]:
        """The annotation files."""
        return [self.refs, self.instances]

    def image_folder(self) -> Path:
        """The first of `IMAGE_FOLDERS` that holds pictures; the first of them where none does."""
        if self.images is None:
            return pictures.find_folder(self.root, IMAGE_FOLDERS)
        return pictures.find_folder(self.images, (".", *IMAGE_FOLDERS))


def read(release: Release, sentence: str, check_images: bool = True) -> Tables:
    """Read and check one set.

    Args:
        sentence: which text of an expression, `raw` or `sent`.
        check_images: whether the images must be there and as large as stated; without, nothing of them is read.

    Raises:
        DatasetError: a file is missing or malformed, or something in it is wrong; everything wrong is named.
    """
    problems = Problems()
    with _no_collection():
        expressions = _expressions(release.refs, sentence, problems)
        annotations = coco.load(release.instances, problems)
        who = ("ref " + expressions["ref_id"].astype(str)).rename("who")
        referred = pd.concat([who, expressions[["ann_id", "image_id"]]], axis=1)
        instances = coco.instances(annotations, referred, problems)
    warnings = check_splits(
        release.refs, expressions, problems, tolerate_overlap=(release.name, release.split_by) in OVERLAPPING
    )
    folder = release.image_folder()
    sizes, checks = {}, ["ids unique", "annotations exist", "masks valid, not empty and inside their images"]
    if check_images:
        sizes = pictures.check(instances, folder, problems)
        checks.append("image files exist, whole and of the stated size")
    else:
        warnings.append("images were not checked: neither that they exist nor their sizes")
    problems.stop()
    if not any("share" in warning for warning in warnings):
        checks.append("no image in two splits")
    instances["image"] = [pictures.join(folder, name) for name in instances["image"]]
    return Tables(expressions, instances, release.files, sizes, checks, warnings)


def load_refs(path: Path) -> list:
    """The list in `refs(*).p`, a pickle of Python 2 or 3. Only plain containers, strings and numbers are loaded.

    Raises:
        DatasetError: the file is missing, is no pickle, is cut off, asks for a class, which is refused, or for
            far more memory than a list of refs takes.
    """
    content = coco.read_bytes(path)
    try:
        with _memory_limited(MEMORY[0] + MEMORY[1] * len(content)):
            try:
                refs = _PlainUnpickler(io.BytesIO(content), encoding="utf-8").load()
            except UnicodeDecodeError:
                refs = _PlainUnpickler(io.BytesIO(content), encoding="latin-1").load()
    except _ClassRefused as error:
        raise DatasetError(f"{path}: asks for {error}; a refs file holds no classes, so it is refused") from None
    except Exception as error:  # a malformed pickle raises nearly anything
        raise DatasetError(f"{path}: not a whole pickle: {type(error).__name__}: {shown(str(error))}") from None
    if not isinstance(refs, list) or not refs:
        raise DatasetError(f"{path}: expected a list of refs, found {type(refs).__name__} of no refs")
    return refs


class _ClassRefused(Exception):
    pass


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module, name):
        raise _ClassRefused(f"{module}.{name}")


@contextmanager
def _memory_limited(growth: int) -> Iterator[None]:
    """An allocation beyond `growth` bytes more than now is a MemoryError: eight bytes of a pickle can ask for 64 GB."""
    try:
        import resource

        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (ImportError, OSError):  # not Linux: no limit of this kind
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = used + growth
    resource.setrlimit(resource.RLIMIT_AS, (limit if soft == resource.RLIM_INFINITY else min(soft, limit), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without the garbage collector, which would look through a growing release again and again for cycles."""
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
            sentences = field(ref, "sentences", list)
        except Malformed as error:
            problems.add(path, "malformed ref", f"{what}: {error}")
            continue
        ref_ids.append(ref_id)
        if not sentences:
            problems.add(path, "ref without sentences", what)
        for item in sentences:
            try:
                sent_id = field(item, "sent_id", int)
                text = field(item, sentence, str)
            except Malformed as error:
                problems.add(path, "malformed sentence", f"{what}: {error}")
                continue
            if not text.strip():
                problems.add(path, f"empty {sentence}", f"sentence {sent_id} of {what}")
            rows.append((sent_id, ref_id, ann_id, image_id, split, text))

    expressions = pd.DataFrame(rows, columns=EXPRESSION_COLUMNS)
    check_unique(path, "ref_id", pd.Series(ref_ids), problems)
    check_unique(path, "sent_id", expressions["sent_id"], problems)
    return expressions
