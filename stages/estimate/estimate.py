"""The cost of a training, measured in a few steps whose results are discarded."""

import math
from collections.abc import Iterable
from statistics import median
from typing import NamedTuple

import torch
from accelerate import Accelerator

from models.costs import CostPart, by_part
from stages.data import samples
from stages.data.samplers import OneExpressionPerRef
from stages.data.samples import Batch, Expressions
from stages.estimate.measuring import describe, peak_memory, seconds
from stages.runtime import processes
from stages.runtime.params import Params
from stages.runtime.run import Run
from stages.scoring.score import score
from stages.setup.optimizer import build_optimizer
from stages.setup.training_setup import TrainingSetup, assemble

STEPS = 5  # measured, after one warm-up step
PATIENCE = 30.0  # seconds allowed for steps of whole batches; if they would take longer, smaller batches are measured


class Cost(NamedTuple):
    """The cost of one training step: seconds, peak bytes, and how they were measured."""

    seconds: float
    memory: float
    how: str


def report(run: Run, settings: Params) -> str:
    """The table of a run: parameters and FLOPs by part, memory and seconds of a step, seconds of the whole schedule.

    Raises:
        FileNotFoundError, MissingSplitError: the dataset is not prepared, or lacks train or val.
        ImageError: an image cannot be read.
        WeightsError: pretrained weights are missing.
        NotOneRunError: the command was started as several processes.
    """
    if processes.here().num_processes > 1:
        raise processes.NotOneRunError(
            "an estimate runs in one process: start it without a launcher, as python -m stages.estimate"
        )
    setup = assemble(run, settings)
    model, training, workers = setup.recipe.model, setup.recipe.training, settings.machine.workers
    accelerator = processes.accelerator(training.precision)
    parts = by_part(setup.model.to(accelerator.device), setup.train.one_sample(model.max_words, accelerator.device))
    sampler = OneExpressionPerRef(setup.train.rows, run.seed, training.by_image)
    first, later = loading(setup.train, list(sampler), training.batch_size)
    cost = step_cost(setup, list(sampler), accelerator)
    validation = training.epochs * len(setup.val) * scoring(setup)

    steps = math.ceil(len(sampler) / training.batch_size)
    loads = [first] + [later] * (training.epochs - 1)
    total = validation + sum(steps * with_loading(cost.seconds, load, workers) for load in loads)
    return "\n".join(
        [
            f"{run.dataset}, {run.variant}, seed {run.seed}, recipe {settings.experiment.recipe}, "
            f"{describe(accelerator.device)}, precision {training.precision}: nothing was kept",
            "",
            *table(parts),
            "",
            f"FLOPs of a forward pass: one image of {model.image_size} x {model.image_size} pixels, one expression "
            f"of {model.max_words} tokens.",
            "A multiply-add counts as 2. Matrix products and convolutions count; element-wise work does not.",
            "",
            f"schedule         {training.epochs} epochs of {steps} steps of {training.batch_size} samples",
            f"a step           {cost.seconds:.3f} s, {cost.how}",
            f"peak memory      {cost.memory / 2**30:.2f} GiB in a step, {held(accelerator.device)}",
            f"loading a batch  {first:.3f} s in the first epoch, {later:.3f} s later, "
            + (f"beside the step in {workers} workers" if workers else "before the step"),
            f"validation       {validation:.0f} s in all, {len(setup.val)} expressions after every epoch",
            f"whole schedule   {total:.0f} s = {clock(total)} (h:mm)",
        ]
    )


def loading(train: Expressions, order: list[int], batch_size: int) -> tuple[float, float]:
    """Seconds that one process takes to load a batch: in the first epoch, and later, when images may be cached."""
    batches = [order[at : at + batch_size] for at in range(0, len(order), batch_size)][:STEPS]

    def once() -> float:
        return median(seconds(lambda rows=rows: train[rows]) for rows in batches)

    first, again = once(), once()
    all_images = len(train.reader.file_ids) * train[order[:1]].pixel_values.nbytes
    return first, again if all_images <= samples.PIXEL_MEMORY else first


