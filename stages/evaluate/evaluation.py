"""One evaluation, from a trained model to its scores and metrics, under one protocol or several."""

import json
import shutil
from contextlib import suppress
from pathlib import Path

import pandas as pd
import torch

from models.alignformer import AlignFormer
from models.processing import AlignFormerProcessor
from stages.data import prepared
from stages.data.prepared import PreparedDataset
from stages.data.samples import Expressions
from stages.evaluate import shared_passes
from stages.runtime import layout, processes
from stages.runtime.atomic_write import atomic_write
from stages.runtime.params import Params
from stages.runtime.run import Run
from stages.runtime.run_lock import RunTakenError, only_trainer
from stages.scoring import trained
from stages.scoring.metrics import METRICS, summarise_splits
from stages.scoring.protocols import PROTOCOLS
from stages.tracking import live


def evaluate(run: Run, settings: Params) -> None:
    """Score every expression of every split but train, under the protocol of `params.yaml` and those named beside it.

    Raises:
        FileNotFoundError: the prepared dataset or the model is missing.
        OtherModelError: the model folder holds the weights of another model.
        ImageError: an image cannot be read.
        NotOneRunError, OtherEndedError: several processes do not form one group, or one of them ended early.
    """
    with processes.group() as process:
        torch.set_num_threads(settings.evaluation.threads)
        dataset = prepared.read(layout.prepared(run.dataset))
        model, processor = trained.load(layout.model(*run))
        scores = scored(dataset, model.to(process.device), processor, settings)
        if process.is_main_process:
            write(run, scores)
            remove_checkpoints(layout.checkpoints(*run))


def scored(
    dataset: PreparedDataset, model: AlignFormer, processor: AlignFormerProcessor, settings: Params
) -> dict[str, pd.DataFrame]:
    """Name of a protocol -> the scores of all evaluation splits under it; `evaluation.protocol` comes first."""
    evaluation, protocols = settings.evaluation, [PROTOCOLS[name] for name in settings.evaluation.protocols]
    inputs = shared_passes.by_input(protocols, processor)
    processes.here().print(_shared_work(model))
    parts: dict[str, list[pd.DataFrame]] = {protocol.name: [] for protocol in protocols}
    for split in dataset.evaluation_splits:
        for frame, sharing in inputs.items():
            expressions = Expressions(dataset, dataset.split(split), processor, frame)
            label = split if len(inputs) == 1 else f"{split}, {', '.join(protocol.name for protocol in sharing)}"
            found = shared_passes.scores(
                model, expressions, sharing, evaluation.batch_size, settings.machine.workers, label
            )
            for name, scores in found.items():
                parts[name].append(scores)
    return {name: pd.concat(of_splits) for name, of_splits in parts.items()}


def _shared_work(model: AlignFormer) -> str:
    """Which vision levels run once for all expressions of an image, and why the others do not."""
    once, levels = model.levels_without_words, len(model.vision.dims)
    why = f"; the others compute with the words (VLBA: {model.config.vlba})" if once < levels else ""
    return f"{once} of {levels} vision levels run once per image, not once per expression{why}"


def write(run: Run, scores: dict[str, pd.DataFrame]) -> None:
    """Write scores and metrics, log them to MLflow, and print the metrics.

    Everything but `layout.protocols` is of the first protocol alone.
    """
    metrics = {name: summarise_splits(found, PROTOCOLS[name]) for name, found in scores.items()}
    own = next(iter(scores))
    with atomic_write(layout.scores(*run)) as path:
        scores[own].to_parquet(path, index=False)
    with atomic_write(layout.metrics(*run)) as path:
        path.write_text(json.dumps({"protocol": own, **metrics[own]}, indent=2) + "\n")
    with atomic_write(layout.protocols(*run)) as path:
        under_each(metrics).to_csv(path, index=False, lineterminator="\n")
    live.log_evaluation(*run, metrics=metrics[own], files=[layout.metrics(*run)])
    for name, of_splits in metrics.items():
        print(f"protocol {name}")
        for split, values in of_splits.items():
            print(f"{split}: mIoU {values['mIoU']:.4f}, oIoU {values['oIoU']:.4f}, {values['expressions']} expressions")


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
