"""One evaluation, from a trained model to its scores and metrics."""

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
from stages.runtime import layout, processes
from stages.runtime.atomic_write import atomic_write
from stages.runtime.params import Params
from stages.runtime.run import Run
from stages.runtime.run_lock import RunTakenError, only_trainer
from stages.scoring import trained
from stages.scoring.metrics import summarise_splits
from stages.scoring.protocols import PROTOCOLS, Protocol
from stages.scoring.score import frame, score
from stages.tracking import live


def evaluate(run: Run, settings: Params) -> None:
    """Score every expression of every split but train, under the protocol of `params.yaml`.

    Raises:
        FileNotFoundError: the prepared dataset or the model is missing.
        OtherModelError: the model folder holds the weights of another model.
        ImageError: an image cannot be read.
        NotOneRunError, OtherEndedError: several processes do not form one group, or one of them ended early.
    """
    protocol = PROTOCOLS[settings.evaluation.protocol]
    with processes.group() as process:
        torch.set_num_threads(settings.evaluation.threads)
        dataset = prepared.read(layout.prepared(run.dataset))
        model, processor = trained.load(layout.model(*run))
        scores = scored(dataset, model.to(process.device), processor, settings)
        if process.is_main_process:
            write(run, scores, protocol)
            remove_checkpoints(layout.checkpoints(*run))


def scored(
    dataset: PreparedDataset, model: AlignFormer, processor: AlignFormerProcessor, settings: Params
) -> pd.DataFrame:
    """The scores of all evaluation splits."""
    evaluation, protocol = settings.evaluation, PROTOCOLS[settings.evaluation.protocol]
    processes.here().print(_shared_work(model))

    def of(split: str) -> pd.DataFrame:
        expressions = Expressions(dataset, dataset.split(split), processor, frame(protocol))
        return score(model, expressions, protocol, evaluation.batch_size, settings.machine.workers, progress=split)

    return pd.concat(map(of, dataset.evaluation_splits))


def _shared_work(model: AlignFormer) -> str:
    """Which vision levels run once for all expressions of an image, and why the others do not."""
    once, levels = model.levels_without_words, len(model.vision.dims)
    why = f"; the others compute with the words (VLBA: {model.config.vlba})" if once < levels else ""
    return f"{once} of {levels} vision levels run once per image, not once per expression{why}"


def write(run: Run, scores: pd.DataFrame, protocol: Protocol) -> None:
    """Write scores and metrics, log them to MLflow, and print the metrics."""
    metrics = summarise_splits(scores, protocol)
    with atomic_write(layout.scores(*run)) as path:
        scores.to_parquet(path, index=False)
    with atomic_write(layout.metrics(*run)) as path:
        path.write_text(json.dumps({"protocol": protocol.name, **metrics}, indent=2) + "\n")
    live.log_evaluation(*run, metrics=metrics, files=[layout.metrics(*run)])
    print(f"protocol {protocol.name}")
    for split, values in metrics.items():
        print(f"{split}: mIoU {values['mIoU']:.4f}, oIoU {values['oIoU']:.4f}, {values['expressions']} expressions")


def remove_checkpoints(folder: Path) -> None:
    """Remove the checkpoints of the training, which DVC has recorded by now.

    A training of this run that is under way again keeps its checkpoints.
    """
    with suppress(RunTakenError), only_trainer(folder):
        shutil.rmtree(folder, ignore_errors=True)
