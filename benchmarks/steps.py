"""What does AlignFormer cost relative to its two encoders alone, the least that any model with them costs?

`encoders alone` are transformers' own backbone and text model of the same configuration, on the same input: no
attention between them, no decoder, no loss; their outputs are summed. Measured are the seconds of forward and backward,
and of a forward pass without gradients. The models take turns in one process, since the speed of a shared machine
varies. A ratio is that of the medians; lowest and highest are ratios within one round. Weights are random, which does
not change the cost.

Memory is the peak of forward and backward in a process of its own, weights and gradients included: on a CPU, resident
memory minus what was resident before the model was built; on a GPU, memory that torch allocated.

Adds its rows to `benchmarks/results/steps.csv`.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from torch import nn
from transformers import (
    AutoBackbone,
    BertConfig,
    BertModel,
    PreTrainedConfig,
    SwinConfig,
)

from benchmarks import table
from models.alignformer import AlignFormer
from models.configuration import AlignFormerConfig
from stages.estimate.measuring import describe, peak_memory, seconds
from stages.runtime import params
from stages.runtime.params import Params, Recipe, Training
from stages.setup.optimizer import build_optimizer, schedule

RESULTS = Path("benchmarks/results/steps.csv")
ALONE = "encoders alone"
VARIANTS = ("alignformer", "baseline")
WORDS = 20
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


class Setting(NamedTuple):
    """Two encoders, the number of frozen vision levels, and a batch."""

    vision: PreTrainedConfig
    text: PreTrainedConfig
    pixel_dim: int
    frozen: int
    image_size: int
    batch_size: int
    rounds: int

    @property
    def ends(self) -> list[int]:
        """For each level, how many of the backbone's layers precede its end."""
        if self.vision.model_type != "dinov2":
            return list(range(1, len(self.vision.depths) + 1))
        return [self.vision.num_hidden_layers * level // 4 for level in range(1, 5)]


class Encoders(nn.Module):
    """transformers' own encoders, side by side."""

    def __init__(self, setting: Setting):
        super().__init__()
        vision = setting.vision.to_dict() | {"out_features": None, "out_indices": setting.ends}
        self.vision = AutoBackbone.from_config(type(setting.vision)(**vision))
        self.text = BertModel(setting.text, add_pooling_layer=False)
        if setting.frozen:
            self.vision.embeddings.requires_grad_(False)
            self.vision.encoder.layer[: setting.ends[setting.frozen - 1]].requires_grad_(False)

    def forward(
        self, pixel_values: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> list[torch.Tensor]:
        features = self.vision(pixel_values).feature_maps
        return [*features, self.text(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state]


def main() -> None:
    settings = settings_of(params.read_or_exit())
    parser = argparse.ArgumentParser(prog="python -m benchmarks.steps", description=__doc__.splitlines()[0])
    parser.add_argument("--settings", nargs="+", choices=settings, default=list(settings), metavar="NAME")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=("no", "bf16"), default="no")
    parser.add_argument(
        "--compile", action="store_true", help="compile AlignFormer and the encoders alone with torch.compile"
    )
    arguments = parser.parse_args()

    for name in arguments.settings:
        how = (name, arguments.threads, arguments.precision, arguments.compile)
        found = times(*how) | {"peak MiB": {model: [memory_apart(model, *how)] for model in (ALONE, *VARIANTS)}}
        rows = [
            {
                "setting": name,
                "model": model,
                "measure": measure,
                **compared(by_model[ALONE], by_model[model]),
                "device": describe(device()),
                "precision": arguments.precision,
                "compiled": arguments.compile,
                **table.surroundings("torch", "transformers"),
                "command": table.command("steps"),
            }
            for measure, by_model in found.items()
            for model in VARIANTS
        ]
        for row in rows:
            print(", ".join(f"{key} {value}" for key, value in list(row.items())[:9]), flush=True)
        table.append(RESULTS, rows)


def settings_of(content: Params) -> dict[str, Setting]:
    """The encoders of recipe `paper`, and Swin-T in place of Swin-B, with which peers are measured; random weights.

    A batch is one image of 480 x 480 pixels, as those of peers: the recipe's batch would take minutes on a CPU.
    """
    swin_b = paper_setting(content.recipes["paper"])
    swin_t = SwinConfig(embed_dim=96, depths=[2, 2, 6, 2], num_heads=[3, 6, 12, 24], window_size=7, drop_path_rate=0.2)
    return {"swin_t": swin_b._replace(vision=swin_t, rounds=8), "swin_b": swin_b}


def paper_setting(paper: Recipe) -> Setting:
    """The encoders of recipe `paper`, and one image."""
    swin_b = SwinConfig(
        image_size=384,
        embed_dim=128,
        depths=[2, 2, 18, 2],
        num_heads=[4, 8, 16, 32],
        window_size=12,
        drop_path_rate=0.3,
    )
    return Setting(
        swin_b, BertConfig(**NO_DROPOUT), paper.model.pixel_dim, 0, paper.model.image_size, batch_size=1, rounds=5
    )


def compared(alone: list[float], model: list[float]) -> dict[str, float]:
    """Medians, and their ratio."""
    return {ALONE: round(median(alone), 4), "itself": round(median(model), 4), **ratio(model, alone)}


def ratio(one: list[float], other: list[float]) -> dict[str, float]:
    """Of the medians of what was measured in turn, and the range of the ratios within rounds."""
    ratios = [first / second for first, second in zip(one, other, strict=True)]
    return {
        "ratio": round(median(one) / median(other), 3),
        "lowest": round(min(ratios), 3),
        "highest": round(max(ratios), 3),
        "rounds": len(ratios),
    }


def times(name: str, threads: int, precision: str, compiled: bool) -> dict[str, dict[str, list[float]]]:
    """Measure -> model -> seconds in each round."""
    torch.set_num_threads(threads)
    content = params.read_or_exit()
    setting = settings_of(content)[name]
    models = {model: made(content, setting, model, compiled) for model in (ALONE, *VARIANTS)}
    inputs, truth = batch(setting)
    train = {name: partial(forward_backward, model, inputs, truth, precision) for name, model in models.items()}
    infer = {name: partial(forward, model, inputs, precision) for name, model in models.items()}
    return {
        "seconds, forward and backward": in_turn(train, setting.rounds),
        "seconds, inference": in_turn(infer, setting.rounds),
    }


def in_turn(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each work in each round, after a warm-up. Every second round has the reverse order."""
    found = {name: [] for name in works}
    for work in works.values():
        work()
    for number in range(rounds):
        for name in list(works)[:: 1 if number % 2 else -1]:
            found[name].append(seconds(works[name], device()))
    return found


def memory_apart(*arguments: object) -> float:
    """`memory` in a process of its own."""
    call = f"from benchmarks.steps import memory; print(memory{arguments!r})"
    answer = subprocess.run([sys.executable, "-c", call], check=True, text=True, stdout=subprocess.PIPE)
    return float(answer.stdout.splitlines()[-1])


def memory(model: str, name: str, threads: int, precision: str, compiled: bool) -> float:
    """Peak MiB of forward and backward in this process."""
    torch.set_num_threads(threads)
    content = params.read_or_exit()
    setting = settings_of(content)[name]
    inputs, truth = batch(setting)
    before = 0 if device().type == "cuda" else peak_memory(device())
    network = made(content, setting, model, compiled)
    for _ in range(2):
        forward_backward(network, inputs, truth, precision)
    return (peak_memory(device()) - before) / 2**20


def made(content: Params, setting: Setting, name: str, compiled: bool) -> nn.Module:
    """The encoders alone, or a variant of AlignFormer, with random weights."""
    if name == ALONE:
        model = Encoders(setting)
    else:
        config = AlignFormerConfig(
            vision_config=setting.vision,
            text_config=setting.text,
            pixel_dim=setting.pixel_dim,
            frozen_levels=setting.frozen,
            **content.variants[name].model_dump(),
        )
        model = AlignFormer(config)
    model = model.to(device(), memory_format=torch.channels_last)
    return torch.compile(model) if compiled else model


def batch(setting: Setting) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Random images, each with an expression of `WORDS` tokens; and, for training, box masks and image ids."""
    count, size = setting.batch_size, setting.image_size
    generator = torch.Generator().manual_seed(0)
    inputs = {
        "pixel_values": torch.randn(count, 3, size, size, generator=generator),
        "input_ids": torch.randint(5, setting.text.vocab_size, (count, WORDS), generator=generator),
        "attention_mask": torch.ones(count, WORDS, dtype=torch.long),
    }
    masks = torch.zeros(count, size, size)
    masks[:, size // 5 : size // 2, size // 4 : size // 2] = 1
    truth = {"masks": masks, "image_ids": torch.arange(count)}
    return tuple({name: value.to(device()) for name, value in part.items()} for part in (inputs, truth))


def forward_backward(
    model: nn.Module, inputs: dict[str, torch.Tensor], truth: dict[str, torch.Tensor], precision: str
) -> None:
    """One training step without optimizer; gradients are reset as by `optimizer.zero_grad`."""
    model.train()
    with autocast(precision):
        alone = isinstance(getattr(model, "_orig_mod", model), Encoders)
        loss = sum(part.sum() for part in model(**inputs)) if alone else model(**inputs, **truth).loss
    loss.backward()
    model.zero_grad()


def training_step(
    model: nn.Module, training: Training, steps: int, backend: str | None = None
) -> Callable[..., torch.Tensor]:
    """One step of the training loop of `stages.train`, as a function of the model's arguments: its loss.

    Args:
        steps: of the whole training, for the schedule of the learning rate.
        backend: of `torch.compile`; None to compile nothing.
    """
    optimizer = build_optimizer(model, training)
    scheduler = schedule(optimizer, training, steps)
    run = torch.compile(model, backend=backend) if backend else model

    def step(**arguments) -> torch.Tensor:
        with autocast(training.precision):
            loss = run(**arguments).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), training.clip_norm)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        return loss.detach()

    return step


@torch.no_grad()
def forward(model: nn.Module, inputs: dict[str, torch.Tensor], precision: str) -> None:
    model.eval()
    with autocast(precision):
        model(**inputs)


def autocast(precision: str) -> AbstractContextManager:
    return torch.autocast(device().type, torch.bfloat16) if precision == "bf16" else nullcontext()


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


if __name__ == "__main__":
    main()
