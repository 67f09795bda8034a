"""What does reading the whole of RefCOCO cost, beside what readers of a REFER release usually do?

- `prepare`: the project's command, from nothing to a dataset on disk. It checks everything but the images, and decodes
  every mask.
- `parquet`, `parquet with COCO`: the same from a Parquet file as that of the hub, without and with COCO's own
  annotations beside it, 604,907 on 82,783 images. Polygons have about as many corners as COCO's.
- `prepared`: each later process reads the tables of that dataset.
- `customary`: each process of a customary reader loads both files and builds dictionaries of everything by everything.
  It decodes no mask and checks nothing.

Each runs in a process of its own, start and imports included, and they take turns, since the speed of a shared machine
varies. Needs the annotations of the whole set, but no images. The annotations of `expand_refer.py` have boxes instead
of polygons and take 220 bytes each; the true ones of 24 photographs take 590. With the release itself, every method
that loads it therefore takes more. Adds its rows to `benchmarks/results/reader.csv`.
"""

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

from benchmarks import table

PROJECT = Path(__file__).parents[1]
RESULTS = PROJECT / "benchmarks/results/reader.csv"
REPEATS = 5
LIBRARIES = ("numpy", "orjson", "pandas", "pyarrow", "pycocotools")
COCO_IMAGES, COCO_ANNOTATIONS = 82_783, 604_907  # of instances_train2014.json
MEASURES = ("CPU seconds", "wall seconds", "peak RSS MiB")
ABSENT = (
    "{file} is absent. --root names the folder that holds refcoco/refs(unc).p and refcoco/instances.json, as "
    "docs/refcoco.md says; ../shared/tools/expand_refer.py OUT writes both without polygons, then: --root OUT"
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reader", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--root", type=Path, default=Path("refer"), help="folder of a REFER release with the whole of RefCOCO"
    )
    root = parser.parse_args().root.resolve()
    files = [root / "refcoco" / name for name in ("refs(unc).p", "instances.json")]
    for file in files:
        if not file.is_file():
            sys.exit(f"error: {ABSENT.format(file=file)}")

    with tempfile.TemporaryDirectory() as folder:
        write_params(Path(folder), root)
        measured(Path(folder), ["-c", called("write_parquet"), *files, folder])  # its memory would count for all others
        commands = {
            "prepare": ["-m", "stages.prepare", "--dataset", "refcoco"],
            "parquet": ["-m", "stages.prepare", "--dataset", "parquet"],
            "parquet with COCO": ["-m", "stages.prepare", "--dataset", "parquet_with_coco"],
            "prepared": [
                "-c",
                "from stages.data import prepared; from pathlib import Path; prepared.read(Path('data/refcoco'))",
            ],
            "customary": ["-c", called("customary"), *files],
        }
        runs = {method: [] for method in commands}
        for _ in range(REPEATS):
            for method, arguments in commands.items():
                runs[method].append(measured(Path(folder), arguments))
        counts = json.loads((Path(folder) / "data/refcoco/dataset.json").read_text(encoding="utf-8"))["counts"]
    write(runs, sum(count["expressions"] for count in counts.values()))


def called(function: str) -> str:
    """Code that calls a function of this module with the arguments of its process, as paths."""
    return f"import sys, pathlib; from benchmarks import reader; reader.{function}(*map(pathlib.Path, sys.argv[1:]))"


def customary(refs_file: Path, instances_file: Path) -> dict[str, dict]:
    """The dictionaries that readers of a REFER release keep in memory."""
    with open(refs_file, "rb") as file:
        refs = pickle.load(file)
    with open(instances_file, encoding="utf-8") as file:
        instances = json.load(file)

    anns = {ann["id"]: ann for ann in instances["annotations"]}
    image_to_anns = defaultdict(list)
    for ann in instances["annotations"]:
        image_to_anns[ann["image_id"]].append(ann)

    image_to_refs, category_to_refs = defaultdict(list), defaultdict(list)
    sents, sent_to_ref, sent_to_tokens = {}, {}, {}
    for ref in refs:
        image_to_refs[ref["image_id"]].append(ref)
        category_to_refs[ref["category_id"]].append(ref)
        for sent in ref["sentences"]:
            sents[sent["sent_id"]] = sent
            sent_to_ref[sent["sent_id"]] = ref
            sent_to_tokens[sent["sent_id"]] = sent["tokens"]
    return {
        "Refs": {ref["ref_id"]: ref for ref in refs},
        "Anns": anns,
        "Imgs": {image["id"]: image for image in instances["images"]},
        "Cats": {category["id"]: category["name"] for category in instances["categories"]},
        "Sents": sents,
        "imgToRefs": image_to_refs,
        "imgToAnns": image_to_anns,
        "refToAnn": {ref["ref_id"]: anns[ref["ann_id"]] for ref in refs},
        "annToRef": {ref["ann_id"]: ref for ref in refs},
        "catToRefs": category_to_refs,
        "sentToRef": sent_to_ref,
        "sentToTokens": sent_to_tokens,
    }


