"""How fast does recipe `paper` train on this GPU? Images per second, MFU and peak memory in bf16, by batch size.

Measures whole training steps (forward, backward, clipping, optimizer) on random images that are on the GPU already,
with and without `torch.compile`. Batches grow until one does not fit. Weights are random, which does not change the
cost.

MFU (model FLOPs utilisation) is 3 times the FLOPs of a forward pass (the backward pass counts twice), times images per
second, divided by the GPU's peak FLOP/s in dense bf16 as its maker states it. A multiply-add counts as 2.

Adds its rows to `benchmarks/results/gpu.csv`. Needs a GPU.
"""

import sys
from pathlib import Path
from statistics import median

import torch
from torch import nn

from benchmarks import steps, table
from models.costs import by_part
from stages.estimate.estimate import seconds
from stages.runtime import params
from stages.runtime.params import Training
from stages.setup.optimizer import build_optimizer

RESULTS = Path("benchmarks/results/gpu.csv")
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12}  # FLOP/s by a part of the GPU's name; for H100, the SXM model
BATCHES = (32, 48, 64, 96, 128, 192, 256)
STEPS, WARM_UP = 20, 5
EPOCHS, SAMPLES = 40, 42_404  # of RefCOCO


def main() -> None:
    if not torch.cuda.is_available():
        sys.exit("error: there is no GPU here; on a CPU: python -m benchmarks.steps")
    content = params.read_or_exit(steps.RECIPES)
    setting, training = steps.settings_of(content)["swin_b"], content.recipes["paper"].training
    name = torch.cuda.get_device_name()
    for compiled in (False, True):
        rows = []
        for batch_size in BATCHES:
            try:
                flops, times, memory = measure(setting._replace(batch_size=batch_size), training, compiled)
            except torch.OutOfMemoryError:
                print(f"batch {batch_size} does not fit", flush=True)
                break
            rate = batch_size / median(times)
            rows.append(
                {
                    "compiled": compiled,
                    "batch": batch_size,
                    "images/s": round(rate, 1),
                    "lowest": round(batch_size / max(times), 1),
                    "highest": round(batch_size / min(times), 1),
                    "GFLOPs of a forward pass": round(flops / 1e9, 1),
                    "MFU": mfu(flops, rate, name),
                    "peak GiB": round(memory / 2**30, 2),
                    "hours of RefCOCO": round(hours(rate), 2),
                    "steps": STEPS,
                    "precision": "bf16",
                    **table.surroundings("torch", "transformers", machine=name),
                    "command": "python -m benchmarks.gpu",
                }
            )
            print(", ".join(f"{key} {value}" for key, value in list(rows[-1].items())[:9]), flush=True)
        best = max((row["images/s"] for row in rows), default=None)
        table.append(RESULTS, [row | {"best": row["images/s"] == best} for row in rows])


def measure(setting: steps.Setting, training: Training, compiled: bool) -> tuple[int, list[float], int]:
    """FLOPs of a forward pass of one image, seconds of `STEPS` steps, and peak bytes."""
    torch._dynamo.reset()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    model = steps.made(params.read_or_exit(steps.RECIPES), setting, "alignformer", compiled=False)
    inputs, truth = steps.batch(setting)
    flops = sum(part.flops for part in by_part(model, {key: value[:1] for key, value in inputs.items()}))
    step = training_step(model.train(), inputs | truth, training, compiled)
    for _ in range(WARM_UP):
        step()
    return flops, [seconds(step, steps.device()) for _ in range(STEPS)], torch.cuda.max_memory_allocated()


def training_step(model: nn.Module, inputs: dict[str, torch.Tensor], training: Training, compiled: bool):
    """One step of the training loop, as a function."""
    optimizer = build_optimizer(model, training)
    run = torch.compile(model) if compiled else model

    def step() -> None:
        with torch.autocast(steps.device().type, torch.bfloat16):
            loss = run(**inputs).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), training.clip_norm)
        optimizer.step()
        optimizer.zero_grad()

    return step


def mfu(flops: float, rate: float, name: str) -> float | None:
    """Share of the GPU's peak that training at `rate` images per second uses; None if its peak is not in `PEAKS`."""
    peak = next((peak for part, peak in PEAKS.items() if part in name), None)
    return peak and round(3 * flops * rate / peak, 3)


def hours(rate: float) -> float:
    """Hours of a training on RefCOCO at `rate` images per second, without validation."""
    return EPOCHS * SAMPLES / rate / 3600


if __name__ == "__main__":
    main()
