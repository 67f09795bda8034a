"""Sums of the losses over an epoch, without synchronising with the GPU after every step."""

from typing import NamedTuple

import torch

from models.alignformer import AlignFormerOutput
from stages.data.samples import Batch
from stages.runtime.errors import UserError
from stages.train.state import State

PATIENCE = 50  # steps whose losses may wait on a GPU


class NonFiniteLossError(UserError):
    """A loss is infinite or not a number; the message names the step, the samples and the learning rate."""


class Step(NamedTuple):
    """A step whose (3,) losses are still on the device, with what an error message names."""

    losses: torch.Tensor
    samples: int
    number: int
    learning_rate: float
    sent_ids: torch.Tensor


class LossMeter:
    """Adds the losses of every step to `state.totals`, in float64, in the order of the steps.

    On a CPU a step's losses are known before the weights change. On a GPU the losses of `PATIENCE` steps are fetched
    together, since a fetch waits until the GPU has finished all its work.
    """

    def __init__(self, state: State, device: torch.device):
        self.state = state
        self.patience = 1 if device.type == "cpu" else PATIENCE
        self.waiting: list[Step] = []

    @property
    def known(self) -> bool:
        """Whether the totals include every step so far, all with finite losses."""
        return not self.waiting

    def add(self, output: AlignFormerOutput, batch: Batch) -> None:
        """Add the losses of the current step.

        Raises:
            NonFiniteLossError: a loss of this step, or of an earlier one that was not fetched yet, is not finite.
        """
        losses = torch.stack([output.loss, output.mask_loss, output.contrastive_loss]).detach()
        scheduler = self.state.scheduler
        rate = scheduler.get_last_lr()[0]
        self.waiting.append(Step(losses, batch.total, scheduler.last_epoch, rate, batch.sent_ids))
        if len(self.waiting) >= self.patience:
            self.fetch()

    def fetch(self) -> None:
        """Wait for all losses on the device and add them to the totals.

        Raises:
            NonFiniteLossError: a loss is not finite; the message names the first such step.
        """
        if self.known:
            return
        fetched = torch.stack([step.losses for step in self.waiting]).cpu().double()  # (steps, 3)
        for losses, step in zip(fetched, self.waiting, strict=True):
            if not losses.isfinite().all():
                raise NonFiniteLossError(
                    f"loss, mask loss and contrastive loss are {losses.tolist()} at step {step.number}, "
                    f"learning rate {step.learning_rate:.3g}, sent_ids {step.sent_ids.tolist()}: "
                    "lower training.learning_rate of the recipe, or check these samples"
                )
            self.state.totals += losses * step.samples
        self.waiting.clear()
