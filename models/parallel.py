"""Several processes that share every batch and compute together what one process would compute.

Processes may have different numbers of samples. Every function here is differentiable. Distributed data parallel
training averages gradients over processes; that average is the gradient of one process with the whole batch.
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
        part: where this process's samples lie; None if they are the whole batch, and then nothing is exchanged.
    """

    part: BatchPart | None = None


def set_part(model: nn.Module, part: BatchPart | None) -> None:
    """Set `part` of every `PartAware` module of a model, for the samples that come next."""
    for module in model.modules():
        if isinstance(module, PartAware):
            module.part = part


@torch.compiler.disable(recursive=True)
def gathered(values: torch.Tensor, part: BatchPart | None) -> torch.Tensor:
    """The rows of all processes in the order of the whole batch: (B, ...) -> (total, ...).

    A loss computed from gathered rows is the same on every process. If `part` is None or the whole batch, the rows are
    returned unchanged.
    """
    if part is None or part.total == len(values):
        return values
    before, after = (
        values.new_zeros(count, *values.shape[1:]) for count in (part.first, part.total - part.first - len(values))
    )
    return _sum_over_processes(torch.cat([before, values, after]))


def _sum_over_processes(values: torch.Tensor) -> torch.Tensor:
    """The sum over processes; its gradient is summed over processes too.

    Uses torch's functional collective: torch has deprecated the other differentiable one, `torch.distributed.nn`.
    """
    world = group.WORLD
    assert world is not None, "several processes, but no process group"
    return all_reduce(values, "sum", world)


class GlobalBatchNorm2d(PartAware, nn.BatchNorm2d):
    """`nn.BatchNorm2d` that uses, in training, the mean and variance of all processes' samples. For CPU and GPU.

    `nn.SyncBatchNorm` runs on GPUs only.
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
        """Update the running statistics with the mean (C,) and the unbiased variance (C,)."""
        if self.num_batches_tracked is None or self.running_mean is None or self.running_var is None:
            return
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum or 0.0)
        self.running_var.lerp_(variance.to(self.running_var.dtype), self.momentum or 0.0)


def convert_batch_norm(model: nn.Module) -> None:
    """Replace every `nn.BatchNorm2d` by a `GlobalBatchNorm2d` with the same parameters, buffers and name."""
    for parent in list(model.modules()):
        for name, norm in list(parent.named_children()):
            if type(norm) is nn.BatchNorm2d:
                new = GlobalBatchNorm2d(norm.num_features, norm.eps, norm.momentum, norm.affine)
                new.weight, new.bias, new.training = norm.weight, norm.bias, norm.training
                for buffer, values in norm.named_buffers():
                    setattr(new, buffer, values)
                setattr(parent, name, new)
