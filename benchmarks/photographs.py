"""How good is a model trained on photographs (`refer_mini`), beside baselines without a model or without language?

Scores are under protocol `original`, on val, testA and testB of `refer_mini` (predicted masks) and on all expressions
of `refer_true` (true masks; its images are not in `refer_mini`, and their splits in RefCOCO are ignored). Methods:

- the trained model, and the same model with expressions of other images;
- whole image: the mask is the whole image; center box: a box in the middle with half the image's sides;
- a plain head on frozen DINOv2-small and MiniLM, 2.1 M parameters: quoted, not measured here.

Intervals are those of `stages/statistics/bootstrap.py` over images only, since one model has no variation between
seeds. In its difference the quoted head counts as a constant: its own variation is unknown. With only the 24 images of
`refer_true`, intervals are somewhat too narrow.

It is about the experiment `photographs`, and needs a model that was trained there and both prepared datasets
(`python -m stages.prepare --experiment photographs --dataset NAME`). Replaces the rows of the model's variant and seed
in `benchmarks/results/photographs.csv`.
"""

import argparse
import hashlib
import math
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from benchmarks import baselines, table
from models.alignformer import AlignFormer
from models.processing import AlignFormerProcessor
from stages.ablate import without_model
from stages.data import prepared
from stages.data.samples import Expressions, ImageError
from stages.drawing import mask_comparison
from stages.estimate import measuring
from stages.evaluate import trained_on
from stages.evaluate.other_expressions import of_other_images
from stages.evaluate.trained_on import TrainedOnError
from stages.runtime import experiments, layout, params, processes
from stages.runtime.run import Run
from stages.scoring import trained
from stages.scoring.metrics import iou
from stages.scoring.protocols import PROTOCOLS
from stages.scoring.score import score
from stages.statistics import bootstrap
from stages.statistics.bootstrap import Estimates, Interval

RESULTS = Path(__file__).with_name("results") / "photographs.csv"
TRAINED_ON, TRUE_MASKS, ALL = "refer_mini", "refer_true", "all"
PROTOCOL = PROTOCOLS["original"]
MODEL, SHUFFLED = "AlignFormer", "AlignFormer, expressions of other images"
HEAD, HEAD_SHUFFLED = "plain head", "plain head, expressions of other images"
QUOTED = {  # mIoU
    (TRAINED_ON, "val"): {HEAD: 0.373, HEAD_SHUFFLED: 0.182},
    (TRAINED_ON, "testA"): {HEAD: 0.418},
    (TRAINED_ON, "testB"): {HEAD: 0.350},
    (TRUE_MASKS, ALL): {HEAD: 0.341, HEAD_SHUFFLED: 0.152},
}
KEYS = ["dataset", "split", "method", "variant", "seed"]
SHEET_COLUMNS, SHEET_ROWS = 3, 4  # of the sheet of samples


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.photographs", description=__doc__.splitlines()[0])
    parser.add_argument("--variant", default="alignformer", help="a variant trained on refer_mini")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--sheet", type=Path, metavar="PNG", help="also draw samples of refer_true to this file, outside the project"
    )
    arguments = parser.parse_args()
    if arguments.sheet and arguments.sheet.resolve().is_relative_to(Path.cwd()):
        parser.error(f"--sheet {arguments.sheet} lies in the project, which holds no photographs: name a path outside")
    sheet = arguments.sheet and arguments.sheet.absolute()
    experiments.enter("photographs")
    settings = params.read_or_exit()
    torch.set_num_threads(settings.evaluation.threads)
    run = Run(TRAINED_ON, arguments.variant, arguments.seed)
    try:
        mini, true = (prepared.read(layout.prepared(name)) for name in (TRAINED_ON, TRUE_MASKS))
        trained_on.refuse(true, mini)
        model, processor = trained.load(layout.model(*run))
        model.to(processes.here().device)
        parts = {(TRAINED_ON, split): (mini, mini.split(split)) for split in mini.evaluation_splits}
        parts[TRUE_MASKS, ALL] = true, true.expressions
        scored = {
            part: score_methods(dataset, rows, model, processor, settings.evaluation.batch_size)
            for part, (dataset, rows) in parts.items()
        }
    except (FileNotFoundError, prepared.MissingSplitError, ImageError, TrainedOnError) as error:
        sys.exit(f"error: {error}")
    found = pd.DataFrame([row for part, methods in scored.items() for row in rows_of(part, methods)])
    of_model = found["method"].str.startswith(MODEL)
    found.insert(3, "variant", np.where(of_model, run.variant, None))
    found.insert(4, "seed", pd.array(np.where(of_model, run.seed, None), dtype="Int64"))
    found["model"] = np.where(of_model, describe(model, layout.model(*run)), None)
    print(found.drop(columns=["variant", "seed", "model"]).to_string(index=False, na_rep=""))
    command = f"python -m benchmarks.photographs --variant {run.variant} --seed {run.seed}"
    device = measuring.describe(processes.here().device)
    write(found.assign(device=device, **table.surroundings("torch", "transformers"), command=command))
    if sheet:
        draw(sheet, true, scored[TRUE_MASKS, ALL][MODEL])


