"""Everything that needs one GPU, in one command of at most 10 minutes that needs torch, transformers and Pillow alone.

`--pack` first makes a folder where the project is installed and the datasets of the experiment `photographs` are
prepared (`benchmarks/packed.py`). `--all` then runs, on the machine with the GPU, without network, the parts:

- checks: logits, loss and gradient of small models in float32 and bf16, compiled and not, against float64 on the CPU.
- paper, and paper, compiled: images per second, model FLOPs utilisation (MFU) and peak memory of whole training steps
  of recipe `paper` (forward, backward, clipping, optimizer) in bf16, with its batch and the largest that fits, and the
  hours of RefCOCO that follow. Images are random and on the GPU already. Weights are random, which does not change the
  cost.
- photographs: the variants of the experiment with five seeds and as many epochs as fit
  (`benchmarks/gpu_photographs.py`).

Each part is a process of its own with a limit of seconds, so one that fails or hangs leaves the others alone. Every row
is printed and added to `benchmarks/results/gpu*.csv` as soon as it is measured. The exit status is 1 where a part
failed, was stopped at its limit, or found a check that does not hold.

MFU is 3 times the FLOPs of a forward pass (the backward pass counts twice), times images per second, divided by the
GPU's peak FLOP/s in dense bf16 as its maker states it. A multiply-add counts as 2.

With `--tiny`, the same parts run on a CPU with tiny sizes and without these limits, and rows are added to files in the
packed folder. Their numbers mean nothing.
"""

import argparse
import copy
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch

from benchmarks import packed, table
from stages.estimate import measuring
from stages.runtime.errors import UserError, exit_on_error

PACKED = Path("checkpoints/gpu")
RESULTS = Path("benchmarks/results")
SECONDS = 570.0  # of all parts together
GRACE = 10.0  # seconds after its limit at which a part is stopped
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12}  # FLOP/s by a part of the GPU's name; for H100, the SXM model
FILLED = 0.9  # share of the GPU's memory that the largest batch is to take
STEPS, WARM_UP = 20, 3
EPOCHS, SAMPLES = 40, 42_404  # of RefCOCO
CHECKED = {  # precision, compiled; part photographs compiles nothing
    "swin": (("no", False), ("bf16", False), ("no", True), ("bf16", True)),
    "dinov2": (("no", False), ("bf16", False)),
}
ALLOWED = {  # relative error by precision, which wrong results exceed by far; on a CPU, 1e-5 and 0.12 were seen
    "no": {"logits": 0.005, "loss": 0.005, "gradient": 0.005},  # convolutions may round to 10 bits (TF32)
    "bf16": {"logits": 0.05, "loss": 0.05, "gradient": 0.25},
}


class Job(NamedTuple):
    """What every part is given: the packed folder, whether sizes are tiny, and when the part has to end."""

    folder: Path
    tiny: bool
    deadline: float = float("inf")  # time.monotonic()

    @property
    def left(self) -> float:
        """Seconds."""
        return self.deadline - time.monotonic()

    @property
    def backend(self) -> str:
        """What `torch.compile` compiles by: for tiny sizes, traced alone."""
        return "eager" if self.tiny else "inductor"

    def record(self, file: str, device: torch.device, **row: object) -> None:
        """Print a row and add it to a file of results."""
        print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
        card = table.surroundings("torch", "transformers", machine=measuring.describe(device))
        command = f"python -m benchmarks.gpu --all{' --tiny' if self.tiny else ''}"
        table.append((self.folder if self.tiny else RESULTS) / file, [{**row, **card, "command": command}])


