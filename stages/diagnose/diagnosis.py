"""The diagnosis of a trained model: alignment, calibration, a few samples from close up, cost.

It is written to `results/diagnosis/D/V/S`:

- `alignment.parquet`, one row for each expression of every evaluation split: sent_id, image_id, split, then the columns
  of `alignment.measured`, each among all cells of the decoder's grid, in the ring along the border (`_ring`) and
  against distractors of the same category (`_distractors`).
- `calibration.csv` and `thresholds.csv`, on the protocol's grid, one row for each split and bin of probability, or
  threshold.
- `samples.csv`, `embedding.parquet`, `attention.parquet`: a few samples of val, the same for all variants and seeds.
- `summary.json`: means by split, the best threshold on val, parameters and FLOPs by part, and by split how many
  expressions are cut and how many masks vanish.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from models import costs
from models.alignformer import AlignFormer
from models.processing import AlignFormerProcessor
from stages.attention.shares import attention_table, look_inside
from stages.data import prepared, samples
from stages.data.prepared import PreparedDataset
from stages.data.samples import Expressions
from stages.diagnose import alignment, closeup
from stages.diagnose.calibration import Calibration, best_threshold
from stages.diagnose.predictions import predictions
from stages.diagnose.regions import regions_by_row, ring_width
from stages.runtime import layout, processes
from stages.runtime.atomic_write import atomic_write
from stages.runtime.params import Params
from stages.runtime.run import Run
from stages.scoring import trained
from stages.scoring.protocols import PROTOCOLS, Protocol
from stages.scoring.score import frame


def diagnose(run: Run, settings: Params) -> None:
    """Look at a trained model under the protocol of `params.yaml`.

    Raises:
        UserError: of many kinds; the message says what to do.
    """
    process = processes.here()
    if process.num_processes > 1:
        raise processes.NotOneRunError("a diagnosis is one process: start it without a launcher, as python -m")
    torch.set_num_threads(settings.evaluation.threads)
    dataset = prepared.read(layout.prepared(run.dataset))
    model, processor = trained.load(layout.model(*run))
    subject = Subject(dataset, model.to(process.device), processor, PROTOCOLS[settings.evaluation.protocol])
    with atomic_write(layout.diagnosis(*run)) as folder:
        folder.mkdir()
        write_samples(folder, subject)
        summary = {
            **write_splits(folder, subject, settings.evaluation.batch_size, settings.machine.workers),
            **cost(subject),
            **lost(subject),
        }
        (folder / "summary.json").write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n")
    print(*told(summary), sep="\n")


def told(summary: dict) -> list[str]:
    """Alignment and calibration of each split, a line each."""
    lines = []
    for split, means in summary["alignment"].items():
        shown = [f"{name} {means[name]:.4f}" for name in ("ap", "logit_ap", "base") if means[name] is not None]
        aligned = ", ".join(shown) or "no ap, as no true mask has pixels both inside and outside"
        lines.append(f"{split}: {aligned}, calibration error {summary['calibration'][split]['expected_error']:.4f}")
    return lines


@dataclass(frozen=True)
class Subject:
    """The model that is diagnosed, and what it is diagnosed with."""

    dataset: PreparedDataset
    model: AlignFormer
    processor: AlignFormerProcessor
    protocol: Protocol

    def expressions(self, rows: pd.DataFrame) -> Expressions:
        return Expressions(self.dataset, rows, self.processor, frame(self.protocol))


def write_splits(folder: Path, subject: Subject, batch_size: int, workers: int) -> dict:
    """Alignment, calibration and thresholds of every evaluation split; returns their part of the summary."""
    aligned, calibrations, grid = [], {}, None
    for split in subject.dataset.evaluation_splits:
        expressions = subject.expressions(subject.dataset.split(split))
        regions = regions_by_row(subject.dataset, expressions)
        calibration = calibrations[split] = Calibration(subject.protocol, expressions.frame)
        measured = {}
        for found in predictions(subject.model, expressions, batch_size, workers, split):
            grid = found.similarity.shape
            measured[found.row] = alignment.measured(found, regions(found.row, grid))
            calibration.add(found.row, found.logits, expressions.true_mask(found.row))
        values = pd.DataFrame([measured[row] for row in range(len(expressions))], columns=alignment.COLUMNS)
        aligned.append(pd.concat([expressions.rows[["sent_id", "image_id", "split"]], values], axis=1))
    table = pd.concat(aligned, ignore_index=True)
    table.to_parquet(folder / "alignment.parquet", index=False)
    write_by_split(folder / "calibration.csv", {split: found.bins() for split, found in calibrations.items()})
    curves = {split: found.curve() for split, found in calibrations.items()}
    write_by_split(folder / "thresholds.csv", curves)

    best = best_threshold([calibrations[split] for split in subject.dataset.validation["split"].unique()])
    return {
        "protocol": subject.protocol.name,
        "grid": list(grid),
        "ring_width": ring_width(grid),
        "threshold": subject.protocol.threshold,
        "best_threshold": best,
        "alignment": {split: alignment.summarise(rows) for split, rows in table.groupby("split", sort=False)},
        "calibration": {
            split: {
                "pixels": int(found.pixels.sum()),
                "brier": found.brier,
                "expected_error": found.expected_error,
                "mIoU": at(curves[split], subject.protocol.threshold),
                "mIoU_best_threshold": at(curves[split], best),
            }
            for split, found in calibrations.items()
        },
    }


def lost(subject: Subject) -> dict[str, dict[str, int]]:
    """What the model did not get to see of each split: of `train` in its own frame, of the others in the protocol's."""
    dataset = subject.dataset
    train = Expressions(dataset, dataset.split("train"), subject.processor)
    evaluated = {split: subject.expressions(dataset.split(split)) for split in dataset.evaluation_splits}
    return samples.lost({"train": train, **evaluated})


