"""The files, the tables and the fingerprints of a source of `params.yaml`."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from stages.prepare import coco, image_files, mix, published
from stages.prepare.coco import read_bytes
from stages.prepare.formats import refcoco_m, release
from stages.prepare.formats.cris import CrisFiles
from stages.prepare.formats.mdetr import MdetrFiles
from stages.prepare.formats.parquet import ParquetFiles
from stages.prepare.formats.refcoco_m import RefcocoMFiles
from stages.prepare.formats.refer import ReferFiles
from stages.prepare.formats.release import Release
from stages.prepare.formats.seqtr import SeqtrFiles
from stages.prepare.problems import DatasetError
from stages.prepare.scenes import release as scenes
from stages.prepare.tables import Tables
from stages.runtime.params import CocoSource, MixSource, RefcocoMSource, ReferSource, ScenesSource, Source
from stages.runtime.refer_sets import SPLIT_BY, Format

FORMATS: dict[Format, type[Release]] = {
    "refer": ReferFiles,
    "parquet": ParquetFiles,
    "mdetr": MdetrFiles,
    "seqtr": SeqtrFiles,
    "cris": CrisFiles,
}


def read(source: Source, folder: Path) -> Tables:
    """Read and check a source; scenes are rendered below `folder` first.

    Raises:
        DatasetError: the source is wrong.
    """
    if isinstance(source, ScenesSource):
        scenes.write(source, folder / "refer")
        return release.read(ReferFiles(folder / "refer", scenes.NAME, "unc"), source.sentence)
    if isinstance(source, CocoSource):
        from stages.prepare import own  # it imports scikit-learn, which takes a second and 100 MiB

        return own.read(Path(source.instances), Path(source.expressions), Path(source.images), source.seed or 0)
    sets = {}
    for files in releases(source):
        tables = release.read(files, source.sentence, source.check_images is not False)
        published.judge(tables, files.name, files.split_by, bool(source.allow_partial))
        sets[files.name] = tables
    return mix.mix(sets) if isinstance(source, MixSource) else tables


def releases(source: ReferSource | RefcocoMSource | MixSource) -> list[Release]:
    """Every set of the RefCOCO family that a source is made of."""
    images = Path(source.images) if source.images else None
    if isinstance(source, RefcocoMSource):
        return [RefcocoMFiles(Path(source.root), refcoco_m.NAME, refcoco_m.SPLIT_BY, images)]
    if isinstance(source, MixSource):
        return [ReferFiles(Path(source.root), name, SPLIT_BY[name][0], images) for name in source.mix]
    return [FORMATS[source.kind](Path(source.root), source.name, source.split_by, images)]


def external(source: Source) -> dict:
    """What lies outside the project: hashes of the annotation files, and names and sizes of the pictures they list.

    The DVC stage `prepare` depends on this instead of on the files, so that it runs again when they change and 13 GB of
    images are neither hashed nor copied into the cache.

    Raises:
        DatasetError: an annotation file is missing, or none of the images that they list exists.
    """
    if isinstance(source, ScenesSource):
        return {"rendered": "by the project, from its entry in params.yaml"}
    sets = [] if isinstance(source, CocoSource) else releases(source)
    annotations = [file for files in sets for file in files.annotations]
    names = defaultdict(set)
    if isinstance(source, CocoSource):
        annotations = [Path(source.instances), Path(source.expressions)]
        names[Path(source.images)] = coco.file_names(read_bytes(annotations[0]))
    for files in sets:
        release.require(files)
    hashes = {file.as_posix(): coco.sha256(file) for file in annotations}
    for files in sets:
        for folder, listed in files.listed().items():
            if source.check_images is not False or folder != files.image_folder():
                names[folder] |= listed
    return {
        "annotations": hashes,
        "images": {folder.as_posix(): _summary(folder, listed) for folder, listed in names.items()},
    }


def fingerprint(tables: Tables) -> str:
    """SHA-256 of the bytes of the annotation files and of the name and size of every image in use."""
    lines = [coco.sha256(path) for path in tables.files]
    return _digest([*lines, *_lines(tables.sizes.items())])


def contents(folder: Path) -> dict:
    """How many files lie in a folder and below, and one SHA-256 of their names and bytes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    hashes = [
        f"{path.relative_to(folder).as_posix()} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files
    ]
    return {"files": len(files), "sha256": _digest(hashes)}


def _summary(folder: Path, names: set[str]) -> dict:
    found = image_files.listing(folder, names)
    if names and not found:
        raise DatasetError(f"{folder}: holds none of the {len(names):,} images of the source, such as {min(names)}")
    return {"files": len(found), "bytes": sum(size for _, size in found), "names and sizes": _digest(_lines(found))}


def _lines(sizes: Iterable[tuple[str, int]]) -> list[str]:
    return [f"{name} {size}" for name, size in sorted(sizes)]


def _digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
