"""The optimizer, the learning-rate schedule and the averaged weights of a recipe."""

import math
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from stages.runtime.params import Training

ENCODERS = ("vision.", "text.")


class Muon(AdamW):
    """AdamW, but the matrices of groups with `muon` move along their orthogonalised momentum (Jordan et al. 2024).

    Their step is scaled to the size that AdamW's usually has, so both share a learning rate (Liu et al. 2025). The
    products are in float32: those of `torch.optim.Muon` are in bfloat16, which CPUs without it emulate, about 16 times
    slower, and which CPUs with it round otherwise.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            if group["muon"]:
                trained = [weight for weight in group["params"] if weight.grad is not None]
                for shape in dict.fromkeys(weight.shape for weight in trained):
                    self._step_matrices([weight for weight in trained if weight.shape == shape], group)
        super().step(closure)  # it leaves out what has no gradient

    def _step_matrices(self, weights: list[nn.Parameter], group: dict[str, Any], momentum: float = 0.95) -> None:
        """One step of matrices of one shape (R, C)."""
        gradients = [weight.grad for weight in weights]
        for weight in weights:
            if not self.state[weight]:  # AdamW, which reads all states from a checkpoint, needs a step in each
                self.state[weight] = {"step": torch.tensor(0.0), "momentum": torch.zeros_like(weight)}
            self.state[weight]["step"] += 1
        momenta = [self.state[weight]["momentum"] for weight in weights]
        torch._foreach_lerp_(momenta, gradients, 1 - momentum)
        steps = orthogonalise(torch.stack(torch._foreach_lerp(gradients, momenta, momentum)))  # (M, R, C), Nesterov's
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(weights, list(steps), alpha=-0.2 * math.sqrt(max(weights[0].shape)) * group["lr"])
        for weight in weights:
            weight.grad = None


def orthogonalise(matrices: torch.Tensor) -> torch.Tensor:
    """(M, R, C) -> matrices with the same singular vectors and singular values of about 1 (0.7 to 1.2).

    Five Newton-Schulz iterations with the coefficients of Jordan et al. (2024).
    """
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.mT
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return x if wide else x.mT


def build_optimizer(model: nn.Module, training: Training) -> AdamW:
    """The recipe's optimizer over all parameters that are not frozen.

    No weight decay for norms, biases and position embeddings. Muon is for the weights of linear layers; it leaves the
    rest to AdamW.
    """
    linear = {layer.weight for layer in model.modules() if isinstance(layer, nn.Linear)}
    groups: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            rate = training.encoder_learning_rate if name.startswith(ENCODERS) else None
            free = parameter.ndim < 2 or "position" in name
            muon = training.optimizer == "muon" and parameter in linear
            key = rate or training.learning_rate, 0.0 if free else training.weight_decay, muon
            groups.setdefault(key, []).append(parameter)
    kind = Muon if training.optimizer == "muon" else AdamW
    return kind(
        [
            {"params": parameters, "lr": rate, "weight_decay": decay, "muon": muon}
            for (rate, decay, muon), parameters in groups.items()
        ],
        lr=training.learning_rate,
        fused=True,
    )


def schedule(optimizer: Optimizer, training: Training, steps: int) -> LambdaLR:
    """Linear warm-up, then polynomial decay to zero at step `steps`; no warm-up if `training.warmup` is 0."""
    warmup = round(training.warmup * steps)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return max(0.0, 1 - (step - warmup) / max(1, steps - warmup)) ** training.power

    return LambdaLR(optimizer, factor)


def moving_average(model: nn.Module, decay: float) -> AveragedModel:
    """The exponential moving average of weights and of the batch norms' statistics, which begins after the first step.

    Averages of weights generalise better (Izmailov et al. 2018).
    """
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