def step_cost(setup: TrainingSetup, order: list[int], accelerator: Accelerator) -> Cost:
    """The cost of a training step with a whole batch; if that takes too long, extrapolated from two smaller batches.

    The model is compiled on a GPU only: on a CPU, compiling takes longer than all other parts of an estimate.
    """
    training, device = setup.recipe.training, accelerator.device
    if training.channels_last:
        setup.model.to(memory_format=torch.channels_last)
    model, optimizer = accelerator.prepare(setup.model.train(), build_optimizer(setup.model, training))
    compiled = training.compile and device.type == "cuda"
    if compiled:
        model = torch.compile(model)
    note = ", not compiled" if training.compile and not compiled else ""

    def step(batch: Batch) -> None:
        accelerator.backward(model(**batch.inputs(device)).loss)
        accelerator.clip_grad_norm_(setup.model.parameters(), training.clip_norm)
        optimizer.step()
        optimizer.zero_grad()

    def measured(size: int, steps: int) -> tuple[list[float], int]:
        batch = setup.train[order[:size]]
        step(batch)
        return sorted(seconds(lambda: step(batch), device) for _ in range(steps)), peak_memory(device)

    whole = min(training.batch_size, len(order))
    one, low = measured(1, 2)
    affordable = int(PATIENCE / STEPS / median(one))
    if device.type == "cuda" or affordable >= whole:
        times, memory = measured(whole, STEPS)
        how = f"median of {STEPS} steps of {whole} samples, {times[0]:.3f} to {times[-1]:.3f}"
        return Cost(median(times), memory, how + note)
    size = max(2, affordable)
    some, high = measured(size, 2)
    factor = (whole - 1) / (size - 1)
    return Cost(
        median(one) + factor * max(0.0, median(some) - median(one)),
        low + factor * (high - low),
        f"extrapolated, as is the memory, from steps of 1 and {size} samples to {whole}{note}",
    )


def scoring(setup: TrainingSetup) -> float:
    """Seconds that validation takes per expression, measured on as many expressions as `PATIENCE` allows."""
    batch_size = setup.recipe.training.batch_size * 2

    def scored(count: int) -> float:
        rows = setup.val.rows.head(count)
        part = Expressions(setup.dataset, rows, setup.processor, setup.val.frame)
        score(setup.model, part, setup.protocol, batch_size)
        return seconds(lambda: score(setup.model, part, setup.protocol, batch_size), setup.model.device) / len(rows)

    return scored(max(1, min(4 * batch_size, int(PATIENCE / 8 / scored(1)))))


def with_loading(step: float, load: float, workers: int) -> float:
    """Seconds from one step to the next. Workers load during the step; without workers, loading precedes the step."""
    return max(step, load / workers) if workers else step + load


def held(device: torch.device) -> str:
    return "held by torch" if device.type == "cuda" else "resident in the process, libraries included"


def clock(duration: float) -> str:
    """Seconds -> h:mm, rounded up to a whole minute."""
    minutes = math.ceil(duration / 60)
    return f"{minutes // 60}:{minutes % 60:02}"


def table(parts: Iterable[CostPart]) -> list[str]:
    """Lines of a plain table, with a line of sums."""
    parts = [part for part in parts if any(part[1:])]
    parts.append(CostPart("all", *(sum(column) for column in list(zip(*parts, strict=True))[1:])))
    width = max(len(part.name) for part in parts)
    return [
        f"{'part':{width}}  {'parameters':>12}  {'trained':>12}  {'frozen':>12}  {'GFLOPs':>9}  {'share':>6}",
        *(
            f"{part.name:{width}}  {part.parameters:12,}  {part.trained:12,}  {part.parameters - part.trained:12,}  "
            f"{part.flops / 1e9:9.3f}  {part.flops / parts[-1].flops:6.1%}"
            for part in parts
        ),
    ]
