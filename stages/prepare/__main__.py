"""`python -m stages.prepare --dataset NAME`: a source of `params.yaml` -> the prepared dataset data/NAME."""

import argparse
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from stages import layout, params, prepared
from stages.prepare import refer, scenes


def main(arguments: list[str] | None = None) -> None:
    """Render or find the release, read and check it, write its tables and their summary."""
    name, source = parse(arguments)
    folder = layout.prepared(name)
    with written_whole(folder) as partial:
        release = find(source, partial)
        expressions, instances = refer.read(release, source.sentence)
        summary = {
            "name": name,
            "source": source.model_dump(),
            "counts": count(expressions),
            "checks": list(refer.CHECKS),
            "fingerprint": refer.fingerprint(release, instances),
        }
        instances["image"] = [moved(image, partial, folder) for image in instances["image"]]
        prepared.write(partial, expressions, instances, summary)
    print(pd.DataFrame(summary["counts"]).T.rename_axis(str(folder)).to_string())


def parse(arguments: list[str] | None) -> tuple[str, params.ScenesSource | params.ReferSource]:
    """Command line and `params.yaml` -> name and source of the dataset."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.prepare", description="Write a prepared dataset to data/NAME."
    )
    parser.add_argument("--dataset", metavar="NAME", required=True, help="a key of `datasets` in params.yaml")
    name = parser.parse_args(arguments).dataset
    datasets = params.read_or_exit().datasets
    if name not in datasets:
        parser.error(f"--dataset: unknown name {name!r}; allowed: {', '.join(datasets)}")
    return name, datasets[name]


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` that replaces it at the end; after a failure there is neither."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def find(source: params.ScenesSource | params.ReferSource, partial: Path) -> refer.Release:
    """Where the release of a source lies; scenes are rendered there first."""
    if source.kind == "refer":
        return refer.Release(Path(source.root), source.name, source.split_by)
    scenes.write(source, partial / "refer")
    return refer.Release(partial / "refer", "scenes", "unc")


def count(expressions: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Refs, expressions and images of each split."""
    columns = {"ref_id": "refs", "sent_id": "expressions", "image_id": "images"}
    counts = expressions.groupby("split")[list(columns)].nunique().rename(columns=columns)
    return {split: counts.loc[split].to_dict() for split in refer.SPLITS if split in counts.index}


def moved(path: str, source: Path, target: Path) -> str:
    """The path after `source` was renamed to `target`; a path outside `source` stays."""
    inside = Path(path).is_relative_to(source)
    return (target / Path(path).relative_to(source)).as_posix() if inside else path


if __name__ == "__main__":
    try:
        main()
    except refer.DatasetError as error:
        sys.exit(f"error: {error}")
