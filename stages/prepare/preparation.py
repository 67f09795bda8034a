"""Writes a prepared dataset, the fingerprint of its source for DVC, and the page to look at it."""

import json
import sys
from pathlib import Path

import pandas as pd

from stages.data import prepared
from stages.prepare import sources
from stages.prepare.tables import count, few_images
from stages.runtime import layout
from stages.runtime.atomic_write import atomic_write
from stages.runtime.params import Source


def prepare(name: str, source: Source) -> None:
    """Read and check the source, and write its tables and their summary to data/NAME, and a hash of them."""
    folder = layout.prepared(name)
    with atomic_write(folder) as partial:
        partial.mkdir()
        tables = sources.read(source, partial)
        counts = count(tables.expressions)
        warnings, notes = few_images(counts)
        tables.warnings += warnings
        tables.notes += notes
        summary = {
            "name": name,
            "source": source.model_dump(),
            "counts": counts,
            "partial": tables.partial,
            "warnings": tables.warnings,
            "notes": tables.notes,
            "checks": tables.checks,
            "fingerprint": sources.fingerprint(tables),
        }
        paths = {path: moved(path, partial, folder) for path in tables.instances["image"].unique()}
        tables.instances["image"] = tables.instances["image"].map(paths)
        prepared.write(partial, tables.expressions, tables.instances, summary, tables.boxes)
    with atomic_write(layout.prepared_hash(name)) as partial:
        partial.write_text(json.dumps(sources.contents(folder), indent=2) + "\n", encoding="utf-8")
    print(pd.DataFrame(counts).T.rename_axis(str(folder)).to_string())
    for line in tables.notes:
        print(f"note: {line}")
    for line in tables.warnings:
        print(f"warning: {line}", file=sys.stderr)


def fingerprint(name: str, source: Source) -> None:
    """Write what lies outside the project to sources/NAME.json, the dependency of `prepare@NAME`."""
    content = json.dumps(sources.external(source), indent=2, ensure_ascii=False) + "\n"
    with atomic_write(layout.fingerprint(name)) as path:
        path.write_text(content, encoding="utf-8")


def inspect(name: str) -> None:
    """Print the numbers of a prepared dataset and write a page of them with samples."""
    from stages.prepare import inspection  # it imports templates, which take a tenth of a second

    dataset = prepared.read(layout.prepared(name))
    print(inspection.summary(dataset))
    page = layout.inspection(name)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(inspection.page(dataset), encoding="utf-8")
    print(f"\n{layout.from_root(page)}")


def moved(path: str, source: Path, target: Path) -> str:
    """The path after `source` was renamed to `target`; a path outside `source` stays."""
    inside = f"{source.as_posix()}/"
    return f"{target.as_posix()}/{path.removeprefix(inside)}" if path.startswith(inside) else path
