"""Batch norm over the batch of all processes, so that several compute what one does."""

import torch
from torch import nn
from torch.distributed import _functional_collectives as collectives
from torch.distributed import group


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` with the mean and variance of all processes' samples while it trains; for CPU and GPU.

    Processes may have different numbers of samples. The gradient is that of one process with all samples, in the mean
    over processes.

    Attributes:
        apart: the samples here are a part of a batch. Otherwise they are all of it, and nothing is exchanged.
    """

    apart = False

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not (self.training and self.apart):
            return super().forward(input)
        with torch.autocast(input.device.type, enabled=False):
            values = input if input.dtype == torch.float64 else input.float()  # (B, C, h, w)
            count = values.new_tensor([values[:, 0].numel()])
            sums = _over_processes(torch.cat([values.sum(dim=(0, 2, 3)), count]))  # (C + 1,)
            total = sums[-1].detach()
            mean = sums[:-1] / total  # (C,)
            centerd = values - mean[:, None, None]
            variance = _over_processes(centerd.square().sum(dim=(0, 2, 3))) / total  # (C,)
            self._remember(mean.detach(), variance.detach() * total / (total - 1))
            scale = self.weight * (variance + self.eps).rsqrt()
            return (centerd * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        """Shapes: (C,), (C,); the variance is the unbiased one."""
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), self.momentum)


def _over_processes(values: torch.Tensor) -> torch.Tensor:
    """The sum over processes; gradients are summed over them too."""
    return collectives.all_reduce(values, "sum", group.WORLD)


def over_all_processes(model: nn.Module) -> None:
    """Turn a model's `nn.BatchNorm2d` into the one above, in place; weights, buffers and their names stay.

    Whether samples are a part of a batch is told by the model's keyword argument `shard`: they are where it is given.
    """
    norms = [module for module in model.modules() if type(module) is nn.BatchNorm2d]
    for norm in norms:
        norm.__class__ = GlobalBatchNorm2d

    def tell(model: nn.Module, arguments: tuple, inputs: dict) -> None:
        for norm in norms:
            norm.apart = inputs.get("shard") is not None

    if norms:
        model.register_forward_pre_hook(tell, with_kwargs=True)
