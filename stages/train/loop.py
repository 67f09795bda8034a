"""The training loop: epochs over one random expression a ref, validated on every expression of val."""

import copy
import math
from collections.abc import Callable

import torch
from tqdm import tqdm

from models.alignformer import AlignFormer
from stages import processes
from stages.evaluate.metrics import METRICS, summarise
from stages.evaluate.protocols import Protocol
from stages.evaluate.score import score
from stages.params import Training
from stages.samples import Batch, Expressions, OneExpressionPerRef
from stages.train.batch_norm import over_all_processes
from stages.train.optimisation import optimiser, schedule


class NonFiniteLossError(RuntimeError):
    """The loss became infinite or not a number; the message names the step, the samples and the learning rate."""


def fit(
    model: AlignFormer,
    train: Expressions,
    val: Expressions,
    training: Training,
    protocol: Protocol,
    seed: int,
    log: Callable[[dict[str, float], int], None] | None,
) -> tuple[AlignFormer, list[dict[str, float]]]:
    """Train, validating after each epoch. Several processes share every batch and return the same.

    Args:
        log: is told the row of history of each finished epoch, and its number; called by the main process.

    Returns:
        The model with the weights of the best epoch by `training.select_by` on val, and the history, a row an epoch.

    Raises:
        NonFiniteLossError, PictureError: see there.
    """
    accelerator = processes.accelerator(training.precision)
    sampler = OneExpressionPerRef(train.rows, seed)
    batches = train.loader(training.batch_size, sampler, training.workers, processes.share())
    optimizer = optimiser(model, training)
    scheduler = schedule(optimizer, training, training.epochs * len(batches))
    if accelerator.num_processes > 1:
        over_all_processes(model)
    prepared_model, optimizer = accelerator.prepare(model, optimizer)

    history, best, best_weights = [], -math.inf, None
    for epoch in range(1, training.epochs + 1):
        sampler.epoch = epoch
        model.train()
        totals = torch.zeros(3, dtype=torch.float64)
        quiet = not accelerator.is_main_process
        bar = tqdm(batches, desc=f"epoch {epoch}/{training.epochs}", disable=quiet or None, leave=False)
        for batch in bar:
            output = prepared_model(**batch.inputs(accelerator.device))
            losses = torch.stack([output.loss, output.mask_loss, output.contrastive_loss]).detach().double().cpu()
            _check_finite(losses, batch, scheduler)
            accelerator.backward(output.loss)
            accelerator.clip_grad_norm_(model.parameters(), training.clip_norm)
            optimizer.step()
            learning_rate = scheduler.get_last_lr()[0]
            scheduler.step()
            optimizer.zero_grad()
            totals += losses * batch.total
        means = (totals / len(sampler)).tolist()
        metrics = summarise(score(model, val, protocol, training.batch_size * 2, training.workers), protocol)
        row = {
            "epoch": epoch,
            "learning_rate": learning_rate,  # of the epoch's last step
            **dict(zip(("loss", "mask_loss", "contrastive_loss"), means, strict=True)),
            **{f"val_{name}": metrics[name] for name in METRICS},
        }
        history.append(row)
        if accelerator.is_main_process:
            log({name: value for name, value in row.items() if name != "epoch"}, epoch)
            print(
                f"epoch {epoch}/{training.epochs}: loss {row['loss']:.4f}, "
                f"val mIoU {row['val_mIoU']:.4f}, oIoU {row['val_oIoU']:.4f}",
                flush=True,
            )
        if metrics[training.select_by] > best:
            best, best_weights = metrics[training.select_by], copy.deepcopy(model.state_dict())
    model.load_state_dict(best_weights)
    return model, history


def _check_finite(losses: torch.Tensor, batch: Batch, scheduler) -> None:
    if losses.isfinite().all():
        return
    raise NonFiniteLossError(
        f"loss, mask loss and contrastive loss are {losses.tolist()} at step {scheduler.last_epoch}, "
        f"learning rate {scheduler.get_last_lr()[0]:.3g}, sent_ids {batch.sent_ids.tolist()}: "
        "lower training.learning_rate of the recipe, or look at these samples"
    )
