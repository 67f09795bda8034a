"""Model + evaluation splits -> the score of every expression, metrics by split, and the model's card."""

import json
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import pandas as pd
import torch

from models.alignformer import AlignFormer
from models.processing import AlignFormerProcessor
from stages import tracking
from stages.card.card import card
from stages.data import prepared
from stages.data.prepared import PreparedDataset
from stages.data.samples import Expressions, ImageError
from stages.runtime import layout, processes, run
from stages.runtime.atomic_write import atomic_write
from stages.runtime.params import Evaluation, Params
from stages.runtime.run_lock import RunTakenError, only_trainer
from stages.scoring import trained
from stages.scoring.metrics import summarise_splits
from stages.scoring.protocols import PROTOCOLS, Protocol
from stages.scoring.score import frame, score


def main() -> None:
    cell, settings = run.from_command_line("evaluate", __doc__)
    try:
        evaluate(cell, settings)
    except (
        FileNotFoundError,
        prepared.MissingSplitError,
        processes.NotOneRunError,
        processes.OtherEndedError,
        ImageError,
        trained.OtherModelError,
    ) as error:
        sys.exit(f"error: {error}")


def evaluate(cell: run.Run, settings: Params) -> None:
    """Score every expression of every split but train, under the protocol of `params.yaml`, and write the card."""
    protocol = PROTOCOLS[settings.evaluation.protocol]
    with processes.group() as process:
        torch.set_num_threads(settings.evaluation.threads)
        dataset = prepared.read(layout.prepared(cell.dataset))
        model, processor = trained.load(layout.model(*cell))
        scores = scored(dataset, model.to(process.device), processor, settings.evaluation)
        if process.is_main_process:
            write(cell, scores, protocol, card(cell, settings, dataset, model, processor, scores, protocol))
            remove_checkpoints(layout.checkpoints(*cell))


def scored(
    dataset: PreparedDataset, model: AlignFormer, processor: AlignFormerProcessor, evaluation: Evaluation
) -> pd.DataFrame:
    protocol = PROTOCOLS[evaluation.protocol]
    processes.here().print(_shared_work(model))

    def of(split: str) -> pd.DataFrame:
        expressions = Expressions(dataset, dataset.split(split), processor, frame(protocol))
        return score(model, expressions, protocol, evaluation.batch_size, evaluation.workers, progress=split)

    return pd.concat(map(of, dataset.evaluation_splits))


def _shared_work(model: AlignFormer) -> str:
    """What runs once for all expressions of an image, and why not more."""
    once, stages = model.levels_without_words, len(model.vision.dims)
    why = f"; pixels of the others have read the words (VLBA: {model.config.vlba})" if once < stages else ""
    return f"{once} of {stages} vision levels run once per image, not once per expression{why}"


def write(cell: run.Run, scores: pd.DataFrame, protocol: Protocol, card: str) -> None:
    metrics = summarise_splits(scores, protocol)
    with atomic_write(layout.scores(*cell)) as path:
        scores.to_parquet(path, index=False)
    with atomic_write(layout.metrics(*cell)) as path:
        path.write_text(json.dumps({"protocol": protocol.name, **metrics}, indent=2) + "\n")
    with atomic_write(layout.card(*cell)) as path:
        path.write_text(card, encoding="utf-8")
    tracking.log_evaluation(*cell, metrics=metrics, files=[layout.metrics(*cell)], card=layout.card(*cell))
    print(f"protocol {protocol.name}")
    for split, values in metrics.items():
        print(f"{split}: mIoU {values['mIoU']:.4f}, oIoU {values['oIoU']:.4f}, {values['expressions']} expressions")


def remove_checkpoints(folder: Path) -> None:
    """The training is recorded, or DVC would not evaluate its model; one that is under way anew keeps its own."""
    with suppress(RunTakenError), only_trainer(folder):
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
