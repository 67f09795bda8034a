"""The optimizer and the learning-rate schedule of a recipe."""

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from stages.runtime.params import Training

ENCODERS = ("vision.", "text.")


def build_optimizer(model: nn.Module, training: Training) -> AdamW:
    """AdamW over all parameters that are not frozen; no weight decay for norms, biases and position embeddings."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            rate = training.encoder_learning_rate if name.startswith(ENCODERS) else None
            free = parameter.ndim < 2 or "position" in name
            key = rate or training.learning_rate, 0.0 if free else training.weight_decay
            groups.setdefault(key, []).append(parameter)
    return AdamW(
        [{"params": parameters, "lr": rate, "weight_decay": decay} for (rate, decay), parameters in groups.items()],
        lr=training.learning_rate,
        fused=True,
    )


def schedule(optimizer: AdamW, training: Training, steps: int) -> LambdaLR:
    """Linear warm-up, then polynomial decay to zero at step `steps`; no warm-up if `training.warmup` is 0."""
    warmup = round(training.warmup * steps)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return max(0.0, 1 - (step - warmup) / max(1, steps - warmup)) ** training.power

    return LambdaLR(optimizer, factor)
