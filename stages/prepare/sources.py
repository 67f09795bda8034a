"""The files, the tables and the fingerprints of a source of `params.yaml`."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from stages.prepare import coco, image_files, mix, published, refer
from stages.prepare.coco import read_bytes
from stages.prepare.problems import DatasetError
from stages.prepare.refer import ReferFiles
from stages.prepare.scenes import release as scenes
from stages.prepare.tables import Tables
from stages.runtime.params import CocoSource, MixSource, ReferSource, ScenesSource, Source
from stages.runtime.refer_sets import SPLIT_BY


def read(source: Source, folder: Path) -> Tables:
    """Read and check a source; scenes are rendered below `folder` first.

    Raises:
        DatasetError: the source is wrong.
    """
    if isinstance(source, ScenesSource):
        scenes.write(source, folder / "refer")
        return refer.read(ReferFiles(folder / "refer", scenes.NAME, "unc"), source.sentence)
    if isinstance(source, CocoSource):
        from stages.prepare import own  # it imports scikit-learn, which takes a second and 100 MiB

        return own.read(Path(source.instances), Path(source.expressions), Path(source.images), source.seed or 0)
    sets = {}
    for files in refer_files(source):
        tables = refer.read(files, source.sentence, source.check_images is not False)
        published.judge(tables, files.name, files.split_by, bool(source.allow_partial))
        sets[files.name] = tables
    return mix.mix(sets) if isinstance(source, MixSource) else tables


def refer_files(source: ReferSource | MixSource) -> list[ReferFiles]:
    """The files of every set of a REFER release that a source is made of."""
    if isinstance(source, MixSource):
        names = [(name, SPLIT_BY[name][0]) for name in source.mix]
    else:
        names = [(source.name, source.split_by)]
    images = Path(source.images) if source.images else None
    return [ReferFiles(Path(source.root), name, split_by, images) for name, split_by in names]


def external(source: Source) -> dict:
    """What lies outside the project: hashes of the annotation files, and names and sizes of the images they list.

    The DVC stage `prepare` depends on this instead of on the files, so that it runs again when they change and 13 GB of
    images are neither hashed nor copied into the cache.

    Raises:
        DatasetError: an annotation file is missing, or none of the images that they list exists.
    """
    if isinstance(source, ScenesSource):
        return {"rendered": "by the project, from its entry in params.yaml"}
    if isinstance(source, CocoSource):
        annotations = [Path(source.instances), Path(source.expressions)]
        folders = {annotations[0]: Path(source.images)}
    else:
        sets = refer_files(source)
        annotations = [file for files in sets for file in files.annotations]
        looked_at = sets if source.check_images is not False else []
        folders = {files.instances: files.image_folder() for files in looked_at}
    hashes, names = {}, defaultdict(set)
    for file in annotations:
        content = read_bytes(file)
        hashes[file.as_posix()] = hashlib.sha256(content).hexdigest()
        if folder := folders.get(file):
            names[folder] |= coco.file_names(content)
    return {
        "annotations": hashes,
        "images": {folder.as_posix(): _summary(folder, listed) for folder, listed in names.items()},
    }


def fingerprint(tables: Tables) -> str:
    """SHA-256 of the bytes of the annotation files and of the name and size of every image in use."""
    lines = [hashlib.sha256(read_bytes(path)).hexdigest() for path in tables.files]
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
