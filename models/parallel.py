"""Several processes that share every batch: what they compute together is what one process computes.

Processes may have different numbers of samples. Every function here is differentiable, and its gradient, in the mean
over processes as distributed data parallel training takes it, is that of one process with the whole batch.
"""

from typing import NamedTuple

import torch
from torch import nn
from torch.distributed import group
from torch.distributed._functional_collectives import all_reduce


class BatchPart(NamedTuple):
    """Where the samples of this process lie in the batch of all processes."""

    first: int
    total: int


class PartAware(nn.Module):
    """A module that computes over the batch of all processes.

    Attributes:
        part: of this process; None where its samples are the whole batch, so that nothing is exchanged.
    """

    part: BatchPart | None = None


def set_part(model: nn.Module, part: BatchPart | None) -> None:
    """Tell every `PartAware` module of a model which part of the batch the next samples are."""
    for module in model.modules():
        if isinstance(module, PartAware):
            module.part = part


@torch.compiler.disable(recursive=True)
def gathered(values: torch.Tensor, part: BatchPart | None) -> torch.Tensor:
    """The rows of all processes in the order of the whole batch: (B, ...) -> (total, ...).

    A loss computed from gathered rows is the same on every process. `part` None, or the whole batch, gives the rows
    back as they are.
    """
    if part is None or part.total == len(values):
        return values
    before, after = (
        values.new_zeros(count, *values.shape[1:]) for count in (part.first, part.total - part.first - len(values))
    )
    return _sum_over_processes(torch.cat([before, values, after]))


def _sum_over_processes(values: torch.Tensor) -> torch.Tensor:
    """Gradients are summed over processes too. The library's collective; torch deprecates its other one for this."""
    world = group.WORLD
    assert world is not None, "several processes, but no process group"
    return all_reduce(values, "sum", world)


class GlobalBatchNorm2d(PartAware, nn.BatchNorm2d):
    """`nn.BatchNorm2d` with the mean and variance of all processes' samples while it trains; for CPU and GPU.

    `nn.SyncBatchNorm` is for GPUs alone.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if self.part is None or not self.training:
            return super().forward(input)
        with torch.autocast(input.device.type, enabled=False):
            values = input if input.dtype == torch.float64 else input.float()  # (B, C, h, w)
            count = values.new_tensor([values[:, 0].numel()])
            sums = _sum_over_processes(torch.cat([values.sum(dim=(0, 2, 3)), count]))  # (C + 1,)
            total = sums[-1].detach()
            mean = sums[:-1] / total  # (C,)
            centered = values - mean[:, None, None]
            variance = _sum_over_processes(centered.square().sum(dim=(0, 2, 3))) / total  # (C,)
            self._remember(mean.detach(), variance.detach() * total / (total - 1))
            scale = self.weight * (variance + self.eps).rsqrt()
            return (centered * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        """Shapes: (C,), (C,); the variance is the unbiased one."""
        if self.num_batches_tracked is None or self.running_mean is None or self.running_var is None:
            return
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum or 0.0)
        self.running_var.lerp_(variance.to(self.running_var.dtype), self.momentum or 0.0)


def convert_batch_norm(model: nn.Module) -> None:
    """Put a `GlobalBatchNorm2d` in the place of every `nn.BatchNorm2d`, with its parameters, buffers and names."""
    for parent in list(model.modules()):
        for name, norm in list(parent.named_children()):
            if type(norm) is nn.BatchNorm2d:
                new = GlobalBatchNorm2d(norm.num_features, norm.eps, norm.momentum, norm.affine)
                new.weight, new.bias, new.training = norm.weight, norm.bias, norm.training
                for buffer, values in norm.named_buffers():
                    setattr(new, buffer, values)
                setattr(parent, name, new)
