"""What lies in a folder: sets of the RefCOCO family in any format, and files of it that are not read."""

from collections import Counter
from pathlib import Path

from stages.prepare.formats import parquet, refcoco_m, refused
from stages.prepare.formats.refcoco_m import RefcocoMFiles
from stages.prepare.formats.release import Release
from stages.prepare.problems import DatasetError
from stages.prepare.sources import FORMATS
from stages.runtime import layout
from stages.runtime.refer_sets import SPLIT_BY, Format


def report(folder: Path) -> str:
    """What was found, what is not read and what to use instead, and the entries of `datasets` for params.yaml.

    Raises:
        DatasetError: there is no such folder, or nothing that is known is in it.
    """
    if not layout.source(folder).is_dir():
        raise DatasetError(f"{folder}: no such folder")
    truths = second_truths(folder)
    found, others = sets(folder), _refused(folder, {path for files in truths for path in files.annotations})
    parts = _parts(folder, found)
    if not found and not truths and not others and not parts:
        raise DatasetError(
            f"{folder}: neither it nor a folder up to {refused.DEEPEST} below holds a set of the RefCOCO family in one "
            f"of the formats {', '.join(FORMATS)}; docs/refcoco.md says which files each has"
        )
    lines = [line for kind, release in found for line in _described(kind, release)]
    lines += [line for files in truths for line in _described("refcoco_m", files)]
    lines += ["not read:", *(f"  {line}" for line in others)] if others else []
    lines += ["not whole:", *(f"  {line}" for line in parts)] if parts else []
    if found or truths:
        lines += ["", "For params.yaml:", "", "datasets:", *_entries(found)]
        lines += [line for files in truths for line in _entry("refcoco_m", "refcoco_m", files)]
    return "\n".join(lines)


def sets(folder: Path) -> list[tuple[Format, Release]]:
    """Every set in a folder and below, with all its annotation files, once."""
    found: dict[tuple[Path, str], tuple[Format, Release]] = {}
    for root in _folders(folder):
        for kind, files in FORMATS.items():
            for name, choices in SPLIT_BY.items():
                for split_by in choices:
                    release = files(root, name, split_by)
                    if release.complete():
                        found.setdefault((release.annotations[0], name), (kind, release))
    return list(found.values())


def second_truths(folder: Path) -> list[RefcocoMFiles]:
    """RefCOCO-M in a folder and below: the first of it."""
    every = (RefcocoMFiles(root, refcoco_m.NAME, refcoco_m.SPLIT_BY) for root in _folders(folder))
    return [files for files in every if files.complete()][:1]


def _folders(folder: Path) -> list[Path]:
    return [folder, *(path for path in refused.walk(folder) if layout.source(path).is_dir())]


def _parts(folder: Path, found: list[tuple[Format, Release]]) -> list[str]:
    """A line for each set of which a file is there and another is not, or is not whole."""
    known = {path for _, release in found for path in release.annotations}
    lines: dict[Path, str] = {}
    for root in _folders(folder):
        for kind, files in FORMATS.items():
            for name, (split_by, *_) in SPLIT_BY.items():
                release = files(root, name, split_by)
                own = {path for path in release.annotations if layout.source(path).is_file()} - {*release.coco_files()}
                own = {path for path in own if path.suffix != ".parquet" or _may_be_of_the_hub(path)}
                if own and not own & known:
                    path, why = _wrong(release)
                    of_set = "" if kind == "parquet" else f", {name}"
                    lines.setdefault(path, f"{why}; kind {kind}{of_set}")
    return list(lines.values())


def _may_be_of_the_hub(path: Path) -> bool:
    """Whether a Parquet file has columns of COCO's entries, or cannot be read."""
    names = refused.columns(path)
    return not names or any(name.startswith("raw_") for name in names)


def _wrong(release: Release) -> tuple[Path, str]:
    """The first file for which a release is not complete, and a line that says why."""
    for path in release.annotations:
        if not layout.source(path).is_file():
            return path, f"{path}: missing"
        if path.suffix == ".parquet":
            try:
                parquet.read_columns(path, parquet.COLUMNS)
            except DatasetError as error:
                return path, str(error)
    folder = release.annotations[0].parent
    return folder, f"{folder}: as many refs as no set has, so give its name and split_by yourself"


def _refused(folder: Path, known: set[Path]) -> list[str]:
    tables = [path for path in refused.walk(folder) if path.suffix == ".parquet" and path not in known]
    reasons = {path: refused.of_columns(refused.columns(path)) for path in tables}
    return [*refused.below(folder), *(f"{path}: {reason}" for path, reason in reasons.items() if reason)]


def _described(kind: str, release: Release) -> list[str]:
    coco_files = [path for path in release.annotations if path in release.coco_files()]
    images = [str(release.image_folder())] if release.has_images() else []
    return [
        f"{release.root}: kind {kind}, {release.name} split by {release.split_by}",
        *(f"  {path}" for path in release.annotations if path not in coco_files),
        *(f"  other things on the images: {path}" for path in coco_files),
        f"  images: {images[0] if images else 'not below it; the key images names their folder'}",
    ]


def _entries(found: list[tuple[Format, Release]]) -> list[str]:
    """A section for each set, named for it and its format, with a number where that name is taken."""
    lines, taken = [], Counter()
    for kind, release in found:
        usual = release.split_by == SPLIT_BY[release.name][0]
        name = "_".join([release.name, *([] if usual else [release.split_by]), *([] if kind == "refer" else [kind])])
        taken[name] += 1
        lines += _entry(name if taken[name] == 1 else f"{name}_{taken[name]}", kind, release)
    return lines


def _entry(name: str, kind: str, release: Release) -> list[str]:
    of_set = [f"    name: {release.name}", f"    split_by: {release.split_by}"]
    return [
        f"  {name}:",
        f"    kind: {kind}",
        f"    root: {release.root}",
        *([] if release.has_images() else ["    images: FOLDER"]),
        *([] if isinstance(release, RefcocoMFiles) else of_set),
        "    sentence: sent",
    ]