def at(curve: pd.DataFrame, threshold: float) -> float:
    """mIoU at one of the thresholds of a curve."""
    return float(curve.set_index("threshold")["mIoU"].loc[threshold])


def write_by_split(path: Path, tables: dict[str, pd.DataFrame]) -> None:
    """Tables of the same columns as one CSV, whose first column is the split."""
    tables = [table.assign(split=split)[["split", *table.columns]] for split, table in tables.items()]
    pd.concat(tables).to_csv(path, index=False, lineterminator="\n")


def write_samples(folder: Path, subject: Subject) -> None:
    """A few samples from close up: which ones, the maps of their embeddings, VLBA's attention."""
    rows = closeup.choose(subject.dataset.validation)
    expressions = subject.expressions(rows)
    regions = regions_by_row(subject.dataset, expressions)
    batch = expressions[list(range(len(rows)))]
    found = look_inside(subject.model, batch.inputs(subject.model.device))
    samples, embeddings, attention = [], [], []
    for place, row in enumerate(rows.itertuples()):
        ids = batch.input_ids[batch.text_index[place]][batch.attention_mask[batch.text_index[place]].bool()]
        words = subject.processor.tokenizer.convert_ids_to_tokens(ids.tolist())
        similarity = found.similarity[place]
        where = regions(place, similarity.shape)
        table, (x, y) = closeup.embedding_map(found.pixels[place], found.center[place], similarity, where)
        embeddings.append(with_sent_id(table, row.sent_id))
        attention.append(with_sent_id(attention_table(found, place, words), row.sent_id))
        samples.append((row.sent_id, row.image_id, row.ann_id, row.text, " ".join(words), x, y))
    columns = ["sent_id", "image_id", "ann_id", "text", "words", "variance_x", "variance_y"]
    pd.DataFrame(samples, columns=columns).to_csv(folder / "samples.csv", index=False, lineterminator="\n")
    pd.concat(embeddings).to_parquet(folder / "embedding.parquet", index=False)
    pd.concat(attention).to_parquet(folder / "attention.parquet", index=False)


def with_sent_id(table: pd.DataFrame, sent_id: int) -> pd.DataFrame:
    return table.assign(sent_id=sent_id)[["sent_id", *table.columns]]


def cost(subject: Subject) -> dict:
    """Parameters and FLOPs, in all and by part, for one image and an expression of as many words as the model reads."""
    words = subject.processor.tokenizer.model_max_length
    expressions = subject.expressions(subject.dataset.validation.head(1))
    parts = costs.by_part(subject.model, expressions.one_sample(words, subject.model.device))
    return {
        "image_size": expressions.frame.size,
        "words": words,
        "parameters": sum(part.parameters for part in parts),
        "flops": sum(part.flops for part in parts),
        "parts": {part.name: {"parameters": part.parameters, "flops": part.flops} for part in parts},
    }
