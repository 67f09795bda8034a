"""A source of `params.yaml` -> the prepared dataset data/NAME; or what DVC and people want to know of it."""

import argparse
import json
import sys
from pathlib import Path

import pandas as pd

from stages.data import prepared
from stages.prepare import inspection, sources
from stages.prepare.problems import DatasetError
from stages.prepare.tables import count
from stages.runtime import layout, params
from stages.runtime.atomic_write import atomic_write


def main(arguments: list[str] | None = None) -> None:
    """Do what is asked with one dataset of `params.yaml`."""
    options = _parser().parse_args(arguments)
    datasets = params.read_or_exit().datasets
    name = options.dataset or options.fingerprint or options.inspect
    if name not in datasets:
        _parser().error(f"unknown dataset {name!r}; params.yaml has: {', '.join(datasets)}")
    try:
        if options.dataset:
            prepare(name, datasets[name])
        elif options.fingerprint:
            fingerprint(name, datasets[name])
        else:
            inspect(name)
    except (DatasetError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")


def prepare(name: str, source: params.Source) -> None:
    """Read and check the source, write its tables and their summary to data/NAME."""
    folder = layout.prepared(name)
    with atomic_write(folder) as partial:
        partial.mkdir()
        tables = sources.read(source, partial)
        counts = count(tables.expressions)
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
        tables.instances["image"] = [moved(image, partial, folder) for image in tables.instances["image"]]
        prepared.write(partial, tables.expressions, tables.instances, summary, tables.boxes)
    print(pd.DataFrame(counts).T.rename_axis(str(folder)).to_string())
    for line in tables.notes:
        print(f"note: {line}")
    for line in tables.warnings:
        print(f"warning: {line}", file=sys.stderr)


def fingerprint(name: str, source: params.Source) -> None:
    """Write what lies outside the project to sources/NAME.json, the dependency of `prepare@NAME`."""
    content = json.dumps(sources.external(source), indent=2, ensure_ascii=False) + "\n"
    with atomic_write(layout.fingerprint(name)) as path:
        path.write_text(content, encoding="utf-8")


def inspect(name: str) -> None:
    """Print what a prepared dataset holds and write a page of samples."""
    dataset = prepared.read(layout.prepared(name))
    print(inspection.summary(dataset))
    page = layout.inspection(name)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(inspection.page(dataset), encoding="utf-8")
    print(f"\n{page}")


def moved(path: str, source: Path, target: Path) -> str:
    """The path after `source` was renamed to `target`; a path outside `source` stays."""
    inside = f"{source.as_posix()}/"
    return f"{target.as_posix()}/{path.removeprefix(inside)}" if path.startswith(inside) else path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m stages.prepare", description=__doc__)
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--dataset", metavar="NAME", help="read and check its source, write data/NAME")
    task.add_argument("--inspect", metavar="NAME", help="what data/NAME holds, and a page of samples")
    task.add_argument("--fingerprint", metavar="NAME", help="look at its files, write sources/NAME.json (a DVC stage)")
    return parser


if __name__ == "__main__":
    main()
