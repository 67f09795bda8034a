"""Optimiser and schedule of the recipe."""

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from stages.params import Training


def optimiser(model: nn.Module, training: Training) -> AdamW:
    """AdamW over every parameter; no weight decay on norms, biases and tables of positions."""
    decayed, free = [], []
    for name, parameter in model.named_parameters():
        table = "position" in name
        (free if parameter.ndim < 2 or table else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": training.weight_decay}, {"params": free, "weight_decay": 0.0}]
    return AdamW(groups, lr=training.learning_rate, fused=True)


def schedule(optimiser: AdamW, training: Training, steps: int) -> LambdaLR:
    """Linear warm-up, then polynomial decay that reaches zero after `steps` in all."""
    warmup = max(1, round(training.warmup * steps))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return max(0.0, 1 - (step - warmup) / max(1, steps - warmup)) ** training.power

    return LambdaLR(optimiser, factor)
