"""One evaluation, from a trained model to its scores and metrics, under one protocol or several."""

import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pandas as pd
import torch

from models.alignformer import AlignFormer
from models.processing import AlignFormerProcessor
from stages.data import prepared
from stages.data.prepared import PreparedDataset
from stages.data.samples import Expressions
from stages.evaluate import shared_passes, trained_on
from stages.evaluate.other_expressions import of_other_images
from stages.runtime import layout, processes
from stages.runtime.atomic_write import atomic_write
from stages.runtime.params import Params
from stages.runtime.run import Run
from stages.runtime.run_lock import RunTakenError, only_trainer
from stages.scoring import trained
from stages.scoring.metrics import METRICS, summarise_splits
from stages.scoring.protocols import PROTOCOLS
from stages.tracking import live

CONTROL_COLUMNS = [
    *("sent_id", "ref_id", "ann_id", "image_id", "split", "protocol"),
    *("intersection", "union", "iou", "height", "width", "given"),
]


def evaluate(run: Run, settings: Params, on: str | None = None) -> None:
    """Score every expression of every split but train, under the protocol of `params.yaml` and those named beside it.

    The same model is scored with expressions of other images too, under the protocol of `params.yaml`.

    Args:
        on: a further dataset, whose expressions are scored instead, all of them, as a split of its name.

    Raises:
        FileNotFoundError: the prepared dataset or the model is missing.
        TrainedOnError: images of the further dataset were trained on.
        OtherModelError: the model folder holds the weights of another model.
        ImageError: an image cannot be read.
        NotOneRunError, OtherEndedError: several processes do not form one group, or one of them ended early.
    """
    with processes.group() as process:
        torch.set_num_threads(settings.evaluation.threads)
        dataset = prepared.read(layout.prepared(run.dataset))
        splits = own_splits(dataset)
        if on:
            further = prepared.read(layout.prepared(on), stage="prepare_on")
            trained_on.refuse(further, dataset)
            dataset, splits = further, {on: further.expressions.assign(split=on)}
        model, processor = trained.load(layout.model(*run))
        model.to(process.device)
        scores = scored(dataset, splits, model, processor, settings)
        controls = with_other_expressions(dataset, splits, model, processor, settings)
        if process.is_main_process:
            write(run, scores, controls, on)
            if not on:
                remove_checkpoints(layout.checkpoints(*run))


def own_splits(dataset: PreparedDataset) -> dict[str, pd.DataFrame]:
    """Evaluation split -> its expressions, with an index from 0 on."""
    return {split: dataset.split(split) for split in dataset.evaluation_splits}


def scored(
    dataset: PreparedDataset,
    splits: Mapping[str, pd.DataFrame],
    model: AlignFormer,
    processor: AlignFormerProcessor,
    settings: Params,
) -> dict[str, pd.DataFrame]:
    """Name of a protocol -> the scores of all splits under it; `evaluation.protocol` comes first.

    Args:
        splits: name -> its expressions, with an index from 0 on.
    """
    evaluation, protocols = settings.evaluation, [PROTOCOLS[name] for name in settings.evaluation.protocols]
    inputs = shared_passes.by_input(protocols, processor)
    processes.here().print(_shared_work(model))
    parts: dict[str, list[pd.DataFrame]] = {protocol.name: [] for protocol in protocols}
    for split, rows in splits.items():
        for frame, sharing in inputs.items():
            expressions = Expressions(dataset, rows, processor, frame)
            label = split if len(inputs) == 1 else f"{split}, {', '.join(protocol.name for protocol in sharing)}"
            found = shared_passes.scores(
                model, expressions, sharing, evaluation.batch_size, settings.machine.workers, label
            )
            for name, scores in found.items():
                parts[name].append(scores)
    return {name: pd.concat(of_splits) for name, of_splits in parts.items()}