class CheckError(UserError):
    """Results of this device are not those of float64; the message names them."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    options = {"nargs": "?", "const": PACKED, "type": Path, "metavar": "FOLDER"}
    what.add_argument("--pack", **options, help=f"make the folder, by default {PACKED}")
    what.add_argument("--all", **options, help="run all parts with this folder")
    parser.add_argument("--tiny", action="store_true", help="with --all: tiny sizes, on a CPU")
    arguments = parser.parse_args()
    with exit_on_error():
        if arguments.pack:
            pack(arguments.pack.absolute())
        else:
            sys.exit(run(Job(arguments.all.absolute(), arguments.tiny)))


def pack(folder: Path) -> None:
    from stages.runtime import experiments, params

    experiments.enter("photographs")
    packed.write(folder, params.read_or_exit())
    for piece in sorted(folder.iterdir()):
        print(f"{piece}: {sum(file.stat().st_size for file in piece.iterdir()) / 1e6:.1f} MB")


def run(job: Job) -> int:
    """Run all parts; returns the exit status. Raises PackError if the folder is not there."""
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # another check would keep forked processes from using the GPU
    if not job.tiny and apart(_require_gpu, job._replace(deadline=time.monotonic() + 60)):
        sys.exit(
            "error: there is no GPU here; add --tiny to run the same parts on a CPU, or measure on a CPU: "
            "python -m benchmarks.steps"
        )
    packed.parameters(job.folder)
    packed.stand_in_for_pydantic()
    from benchmarks import gpu_photographs, steps  # noqa: F401  # once, for all parts

    began = time.monotonic()
    wrong = []
    for name, (part, limit) in PARTS.items():
        seconds = SECONDS if job.tiny else limit or SECONDS - (time.monotonic() - began)
        print(f"-- {name}: at most {seconds:.0f} s", flush=True)
        since = time.monotonic()
        if why := apart(part, job._replace(deadline=since + seconds)):
            wrong.append(name)
        print(f"-- {name}: {why or 'done'}, after {time.monotonic() - since:.0f} s", flush=True)
    if wrong:
        print(f"error: {', '.join(wrong)} failed or did not end; the rows so far are kept", file=sys.stderr)
    return 1 if wrong else 0


def _require_gpu(job: Job) -> None:
    sys.exit(not torch.cuda.is_available())


def apart(part: Callable[[Job], None], job: Job) -> str | None:
    """Run a part in a process of its own; returns why it did not succeed, or None."""
    process = get_context("fork").Process(target=_alone, args=(part, job))
    process.start()
    with suppress(OSError):  # the process does the same: whoever is first
        os.setpgid(process.pid or 0, process.pid or 0)
    try:
        process.join(job.left + GRACE)
        if process.exitcode is None:
            return "stopped at its limit"
        return f"failed with status {process.exitcode}" if process.exitcode else None
    finally:
        if process.exitcode is None and process.pid:
            os.killpg(process.pid, signal.SIGKILL)
            process.join()


def _alone(part: Callable[[Job], None], job: Job) -> None:
    with suppress(OSError):
        os.setpgid(0, 0)  # so that what it starts is stopped with it
    with exit_on_error():
        part(job)


def checks(job: Job) -> None:
    """Raises CheckError if a result is further from that of float64 than `ALLOWED`."""
    from benchmarks import steps

    content, wrong = packed.parameters(job.folder), []
    for name, setting in small_settings().items():
        torch.manual_seed(0)
        model = steps.made(content, setting, "alignformer", compiled=False).train()
        with torch.no_grad():
            for parameter in model.parameters():  # none is to be zero or one, as some begin
                parameter.add_(0.02 * torch.randn(parameter.shape).to(parameter))
        inputs, truth = steps.batch(setting)
        arguments = inputs | truth
        on_cpu = {key: value.cpu() for key, value in arguments.items()}
        exact = {key: value.double() if value.is_floating_point() else value for key, value in on_cpu.items()}
        reference = computed(copy.deepcopy(model).cpu().double(), exact, "no", None)
        for precision, compiled in CHECKED[name]:
            torch._dynamo.reset()
            found = computed(model, arguments, precision, job.backend if compiled else None)
            for of, value in found.items():
                error = ((value - reference[of]).norm() / reference[of].norm()).item()
                allowed = ALLOWED[precision][of]
                holds = error <= allowed  # no NaN does
                how = {"model": name, "of": of, "precision": precision, "compiled": compiled}
                limits = {"allowed": allowed, "holds": holds}
                job.record("gpu_checks.csv", steps.device(), **how, error=float(f"{error:.2g}"), **limits)
                if not holds:
                    wrong.append(f"{of} of {name} in {precision}{' and compiled' * compiled}: {error:.2g}")
    if wrong:
        raise CheckError(f"further from float64 than allowed: {'; '.join(wrong)}")


def small_settings():
    """The kinds of encoders that the other parts use, small and without dropout."""
    from transformers import BertConfig, Dinov2Config, SwinConfig

    from benchmarks.steps import NO_DROPOUT, Setting

    text = BertConfig(
        vocab_size=100, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, **NO_DROPOUT
    )
    swin = SwinConfig(
        image_size=64, embed_dim=16, depths=[1] * 4, num_heads=[1, 2, 4, 8], window_size=4, drop_path_rate=0.0
    )
    dinov2 = Dinov2Config(
        image_size=56, hidden_size=32, num_hidden_layers=4, num_attention_heads=2, use_mask_token=False
    )
    return {
        "swin": Setting(swin, text, pixel_dim=32, frozen=0, image_size=64, batch_size=4, rounds=0),
        "dinov2": Setting(dinov2, text, pixel_dim=32, frozen=3, image_size=56, batch_size=4, rounds=0),
    }


def computed(
    model: torch.nn.Module, arguments: dict[str, torch.Tensor], precision: str, backend: str | None
) -> dict[str, torch.Tensor]:
    """Logits, loss and the gradient of all trained parameters, float64 on the CPU; the gradient is dropped."""
    from benchmarks import steps

    run = torch.compile(model, backend=backend) if backend else model
    with steps.autocast(precision):
        output = run(**arguments)
    output.loss.backward()
    gradients = [parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None]
    found = {"logits": output.logits.detach(), "loss": output.loss.detach(), "gradient": torch.cat(gradients)}
    model.zero_grad()
    return {name: value.cpu().double() for name, value in found.items()}


def paper(job: Job, compiled: bool) -> None:
    """Measure the recipe's batch and the largest."""
    from benchmarks import steps
    from models.costs import by_part

    content = packed.parameters(job.folder)
    recipe, device = content.recipes["paper"], steps.device()
    batch = 1 if job.tiny else recipe.training.batch_size
    setting = small_settings()["swin"] if job.tiny else steps.paper_setting(recipe)
    model = steps.made(content, setting, "alignformer", compiled=False).train()
    inputs, _ = steps.batch(setting._replace(batch_size=1))
    flops = sum(part.flops for part in by_part(model, inputs))
    backend, name = job.backend if compiled else None, measuring.describe(device)

    def measure(batch_size: int, largest: bool) -> tuple[int, int]:
        """Peak bytes of a step, and bytes between steps."""
        torch._dynamo.reset()
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        inputs, truth = steps.batch(setting._replace(batch_size=batch_size))
        arguments = inputs | truth
        step = steps.training_step(model, recipe.training, EPOCHS * SAMPLES // batch_size, backend)
        began = time.monotonic()
        for _ in range(1 if job.tiny else WARM_UP):
            step(**arguments)
        start = time.monotonic() - began
        times = []
        while len(times) < (1 if job.tiny else STEPS) and (len(times) < 3 or job.left > 0):
            times.append(measuring.seconds(lambda: step(**arguments), device))
        rate, peak = batch_size / median(times), measuring.peak_memory(device)
        job.record(
            "gpu.csv",
            device,
            **{"recipe": "paper", "compiled": compiled, "batch": batch_size, "largest": largest},
            **{"images/s": round(rate, 1), "lowest": round(batch_size / max(times), 1)},
            **{"highest": round(batch_size / min(times), 1), "GFLOPs of a forward pass": round(flops / 1e9, 1)},
            **{"MFU": mfu(flops, rate, name), "peak GiB": round(peak / 2**30, 2)},
            **{"hours of RefCOCO": round(hours(rate), 2), "steps": len(times), "seconds to start": round(start, 1)},
            precision=recipe.training.precision,
        )
        return peak, torch.cuda.memory_allocated() if device.type == "cuda" else 0

    peak, held = measure(batch, largest=False)
    whole = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 3 * peak
    bigger = fitting(batch, peak, held, whole)
    while bigger > batch and job.left > 0:
        try:
            measure(bigger, largest=True)
            return
        except torch.OutOfMemoryError:
            print(f"batch {bigger} does not fit", flush=True)
        bigger = bigger * 9 // 10
    print(f"no batch above {batch} was measured", flush=True)


def fitting(batch: int, peak: int, held: int, whole: int) -> int:
    """The batch that takes `FILLED` of `whole` bytes, where `batch` has this peak above what is held between steps."""
    return int(batch * (FILLED * whole - held) / (peak - held))


def mfu(flops: float, rate: float, name: str) -> float | None:
    """Share of the GPU's peak that training at `rate` images per second uses; None if its peak is not in `PEAKS`."""
    peak = next((peak for part, peak in PEAKS.items() if part in name), None)
    return peak and round(3 * flops * rate / peak, 3)


def hours(rate: float) -> float:
    """Hours of a training on RefCOCO at `rate` images per second, without validation."""
    return EPOCHS * SAMPLES / rate / 3600


def photographs(job: Job) -> None:
    from benchmarks import gpu_photographs

    gpu_photographs.train_and_score(job)


PARTS: dict[str, tuple[Callable[[Job], None], float | None]] = {  # seconds; None: what is left
    "checks": (checks, 90),
    "paper": (partial(paper, compiled=False), 75),
    "paper, compiled": (partial(paper, compiled=True), 180),
    "photographs": (photographs, None),
}

if __name__ == "__main__":
    main()