def write_params(folder: Path, root: Path) -> None:
    """Write the project's `params.yaml` with RefCOCO at `root` and without a check of the images."""
    from ruamel.yaml import YAML  # not at the top: the process of the customary reader imports this module

    yaml = YAML(typ="safe")
    content = yaml.load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    refcoco = content["datasets"]["refcoco"]
    refcoco.update(root=str(root), check_images=False)
    for name in ("parquet", "parquet_with_coco"):
        content["datasets"][name] = {**refcoco, "kind": "parquet", "root": str(folder / name)}
    with (folder / "params.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(content, file)


def write_parquet(refs_file: Path, instances_file: Path, folder: Path) -> None:
    """Write what the hub has, a row for each ref, into two folders, and a file as large as COCO's into one of them."""
    import numpy as np  # not at the top: as above
    import orjson
    import pyarrow as pa
    import pyarrow.parquet

    refs = pickle.loads(refs_file.read_bytes())
    instances = orjson.loads(instances_file.read_bytes())
    drawn = with_polygons(instances["annotations"])
    annotations, images = {entry["id"]: entry for entry in drawn}, {entry["id"]: entry for entry in instances["images"]}
    keys = ("ref_id", "ann_id", "image_id", "split", "category_id", "sentences")
    rows = [
        {key: ref[key] for key in keys}
        | {"raw_anns": orjson.dumps(annotations[ref["ann_id"]]).decode()}
        | {"raw_image_info": orjson.dumps(images[ref["image_id"]]).decode()}
        for ref in refs
    ]
    for name in ("parquet", "parquet_with_coco"):
        (folder / name).mkdir()
        pa.parquet.write_table(pa.Table.from_pylist(rows), folder / name / "refcoco.parquet")

    first, first_annotation, count = max(images) + 1, max(annotations) + 1, COCO_IMAGES - len(images)
    others = [{**instances["images"][0], "id": first + place} for place in range(count)]
    more = [
        {**drawn[place % len(drawn)], "id": first_annotation + place, "image_id": first + place % count}
        for place in range(COCO_ANNOTATIONS - len(drawn))
    ]
    every = [*drawn, *more]
    mixed = [every[place] for place in np.random.default_rng(0).permutation(len(every)).tolist()]
    content = {"images": [*instances["images"], *others], "annotations": mixed, "categories": instances["categories"]}
    (folder / "parquet_with_coco" / "instances_train2014.json").write_bytes(orjson.dumps(content))


def with_polygons(annotations: list[dict]) -> list[dict]:
    """Annotations, each with one polygon inside its box. The mean of its corners is that of 24 images of COCO, 28."""
    import numpy as np  # not at the top: as above

    generator = np.random.default_rng(0)
    corners = (4 + generator.lognormal(2.9, 0.8, len(annotations))).clip(max=200).astype(int)
    ends = corners.cumsum()
    place = np.arange(ends[-1]) - np.repeat(ends - corners, corners)
    angles = 2 * np.pi * (place + generator.uniform(size=len(place))) / np.repeat(corners, corners)
    around = generator.uniform(0.7, 1, len(place))[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    boxes = np.repeat(np.array([entry["bbox"] for entry in annotations]), corners, axis=0)
    numbers = (boxes[:, :2] + boxes[:, 2:] / 2 * (1 + around)).round(2).ravel().tolist()
    return [
        {**entry, "segmentation": [numbers[2 * (end - count) : 2 * end]]}
        for entry, count, end in zip(annotations, corners.tolist(), ends.tolist(), strict=True)
    ]


def measured(folder: Path, arguments: list) -> tuple[float, float, float]:
    """`MEASURES` of one Python process in `folder`. Ends the benchmark if the process fails.

    On Linux, the peak of a process is never below that of the one that started it, so this one must stay small.
    """
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    errors = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    if status:
        sys.exit(errors)
    unit = 2**20 if sys.platform == "darwin" else 2**10  # units of ru_maxrss per MiB
    return usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / unit


def write(runs: dict[str, list[tuple[float, float, float]]], expressions: int) -> None:
    """Write one row per method and measure; `to customary` is the ratio of the medians."""
    rows = []
    for method, measures in runs.items():
        for place, measure in enumerate(MEASURES):
            values = [run[place] for run in measures]
            peers = [run[place] for run in runs["customary"]]
            rows.append(
                {
                    **table.surroundings(*LIBRARIES),
                    "expressions": expressions,
                    "method": method,
                    "measure": measure,
                    "minimum": round(min(values), 2),
                    "median": round(median(values), 2),
                    "maximum": round(max(values), 2),
                    "to customary": round(median(values) / median(peers), 3),
                    "repeats": len(values),
                    "command": "python -m benchmarks.reader --root OUT",
                }
            )
    for row in rows:
        print("{method:17} {measure:13} {minimum:8} {median:8} {maximum:8}   {to customary} of customary".format(**row))
    table.append(RESULTS, rows)


if __name__ == "__main__":
    main()