def score_methods(
    dataset: prepared.PreparedDataset,
    rows: pd.DataFrame,
    model: AlignFormer,
    processor: AlignFormerProcessor,
    batch_size: int,
) -> dict[str, pd.DataFrame]:
    """Method -> scores, one row per expression in the order of `rows`."""
    found = {}
    for method, texts in ((MODEL, rows["text"]), (SHUFFLED, rows["text"].to_numpy()[of_other_images(rows)])):
        expressions = Expressions(dataset, rows.assign(text=texts), processor)
        found[method] = score(model, expressions, PROTOCOL, batch_size, progress=method)
    for method, counts in without_model.counted(dataset, rows, PROTOCOL).items():
        found[method] = pd.concat([rows, counts], axis=1)
    return found


def rows_of(part: tuple[str, str], methods: dict[str, pd.DataFrame]) -> list[dict]:
    """Rows of metrics with intervals: measured methods, differences between them, quoted methods."""
    estimates = estimated(methods)
    found = {method: {metric: of.mean(method) for metric, of in estimates.items()} for method in methods}
    found[f"{MODEL} minus the same, expressions of other images"] = {
        metric: of.difference(MODEL, SHUFFLED) for metric, of in estimates.items()
    }
    quoted = QUOTED.get(part, {})
    if HEAD in quoted:
        value, low, high, *_ = found[MODEL]["mIoU"]
        above = Interval(value - quoted[HEAD], low - quoted[HEAD], high - quoted[HEAD], math.nan)
        found[f"{MODEL} minus plain head"] = {"mIoU": above}
    name = {"dataset": part[0], "split": part[1]}
    size = {"expressions": len(methods[MODEL]), "images": methods[MODEL]["image_id"].nunique()}
    return [
        *({**name, "method": method, "source": "measured", **size, **columns(of)} for method, of in found.items()),
        *({**name, "method": method, "source": "quoted", **size, "mIoU": value} for method, value in quoted.items()),
    ]


def estimated(methods: dict[str, pd.DataFrame]) -> dict[str, Estimates]:
    """mIoU and oIoU of every method in the same resamples of the images; all scores are in the same order."""
    images, _ = pd.factorize(next(iter(methods.values()))["image_id"])

    def by_image(values: Iterable[np.ndarray]) -> np.ndarray:
        return np.stack([np.bincount(images, each) for each in values])  # (methods, images)

    intersections, unions = ([rows[name].to_numpy() for rows in methods.values()] for name in ("intersection", "union"))
    ious = [iou(*pixels, PROTOCOL) for pixels in zip(intersections, unions, strict=True)]
    sums = {
        "mIoU": (by_image(ious), by_image([np.ones(len(images))])),
        "oIoU": (by_image(intersections), by_image(unions)),
    }
    return bootstrap.estimates([(method, 0) for method in methods], sums, PROTOCOL.both_empty)


def columns(metrics: dict[str, Interval]) -> dict[str, float]:
    """Value and interval bounds of each metric, to four digits."""
    return {
        f"{metric}{end}": round(value, 4)
        for metric, interval in metrics.items()
        for end, value in (("", interval.value), (" low", interval.low), (" high", interval.high))
    }


def describe(model: AlignFormer, folder: Path) -> str:
    """The model in words: its encoders, its VLBA levels, and a hash of its weights."""
    kinds = f"{model.config.vision_config.model_type} + {model.config.text_config.model_type}"
    levels = f"VLBA after {len(model.vlba)} of {len(model.vision.dims)} vision levels"
    return f"{kinds}, {levels}, sha256 {hashlib.sha256((folder / 'model.safetensors').read_bytes()).hexdigest()[:12]}"


def write(rows: pd.DataFrame, path: Path = RESULTS) -> None:
    """Add rows; each replaces an older one with the same dataset, split, method, variant and seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        rows = pd.concat([pd.read_csv(path, dtype={"seed": "Int64"}), rows])
    rows.drop_duplicates(KEYS, keep="last").to_csv(path, index=False)


def draw(path: Path, dataset: prepared.PreparedDataset, scores: pd.DataFrame) -> None:
    """Draw samples at even steps of rank, worst to best: expression, image with true outline, prediction."""
    number = SHEET_COLUMNS * SHEET_ROWS
    ranked = scores.assign(text=dataset.expressions["text"]).sort_values(["iou", "sent_id"])
    shown = ranked.iloc[[(2 * place + 1) * len(ranked) // (2 * number) for place in range(number)]]
    figure = Figure(figsize=(5 * SHEET_COLUMNS, 2.4 * SHEET_ROWS), dpi=110, layout="constrained")
    axes = figure.subplots(SHEET_ROWS, 2 * SHEET_COLUMNS).reshape(number, 2)
    for (left, right), row in zip(axes, shown.itertuples(), strict=True):
        image, truth = baselines.image(dataset, row), baselines.true_mask(dataset, row)
        predicted = prepared.decode_mask(row.prediction, row.height, row.width).astype(bool)
        left.imshow(image)
        left.contour(truth, levels=[0.5], colors=["white"], linewidths=1.5)
        right.imshow(mask_comparison.draw(Image.fromarray(image), truth, predicted))
        left.set_title(textwrap.fill(f"“{row.text}”", 44), fontsize=9, loc="left")
        right.text(0, -0.02, f"IoU {row.iou:.2f}", fontsize=9, va="top", transform=right.transAxes)
        left.set_axis_off()
        right.set_axis_off()
    keys = [Patch(color=region.colour, label=f"{region.meaning} ({region.name})") for region in mask_comparison.REGIONS]
    figure.legend(handles=keys, loc="outside lower center", ncols=len(keys), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")


if __name__ == "__main__":
    main()
