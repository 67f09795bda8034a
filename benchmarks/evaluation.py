"""How many expressions are scored per second, and what does encoding an image once for all its expressions save?

Each variant scores the same expressions in two ways, in turn: as evaluation does, where the vision levels that read no
words run once per image; and with every image and expression encoded again for each sample. A ratio is that of the
medians; lowest and highest are ratios within one round. The time includes resizing and counting masks at the original
size, but not decoding images. Weights are untrained, which does not change the cost.

Needs the prepared dataset: `python -m stages.prepare --dataset NAME`. Adds its rows to
`benchmarks/results/evaluation.csv`.
"""

import argparse
import sys
from pathlib import Path
from statistics import median

import torch

from benchmarks import table
from benchmarks.steps import device, in_turn, ratio
from models.alignformer import AlignFormer
from stages.data import prepared
from stages.data.samples import Expressions
from stages.estimate.measuring import describe
from stages.runtime import layout, params
from stages.scoring.protocols import PROTOCOLS
from stages.scoring.score import frame, score
from stages.setup import build
from stages.setup.pretrained import WeightsError

RESULTS = Path("benchmarks/results/evaluation.csv")


def main() -> None:
    settings = params.read_or_exit()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evaluation", description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="scenes", choices=settings.datasets, metavar="NAME")
    parser.add_argument("--recipe", default="small", choices=settings.recipes, metavar="NAME")
    parser.add_argument("--expressions", type=int, default=400, help="how many of the first expressions of val")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    recipe, protocol = settings.recipes[arguments.recipe], PROTOCOLS[settings.evaluation.protocol]
    batch_size = settings.evaluation.batch_size
    try:
        dataset = prepared.read(layout.prepared(arguments.dataset))
        processor = build.processor(recipe.model, dataset.split("train")["text"].tolist())
        models = {
            name: build.model(recipe, variant, processor.tokenizer).to(device())
            for name, variant in settings.variants.items()
        }
    except (FileNotFoundError, prepared.MissingSplitError, WeightsError) as error:
        sys.exit(f"error: {error}")
    rows = dataset.validation.head(arguments.expressions)
    expressions = Expressions(dataset, rows, processor, frame(protocol))

    found = []
    for name, model in models.items():
        ways = {
            "once": lambda model=model: score(model, expressions, protocol, batch_size),
            "anew": lambda model=model: score_anew(model, expressions, protocol, batch_size),
        }
        times = in_turn(ways, arguments.rounds)
        found.append(
            {
                "dataset": arguments.dataset,
                "recipe": arguments.recipe,
                "variant": name,
                "vision levels once an image": f"{model.levels_without_words} of {len(model.vision.dims)}",
                "expressions": len(rows),
                "expressions an image": round(len(rows) / rows["image_id"].nunique(), 2),
                "expressions/s, an image once": round(len(rows) / median(times["once"]), 1),
                "expressions/s, an image anew": round(len(rows) / median(times["anew"]), 1),
                **ratio(times["anew"], times["once"]),
                "batch_size": batch_size,
                "device": describe(device()),
                **table.surroundings("torch", "transformers"),
                "command": table.command("evaluation"),
            }
        )
        print(", ".join(f"{key} {value}" for key, value in list(found[-1].items())[2:11]), flush=True)
    table.append(RESULTS, found)


def score_anew(model: AlignFormer, *arguments: object) -> None:
    """`score`, but every image and expression is encoded for each sample."""
    handle = model.register_forward_pre_hook(repeated, with_kwargs=True)
    try:
        score(model, *arguments)
    finally:
        handle.remove()


def repeated(model: AlignFormer, arguments: tuple, inputs: dict[str, torch.Tensor | None]) -> tuple[tuple, dict]:
    """A hook: the inputs of AlignFormer for the same samples, without sharing."""
    images, expressions = inputs.get("image_index"), inputs.get("text_index")
    inputs = inputs | {"image_index": None, "text_index": None}
    if images is not None:
        inputs["pixel_values"] = inputs["pixel_values"][images]  # (P, 3, S, S) -> (B, 3, S, S)
    if expressions is not None:
        for name in ("input_ids", "attention_mask"):
            inputs[name] = inputs[name][expressions]  # (E, L) -> (B, L)
    return arguments, inputs


if __name__ == "__main__":
    main()
