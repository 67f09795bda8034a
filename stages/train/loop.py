"""The training loop: epochs over one random expression per ref, validated on every expression of val."""

from collections.abc import Callable

import torch

from models.alignformer import AlignFormer
from models.parallel import convert_batch_norm, set_part
from stages.data.samplers import OneExpressionPerRef
from stages.data.samples import Expressions
from stages.runtime import processes, progress
from stages.runtime.params import Training
from stages.scoring.metrics import METRICS, summarise
from stages.scoring.protocols import Protocol
from stages.scoring.score import score
from stages.setup.optimizer import build_optimizer, moving_average, schedule
from stages.train.checkpoints import Checkpoints
from stages.train.loss_meter import LossMeter
from stages.train.state import State


def fit(
    model: AlignFormer,
    train: Expressions,
    val: Expressions,
    training: Training,
    protocol: Protocol,
    seed: int,
    log: Callable[[dict[str, float], int], None] | None,
    checkpoints: Checkpoints | None = None,
    workers: int = 0,
) -> tuple[AlignFormer, list[dict[str, float]]]:
    """Train, and validate after each epoch. Several processes share every batch and return the same result.

    Args:
        log: receives the history row and the number of each finished epoch. Only the main process calls it. A resumed
            training first passes the rows of its earlier epochs again.
        checkpoints: training resumes from these and gives the same result as without a break. None: start from the
            beginning and write no checkpoint.
        workers: processes that load images; 0: this process does. Changes no result.

    Returns:
        The model with the kept weights (`training.averaging`) of the best epoch by `training.select_by` on val, and the
        history, one row per epoch.

    Raises:
        NonFiniteLossError: the loss of a step is infinite or not a number.
        ImageError: an image cannot be read.
        CheckpointError: a checkpoint cannot be written.
    """
    accelerator = processes.accelerator(training.precision)
    if training.channels_last:
        model.to(memory_format=torch.channels_last)
    sampler = OneExpressionPerRef(train.rows, seed, training.by_image, training.mirror)
    batches = train.loader(training.batch_size, sampler, workers, processes.share())
    optimizer = build_optimizer(model, training)
    scheduler = schedule(optimizer, training, training.epochs * len(batches))
    if accelerator.num_processes > 1:
        convert_batch_norm(model)
    prepared_model, optimizer = accelerator.prepare(model, optimizer)
    if training.compile:
        prepared_model = torch.compile(prepared_model)

    def log_row(row: dict[str, float]) -> None:
        if accelerator.is_main_process:
            log({name: value for name, value in row.items() if name != "epoch"}, row["epoch"])

    average = moving_average(model, training.averaging) if training.averaging else None
    state = State(model, optimizer, scheduler, accelerator.scaler, average, model.losses.memory)
    if checkpoints and (file := checkpoints.resume(state)):
        accelerator.print(f"resuming at {_place(state, training.epochs, len(batches))}, from {file}", flush=True)
    for row in state.history:
        log_row(row)
    losses = LossMeter(state, accelerator.device)
    while state.epoch <= training.epochs:
        sampler.epoch, sampler.done = state.epoch, state.step * training.batch_size
        model.train()
        steps = progress.bar(
            batches,
            f"epoch {state.epoch}/{training.epochs}",
            len(batches),
            done=state.step,
            part=(state.epoch - 1, training.epochs),
            hidden=not accelerator.is_main_process,
        )
        for batch in steps:
            set_part(model, batch.part)
            output = prepared_model(**batch.inputs(accelerator.device))
            losses.add(output, batch)
            accelerator.backward(output.loss)
            accelerator.clip_grad_norm_(model.parameters(), training.clip_norm)
            optimizer.step()
            state.learning_rate = scheduler.get_last_lr()[0]
            scheduler.step()
            optimizer.zero_grad()
            if average:
                average.update_parameters(model)
            state.step += 1
            if checkpoints and losses.known and checkpoints.due():
                checkpoints.save(state)
        losses.fetch()
        metrics = summarise(score(state.kept, val, protocol, training.batch_size * 2, workers), protocol)
        row = _row(state, len(sampler), metrics)
        accelerator.print(
            f"epoch {state.epoch}/{training.epochs}: loss {row['loss']:.4f}, "
            f"val mIoU {row['val_mIoU']:.4f}, oIoU {row['val_oIoU']:.4f}",
            flush=True,
        )
        log_row(row)
        state.end_epoch(row, metrics[training.select_by])
        if checkpoints:
            checkpoints.save(state)
    model.load_state_dict(state.best_weights)
    return model, state.history


def _row(state: State, samples: int, metrics: dict[str, float]) -> dict[str, float]:
    """The history row of the current epoch: mean losses, learning rate of the last step, metrics on val."""
    means = (state.totals / samples).tolist()
    return {
        "epoch": state.epoch,
        "learning_rate": state.learning_rate,
        **dict(zip(("loss", "mask_loss", "contrastive_loss"), means, strict=True)),
        **{f"val_{name}": metrics[name] for name in METRICS},
    }


def _place(state: State, epochs: int, steps: int) -> str:
    return "the end" if state.epoch > epochs else f"epoch {state.epoch}, step {state.step} of {steps}"
