"""The losses of the steps, added up without making a GPU wait for each."""

from typing import NamedTuple

import torch

from models.alignformer import AlignFormerOutput
from stages.data.samples import Batch
from stages.runtime.errors import UserError
from stages.train.state import State

PATIENCE = 50  # steps whose losses may be unknown on a GPU


class NonFiniteLossError(UserError):
    """The loss became infinite or not a number; the message names the step, the samples and the learning rate."""


class Step(NamedTuple):
    """A step whose losses are still on the device: (3,) losses, and what an error would name."""

    losses: torch.Tensor
    samples: int
    number: int
    learning_rate: float
    sent_ids: torch.Tensor


class LossMeter:
    """Adds the losses of every step to the totals of the state, in float64, step by step.

    On a CPU each step's losses are known before the weights change. On a GPU they are fetched `PATIENCE` steps at once,
    since every fetch waits until the GPU has caught up.
    """

    def __init__(self, state: State, device: torch.device):
        self.state = state
        self.patience = 1 if device.type == "cpu" else PATIENCE
        self.waiting: list[Step] = []

    @property
    def known(self) -> bool:
        """Whether the losses of every step so far are in the totals, and finite."""
        return not self.waiting

    def add(self, output: AlignFormerOutput, batch: Batch) -> None:
        """Note the losses of the step under way. Raises NonFiniteLossError, for this step or one before."""
        losses = torch.stack([output.loss, output.mask_loss, output.contrastive_loss]).detach()
        scheduler = self.state.scheduler
        rate = scheduler.get_last_lr()[0]
        self.waiting.append(Step(losses, batch.total, scheduler.last_epoch, rate, batch.sent_ids))
        if len(self.waiting) >= self.patience:
            self.fetch()

    def fetch(self) -> None:
        """Wait for the losses that are not known yet. Raises NonFiniteLossError, for the first of them."""
        if self.known:
            return
        fetched = torch.stack([step.losses for step in self.waiting]).cpu().double()  # (steps, 3)
        for losses, step in zip(fetched, self.waiting, strict=True):
            if not losses.isfinite().all():
                raise NonFiniteLossError(
                    f"loss, mask loss and contrastive loss are {losses.tolist()} at step {step.number}, "
                    f"learning rate {step.learning_rate:.3g}, sent_ids {step.sent_ids.tolist()}: "
                    "lower training.learning_rate of the recipe, or look at these samples"
                )
            self.state.totals += losses * step.samples
        self.waiting.clear()
