"""What does `encode_once` save, and what does it change?

Takes a run of the experiment `photographs` that is trained. A training step is measured with images that are encoded
beforehand and with the same images as pixels, which the whole vision encoder sees at every step. The two take turns in
one process, since the speed of a shared machine varies. Pixels are in memory, so no image is decoded in the measured
time. The ratio is that of the medians; lowest and highest are ratios within one round.

Then the trained model is scored on val in both ways. They differ as encoded images are kept in half precision.

Adds its rows to `benchmarks/results/encoded.csv`.
"""

import argparse
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd

from benchmarks import table
from benchmarks.steps import in_turn, ratio, training_step
from stages.data import prepared
from stages.data.samplers import OneExpressionPerRef
from stages.estimate.measuring import describe
from stages.runtime import experiments, layout, params, processes
from stages.runtime.run import Run
from stages.scoring import trained
from stages.scoring.score import score
from stages.setup.training_setup import TrainingSetup, assemble
from stages.train.training import encode_once

NO_RATIO = dict.fromkeys(("ratio", "lowest", "highest", "rounds"))
RESULTS = Path(__file__).with_name("results") / "encoded.csv"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.encoded", description=__doc__.splitlines()[0])
    parser.add_argument("--variant", default="alignformer", help="a variant trained in experiments/photographs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=8)
    arguments = parser.parse_args()
    experiments.enter("photographs")
    settings = params.read_or_exit()
    run = Run("refer_mini", arguments.variant, arguments.seed)
    model, _ = trained.load(layout.model(*run))
    pixels, encoded = assemble(run, settings), assemble(run, settings)
    encoded.model.load_state_dict(model.state_dict())
    encode_once(encoded, settings.machine.encoded_gigabytes)
    scores = [
        score(encoded.model, of.val, of.protocol, settings.evaluation.batch_size, progress=name)
        for name, of in (("pixels", pixels), ("encoded", encoded))
    ]
    found = differences(*scores) | {"seconds of a training step": steps(pixels, encoded, arguments.rounds)}
    rows = [
        {
            "variant": run.variant,
            "measure": measure,
            **values,
            "device": describe(processes.here().device),
            **table.surroundings("torch", "transformers"),
            "command": table.command("encoded"),
        }
        for measure, values in found.items()
    ]
    for row in rows:
        print(", ".join(f"{key} {value}" for key, value in list(row.items())[:7]), flush=True)
    table.append(RESULTS, rows)


def differences(pixels: pd.DataFrame, encoded: pd.DataFrame) -> dict[str, dict[str, float | None]]:
    """Measure -> what it is from pixels and from encoded images, of scores in the same order."""
    masks = [
        [prepared.decode_mask(*of) for of in one[["prediction", "height", "width"]].values] for one in (pixels, encoded)
    ]
    differ = sum(int((one != other).sum()) for one, other in zip(*masks, strict=True))
    size = int((pixels["height"] * pixels["width"]).sum())
    largest = float(np.abs(pixels["iou"] - encoded["iou"]).max())
    found = {
        "mIoU on val": (round(pixels["iou"].mean(), 5), round(encoded["iou"].mean(), 5)),
        "largest difference in IoU": (0.0, round(largest, 5)),
        "share of pixels of masks that differ": (0.0, round(differ / size, 7)),
    }
    return {measure: {"pixels": one, "encoded": other, **NO_RATIO} for measure, (one, other) in found.items()}


def steps(pixels: TrainingSetup, encoded: TrainingSetup, rounds: int) -> dict[str, float | None]:
    """Seconds of a whole training step: loading of the batch, forward, backward and optimizer."""
    training, model = encoded.recipe.training, encoded.model.train()
    order = list(OneExpressionPerRef(encoded.train.rows, 0, training.by_image))[: training.batch_size]
    step = training_step(model, training, steps=2 * (rounds + 1))
    ways = {
        name: lambda source=setup.train: step(**source[order].inputs(model.device))
        for name, setup in (("pixels", pixels), ("encoded", encoded))
    }
    times = in_turn(ways, rounds)
    medians = {name: round(median(of_way), 4) for name, of_way in times.items()}
    return medians | ratio(times["encoded"], times["pixels"])


if __name__ == "__main__":
    main()
