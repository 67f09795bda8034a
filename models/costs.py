"""Exact costs of a model: parameters by part, and FLOPs (floating-point operations) of a forward pass by part."""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from models.losses import Losses


class CostPart(NamedTuple):
    """A part of the model: all its parameters, its trained parameters, and FLOPs of a forward pass."""

    name: str
    parameters: int
    trained: int
    flops: int


def by_part(model: nn.Module, inputs: dict[str, torch.Tensor]) -> list[CostPart]:
    """Parameters of each part and FLOPs of a forward pass of `inputs`; the last entry, `rest`, belongs to no part.

    The losses are no part: a prediction does not compute them, and they have no parameters.

    torch's counter counts the FLOPs. It does not know every fused attention kernel, so attention runs as two matrix
    products. A multiply-add counts as 2; element-wise work does not count.
    """
    was_training = model.training
    model.eval()
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(**inputs)
    model.train(was_training)
    flops = {name: sum(count.values()) for name, count in counter.get_flop_counts().items()}
    found = [
        CostPart(name, *count_parameters(part), outermost(flops, f"{type(model).__name__}.{name}"))
        for name, part in model.named_children()
        if not isinstance(part, Losses)
    ]
    parameters, trained = count_parameters(model)
    rest = CostPart(
        "rest",
        parameters - sum(part.parameters for part in found),
        trained - sum(part.trained for part in found),
        counter.get_total_flops() - sum(part.flops for part in found),
    )
    return [*found, rest]


def count_parameters(module: nn.Module) -> tuple[int, int]:
    """How many parameters there are, and how many of them are trained."""
    counts = [(parameter.numel(), parameter.requires_grad) for parameter in module.parameters()]
    return sum(count for count, _ in counts), sum(count for count, trained in counts if trained)


def outermost(flops: dict[str, int], part: str) -> int:
    """FLOPs of the part with this path: its own, or, if only modules inside it were called, those of the outermost."""
    inside = [name for name in flops if name == part or name.startswith(f"{part}.")]
    return sum(flops[name] for name in inside if not any(name.startswith(f"{other}.") for other in inside))