def with_other_expressions(
    dataset: PreparedDataset,
    splits: Mapping[str, pd.DataFrame],
    model: AlignFormer,
    processor: AlignFormerProcessor,
    settings: Params,
) -> pd.DataFrame:
    """The scores under `evaluation.protocol` where each expression is replaced by one of another image of its split.

    Returns:
        The columns of `shared_passes.scores`, of which ids and true masks are those of the expression that is replaced,
        without the predicted mask; given: the sent_id of the expression that the model was given. A split of one image
        has no rows.
    """
    evaluation, protocol = settings.evaluation, PROTOCOLS[settings.evaluation.protocol]
    (frame,) = shared_passes.by_input([protocol], processor)
    parts = []
    for split, rows in splits.items():
        places = of_other_images(rows)
        if not len(places):
            continue
        other = rows.loc[places, ["text", "sent_id"]].reset_index(drop=True)
        expressions = Expressions(dataset, rows.assign(text=other["text"]), processor, frame)
        label = f"{split}, other images' expressions"
        found = shared_passes.scores(
            model, expressions, [protocol], evaluation.batch_size, settings.machine.workers, label
        )
        parts.append(found[protocol.name].drop(columns="prediction").assign(given=other["sent_id"]))
    return pd.concat(parts) if parts else pd.DataFrame(columns=CONTROL_COLUMNS)


def _shared_work(model: AlignFormer) -> str:
    """Which vision levels run once for all expressions of an image, and why the others do not."""
    once, levels = model.levels_without_words, len(model.vision.dims)
    why = f"; the others compute with the words (VLBA: {model.config.vlba})" if once < levels else ""
    return f"{once} of {levels} vision levels run once per image, not once per expression{why}"


def write(run: Run, scores: dict[str, pd.DataFrame], controls: pd.DataFrame, on: str | None = None) -> None:
    """Write scores, controls and metrics, log the metrics to MLflow, and print them.

    Everything but `layout.protocols` is of the first protocol alone.

    Args:
        controls: the scores with expressions of other images.
        on: the further dataset that they are of; None: the run's own evaluation splits.
    """
    metrics = {name: summarise_splits(found, PROTOCOLS[name]) for name, found in scores.items()}
    own = next(iter(scores))
    for path, table in ((layout.scores(*run, on), scores[own]), (layout.controls(*run, on), controls)):
        with atomic_write(path) as partial:
            table.to_parquet(partial, index=False)
    with atomic_write(layout.metrics(*run, on)) as path:
        path.write_text(json.dumps({"protocol": own, **metrics[own]}, indent=2) + "\n")
    with atomic_write(layout.protocols(*run, on)) as path:
        under_each(metrics).to_csv(path, index=False, lineterminator="\n")
    live.log_evaluation(*run, metrics=metrics[own], files=[layout.metrics(*run, on)], on=on)
    for name, of_splits in metrics.items():
        print(f"protocol {name}")
        for split, values in of_splits.items():
            print(f"{split}: mIoU {values['mIoU']:.4f}, oIoU {values['oIoU']:.4f}, {values['expressions']} expressions")
    for split, rows in controls.groupby("split", sort=False):
        print(f"{split}, given expressions of other images: mIoU {rows['iou'].mean():.4f}")


def under_each(metrics: dict[str, dict[str, dict[str, float]]]) -> pd.DataFrame:
    """Metrics by protocol and split as rows: protocol, split, metric, value (a fraction)."""
    rows = [
        (name, split, metric, values[metric])
        for name, of_splits in metrics.items()
        for split, values in of_splits.items()
        for metric in METRICS
    ]
    return pd.DataFrame(rows, columns=["protocol", "split", "metric", "value"])


def remove_checkpoints(folder: Path) -> None:
    """Remove the checkpoints of the training, which DVC has recorded by now.

    A training of this run that is under way again keeps its checkpoints.
    """
    with suppress(RunTakenError), only_trainer(folder):
        shutil.rmtree(folder, ignore_errors=True)
