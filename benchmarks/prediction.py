"""How long does a prediction take, and how much of that time is the model?

Expressions of val, each with its own image, are predicted in batches in three ways, in turn. `forward` is the model
alone, on tensors in memory. `segment` goes from decoded images and text to masks at the original size, as all tools of
the project do. `file` also decodes the image files and encodes the masks as COCO RLE (run-length encoding).
Milliseconds are per expression, medians over rounds; ratios are of these medians to that of `forward`. Before that, the
seconds to load the model and to make the first prediction from a file are measured once.

Needs a trained model: `dvc repro train@scenes-alignformer-0`. Adds one row per batch size to
`benchmarks/results/prediction.csv`.
"""

import argparse
import sys
import time
from pathlib import Path
from statistics import median

import torch

from benchmarks import table
from benchmarks.steps import device, in_turn
from models import images
from models.prediction import segment
from stages.data import prepared
from stages.estimate.measuring import describe
from stages.runtime import layout, params
from stages.scoring import trained
from stages.serving import source

RESULTS = Path("benchmarks/results/prediction.csv")
BATCHES = (1, 2, 4, 8, 16, 32, 64)


def main() -> None:
    settings = params.read_or_exit()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prediction", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="scenes/alignformer/0", help="as in `python -m stages.predict --model`")
    parser.add_argument("--dataset", default="scenes", choices=settings.datasets, metavar="NAME")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    try:
        dataset = prepared.read(layout.prepared(arguments.dataset))
        rows = dataset.validation
        folder = source.folder(arguments.model)
        start = time.perf_counter()
        model, processor = trained.load(folder)
        model = model.to(device()).eval()
    except (FileNotFoundError, prepared.MissingSplitError, source.NoModelError, trained.OtherModelError) as error:
        sys.exit(f"error: {error}")
    loaded = time.perf_counter()
    paths = [Path(dataset.instances.loc[ann_id]["image"]) for ann_id in rows["ann_id"]]
    texts = rows["text"].tolist()
    ready = time.perf_counter()
    segment(model, processor, [images.read(paths[0])], texts[:1])
    once = {"load, s": round(loaded - start, 3), "first answer, s": round(time.perf_counter() - ready, 3)}

    found = []
    for batch in BATCHES:
        pictures, said = [images.read(path) for path in paths[:batch]], texts[:batch]
        inputs = processor(pictures, said).to(model.device)
        repeats = max(1, 64 // batch)

        def forward(inputs=inputs):
            with torch.inference_mode():
                model(**inputs)

        def whole(pictures=pictures, said=said):
            return segment(model, processor, pictures, said)

        def file(batch=batch, said=said):
            answers = segment(model, processor, [images.read(path) for path in paths[:batch]], said)
            return [prepared.encode_mask(answer.mask) for answer in answers]

        ways = {
            name: lambda way=way, repeats=repeats: [way() for _ in range(repeats)]
            for name, way in (("forward", forward), ("segment", whole), ("file", file))
        }
        times = in_turn(ways, arguments.rounds)
        each = {name: 1000 * median(values) / (repeats * batch) for name, values in times.items()}
        found.append(
            {
                "model": arguments.model,
                **once,
                "batch": batch,
                **{f"{name}, ms": round(value, 3) for name, value in each.items()},
                **{f"{name} / forward": round(each[name] / each["forward"], 2) for name in ("segment", "file")},
                "expressions/s, file": round(1000 / each["file"], 1),
                "rounds": arguments.rounds,
                "device": describe(device()),
                **table.surroundings("torch", "transformers"),
                "command": table.command("prediction"),
            }
        )
        print(", ".join(f"{key} {value}" for key, value in list(found[-1].items())[1:10]), flush=True)
    table.append(RESULTS, found)


if __name__ == "__main__":
    main()
