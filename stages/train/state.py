"""The complete state of a training: a training resumed from it computes the same as one without a break."""

import math
import random
from dataclasses import dataclass, field

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import nn
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from models.losses import Memory
from stages.runtime.processes import here

PARTS = ("model", "optimizer", "scheduler", "scaler", "average", "memory")
PROGRESS = ("epoch", "step", "totals", "learning_rate", "history", "best", "best_weights")


@dataclass
class State:
    """What changes while a model is trained.

    Attributes:
        scaler: of the gradients in fp16; None in other precisions.
        average: the moving average of the weights; None where the weights themselves are validated and kept.
        memory: the negatives from earlier batches; None for variants without them.
        epoch: the current epoch, from 1.
        step: how many steps of the current epoch are done.
        totals: (3,) float64, sums over the epoch's samples so far: loss, mask loss, contrastive loss.
        learning_rate: of the last step.
        history: one row per finished epoch.
        best, best_weights: the best metric so far, and the kept weights of that epoch, on the CPU.
    """

    model: nn.Module
    optimizer: Optimizer
    scheduler: LRScheduler
    scaler: GradScaler | None = None
    average: AveragedModel | None = None
    memory: Memory | None = None
    epoch: int = 1
    step: int = 0
    totals: torch.Tensor = field(default_factory=lambda: torch.zeros(3, dtype=torch.float64))
    learning_rate: float = math.nan
    history: list[dict[str, float]] = field(default_factory=list)
    best: float = -math.inf
    best_weights: dict[str, torch.Tensor] | None = None

    @property
    def kept(self) -> nn.Module:
        """The model that is validated and kept."""
        return self.average.module if self.average else self.model

    def end_epoch(self, row: dict[str, float], metric: float) -> None:
        """Finish an epoch after its validation; keep its weights if its metric is above that of all earlier epochs."""
        self.history.append(row)
        if metric > self.best:
            self.best = metric
            self.best_weights = {name: value.to("cpu", copy=True) for name, value in self.kept.state_dict().items()}
        self.epoch, self.step, self.totals = self.epoch + 1, 0, torch.zeros_like(self.totals)

    def content(self) -> dict:
        """The state as tensors, numbers and strings only, so that loading it runs no code. Every process calls this."""
        parts = {name: getattr(self, name) for name in PARTS}
        return {
            "parts": {name: part.state_dict() for name, part in parts.items() if part is not None},
            "progress": {name: getattr(self, name) for name in PROGRESS},
            "random": gather_object([random_state()]),
        }

    def restore(self, content: dict) -> None:
        """Restore what `content` returned. Optimizer and best weights may keep the tensors in it without a copy."""
        for name, state in content["parts"].items():
            getattr(self, name).load_state_dict(state)
        for name in PROGRESS:
            setattr(self, name, content["progress"][name])
        set_random_state(content["random"][here().process_index])


def random_state() -> dict:
    """The state of every random number generator of this process."""
    _, keys, position, has_gauss, gauss = np.random.get_state()
    states = {
        "python": random.getstate(),
        "numpy": (torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
    }
    if (device := here().device).type != "cpu":
        states["device"] = torch.get_device_module(device).get_rng_state()
    return states


def set_random_state(states: dict) -> None:
    """Restore what `random_state` returned."""
    keys, *rest = states["numpy"]
    random.setstate(states["python"])
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if "device" in states:
        torch.get_device_module(here().device).set_rng_state(states["device"])
