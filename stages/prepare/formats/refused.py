"""Files of the RefCOCO family that are not read: by what they are known, why not, and what to use instead."""

import re
from collections.abc import Collection, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from stages.runtime import layout

LISTS = re.compile(r"(.*_)?(train|trainval|val|test|testA|testB|corpus)\.(pth|pt)")  # not the weights of a model
MIXED = re.compile(r"mixed[^/]*/instances.*\.json|.*/instances_nogoogle.*\.json")
DEEPEST = 4  # folders below the one that is searched
LMDB = "an LMDB, whose values are pickles or serialised by pyarrow: reading them runs whatever their author wrote"
REFUSED = {
    "lmdb": f"{LMDB}. Use the files that it was made of: kind cris, anns/NAME/SPLIT.json and masks/NAME",
    "list": "a list in a pickle of PyTorch, which runs whatever its author wrote, and without masks. Use the REFER "
    "release or one of the other kinds of docs/refcoco.md",
    "tsv": "a table of PolyFormer, with boxes and cut polygons in text. Use the REFER release or one of the other "
    "kinds of docs/refcoco.md",
    "grefs": "gRefCOCO, whose expressions mean several things or none: a model of this project gives one mask for one "
    "thing. Use refs(unc).p of RefCOCO",
    "mixed": "SeqTR's JSON of several sets together, whose train split is that of none. Use kind seqtr with the file "
    "of each set: refcoco-unc/instances.json, and those in refcocoplus-unc and refcocog-umd",
    "lmms-lab": "of lmms-lab, for chat models: no train split, val is that of unc and google together, and of several "
    "polygons one is kept. Use kind parquet with the files of jxu124/refcoco, jxu124/refcocoplus or jxu124/refcocog",
    "refcoco-m": "RefCOCO-M, masks of val drawn anew, without a train split. Use kind refcoco_m, as a second truth for "
    "models of RefCOCO, and kind parquet with the files of jxu124/refcoco to train",
}


def of_columns(names: Collection[str]) -> str | None:
    """Why a Parquet file with these columns is refused; None where they say nothing."""
    if {"question_id", "answer"} <= set(names):
        return REFUSED["lmms-lab"]
    return REFUSED["refcoco-m"] if "samples" in names else None


def columns(path: Path) -> list[str]:
    """The names of the columns of a Parquet file; empty where it is none."""
    try:
        return pyarrow.parquet.read_schema(layout.source(path)).names
    except (pa.ArrowException, OSError, ValueError):
        return []


def of_name(path: Path) -> str | None:
    """Why a file or folder of this name is refused; None where it says nothing."""
    if path.name == "data.mdb" or path.suffix == ".lmdb":
        return REFUSED["lmdb"]
    if LISTS.fullmatch(path.name):
        return REFUSED["list"]
    if path.suffix == ".tsv" and "refcoco" in path.name:
        return REFUSED["tsv"]
    if MIXED.fullmatch("/".join(path.parts[-2:])):
        return REFUSED["mixed"]
    return REFUSED["grefs"] if path.name.startswith("grefs(") else None


def below(folder: Path) -> list[str]:
    """A line for each refused file in a folder and below, which names it and says what to use instead."""
    return [f"{path}: {reason}" for path in walk(folder) if (reason := of_name(path))]


def walk(folder: Path) -> Iterator[Path]:
    """Every file and folder in a folder and below, not deeper than `DEEPEST`, links to folders included, by name."""
    located = layout.source(folder)
    pending = [(located, 0)]
    while pending:
        here, depth = pending.pop()
        try:
            inside = sorted(here.iterdir())
        except OSError:
            continue
        for path in inside:
            yield folder / path.relative_to(located)
            if depth < DEEPEST and not path.suffix and path.is_dir():
                pending.append((path, depth + 1))
