"""Part `photographs` of `benchmarks.gpu`: every variant with five seeds, and as many epochs as fit into the time.

One such model does not keep a GPU busy: its steps are short, and a CPU core takes longer to start their kernels than
the GPU to run them. So several processes train at once on the one GPU. They first measure together how long steps take,
and the number of epochs follows, the same for all runs. What the experiment's `epochs` says is not used.

The rest is as `stages.train` has it: the same initial weights, samples in the same order, losses, optimizer, schedule,
averaging; the epoch with the best mIoU on val is kept. Otherwise it differs in three ways. Only `VALIDATIONS` epochs
are scored on val, evenly spread, the last among them. Vision levels that compute the same in every training run once
for each image, in float32. Nothing is compiled.

Rows have the mIoU under the experiment's protocol. A run is scored as soon as it ends, all variants with one seed
before those with the next.
"""

import math
import os
import sys
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from statistics import mean, median
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from benchmarks import packed, steps
from benchmarks.packed import Packed, Samples
from models.alignformer import AlignFormer
from models.encoders import EncodedImages, Grid
from models.frames import Stretch
from stages.scoring.grid import cuts, on_grid
from stages.scoring.protocols import PROTOCOLS
from stages.setup import build
from stages.setup.optimizer import moving_average

if TYPE_CHECKING:
    from benchmarks.gpu import Job

AT_ONCE = 8  # processes
TIMED, WARM_UP = 20, 5  # steps that are measured, and those before them
VALIDATIONS = 8  # of a training, at most
KEPT_BACK = 0.2  # share of the time, since a measured step may be faster than a later one
ENCODED_AT_ONCE = 64  # images
TINY = 12  # expressions of a split and of an epoch


class Run(NamedTuple):
    """One training."""

    variant: str
    seed: int


class Pace(NamedTuple):
    """Seconds: to build a model, of a step, to score an expression."""

    build: float
    step: float
    score: float


class Trained(NamedTuple):
    """What became of a run.

    Attributes:
        seconds: of its training.
        loss: mean of its last epoch.
        on_val: epoch -> mIoU on val, of those that were scored.
        scores: (dataset, split) -> mIoU of the epoch that was kept.
    """

    run: Run
    seconds: float
    loss: float
    on_val: dict[int, float]
    scores: dict[tuple[str, str], float]

    @property
    def kept(self) -> int:
        """The epoch."""
        return best(self.on_val)


class LateError(Exception):
    """The time was over before the end of a training."""


@dataclass(eq=False)
class Worker:
    """What a process trains with.

    Attributes:
        barrier: where all workers wait for each other.
        levels: what the first vision levels made of every image, on the device; more are added when a model needs them.
    """

    given: Packed
    barrier: Barrier
    device: torch.device
    levels: list[Grid] = field(default_factory=list)

    def __post_init__(self):
        self.given = self.given.to(self.device)

    @property
    def recipe(self) -> packed.Section:
        return self.given.settings.recipes[self.given.settings.experiment.recipe]

    def model(self, run: Run) -> AlignFormer:
        """A model before its training."""
        torch.manual_seed(run.seed)
        made = build.model(self.recipe, self.given.settings.variants[run.variant], None)  # no tokenizer is read
        made.to(self.device)
        if self.recipe.training.channels_last:
            made.to(memory_format=torch.channels_last)
        if made.frozen_levels > len(self.levels):
            self.levels = self.encode(made)
        return made

    def encode(self, model: AlignFormer) -> list[Grid]:
        """What the model's fixed levels make of every image."""
        parts = [
            model.encode_images(pixels.to(self.device), model.frozen_levels).grids
            for pixels in self.given.pixels.split(ENCODED_AT_ONCE)
        ]
        grids = []
        for of_level in zip(*parts, strict=True):
            prefixes = [grid.prefix_tokens for grid in of_level if grid.prefix_tokens is not None]
            tokens = torch.cat([grid.tokens for grid in of_level])
            grids.append(Grid(tokens, of_level[0].size, torch.cat(prefixes) if prefixes else None))
        return grids

    def arguments(self, model: AlignFormer, samples: Samples, rows: torch.Tensor, masks: bool) -> dict:
        """Arguments of the model: some rows, each with an image of its own."""
        images = samples.image[rows]
        if model.frozen_levels:
            grids = [grid.of(images) for grid in self.levels[: model.frozen_levels]]
            height, width = self.given.pixels.shape[-2:]
            pixel_values = EncodedImages(grids, (height, width))
        else:
            pixel_values = self.given.pixels[images.cpu()].to(self.device)
        return {
            "pixel_values": pixel_values,
            "input_ids": samples.input_ids[rows],
            "attention_mask": samples.attention_mask[rows],
            **({"masks": samples.masks[rows], "image_ids": images} if masks else {}),
        }

    def train(self, run: Run, epochs: int, deadline: float) -> tuple[AlignFormer, float, dict[int, float]]:
        """The model that is kept, the mean loss of the last epoch, and the mIoU on val by epoch.

        Raises:
            LateError: it is not finished at the deadline.
            FloatingPointError: a loss is not finite.
        """
        training, orders = self.recipe.training, self.given.orders[run.seed]
        model = self.model(run).train()
        average = moving_average(model, training.averaging) if training.averaging else None
        step = steps.training_step(model, training, epochs * math.ceil(orders.shape[1] / training.batch_size))
        scored = average.module if average else model
        losses, on_val, kept = [], {}, {}
        for epoch in range(epochs):
            losses = []
            for rows in orders[epoch].split(training.batch_size):
                losses.append(step(**self.arguments(model, self.given.train, rows, masks=True)))
                if average:
                    average.update_parameters(model)
            if not torch.stack(losses).isfinite().all():
                raise FloatingPointError(f"a loss of epoch {epoch + 1} is not finite")
            if time.monotonic() > deadline:
                raise LateError(f"the time was over after epoch {epoch + 1} of {epochs}")
            if epoch + 1 in validated(epochs):
                on_val[epoch + 1] = self.miou(scored, self.given.val)
                if best(on_val) == epoch + 1:
                    kept = {name: value.clone() for name, value in scored.state_dict().items()}
                model.train()
        scored.load_state_dict(kept)
        return scored, torch.stack(losses).mean().item(), on_val

    def pace(self, runs: list[Run]) -> Pace:
        """The pace of this process while others work too: the mean of these runs."""
        training, first = self.recipe.training, next(iter(self.given.scored.values()))
        rows = self.given.orders[0, 0].split(training.batch_size)
        builds, times, scores = [], [], []
        self.barrier.wait()
        for run in runs:
            began = time.monotonic()
            model = self.model(run).train()
            builds.append(time.monotonic() - began)
            step = steps.training_step(model, training, 10_000)
            for number in range(WARM_UP + min(TIMED, len(rows))):
                if number == WARM_UP:
                    self.wait()
                    began = time.monotonic()
                step(**self.arguments(model, self.given.train, rows[number % len(rows)], masks=True))
            self.wait()
            times.append((time.monotonic() - began) / min(TIMED, len(rows)))
            some = torch.arange(min(len(first), self.batch_size), device=self.device)
            began = time.monotonic()
            self.ious(model, first, some)
            scores.append((time.monotonic() - began) / len(some))
        return Pace(mean(builds), mean(times), mean(scores))

    def wait(self) -> None:
        """Until the device has done its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    @property
    def batch_size(self) -> int:
        """Of an evaluation."""
        return self.given.settings.evaluation.batch_size

    def scores(self, model: AlignFormer) -> dict[tuple[str, str], float]:
        """(dataset, split) -> mIoU."""
        return {part: self.miou(model, samples) for part, samples in self.given.scored.items()}

    def miou(self, model: AlignFormer, samples: Samples) -> float:
        batches = torch.arange(len(samples), device=self.device).split(self.batch_size)
        return float(np.concatenate([self.ious(model, samples, rows) for rows in batches]).mean())

    @torch.no_grad()
    def ious(self, model: AlignFormer, samples: Samples, rows: torch.Tensor) -> np.ndarray:
        """The IoU of some rows, as `stages.scoring` has it: (B,) float64."""
        model.eval()
        protocol = PROTOCOLS[self.given.settings.evaluation.protocol]
        frame, cut = Stretch(self.given.pixels.shape[-1]), cuts(protocol.threshold, protocol).item()
        logits = model(**self.arguments(model, samples, rows, masks=False)).logits.float().cpu()
        found = []
        for row, sample in zip(rows.tolist(), logits, strict=True):
            values, truth = on_grid(sample, samples.truths[row], frame, protocol)
            predicted = (values > cut).numpy()
            union = int((predicted | truth).sum())
            found.append(int((predicted & truth).sum()) / union if union else protocol.both_empty)
        return np.array(found)


def validated(epochs: int) -> set[int]:
    """The epochs that are scored on val, from 1."""
    times = min(VALIDATIONS, epochs)
    return {epochs * number // times for number in range(1, times + 1)}


def best(on_val: dict[int, float]) -> int:
    """The first epoch with the highest mIoU."""
    return max(on_val, key=on_val.__getitem__)


worker: Worker | None = None  # of this process


def _start(given: Packed, barrier: Barrier) -> None:
    global worker
    torch.set_num_threads(1)
    worker = Worker(given, barrier, steps.device())


def _pace(runs: list[Run]) -> Pace:
    assert worker is not None
    return worker.pace(runs)


def _trained(run: Run, epochs: int, deadline: float) -> Trained:
    assert worker is not None
    began = time.monotonic()
    model, loss, on_val = worker.train(run, epochs, deadline)
    seconds = time.monotonic() - began
    return Trained(run, seconds, loss, on_val, worker.scores(model))


def train_and_score(job: "Job") -> None:
    """Train and score every run, and record its rows. This process leaves the GPU to its workers.

    Raises:
        FileNotFoundError: a piece of the folder is missing.
        LateError: there is no time for one epoch.
        SystemExit: some runs failed; the message says why, and the rows of the others are there.
    """
    torch.set_num_threads(1)  # more threads would not survive the fork
    given = packed.read(job.folder, TINY if job.tiny else None)
    experiment = given.settings.experiment
    seeds = range(2 if job.tiny else len(given.orders))
    runs = [Run(variant, seed) for seed in seeds for variant in experiment.variants]
    at_once = min(2 if job.tiny else AT_ONCE, os.cpu_count() or 1, len(runs))
    rounds = math.ceil(len(runs) / at_once)
    workers = math.ceil(len(runs) / rounds)
    context = get_context("fork")
    begin = {"mp_context": context, "initializer": _start, "initargs": (given, context.Barrier(workers))}
    reports, by_part = [], defaultdict(list)
    with ProcessPoolExecutor(workers, **begin) as pool:
        paces = list(pool.map(_pace, [runs[: len(experiment.variants)]] * workers))
        epochs = 1 if job.tiny else fitting_epochs(given, paces, rounds, job.left)
        print(f"{len(runs)} runs, {workers} at once, {epochs} epochs; {paces[0]}", flush=True)
        waiting = {pool.submit(_trained, run, epochs, job.deadline): run for run in runs}
        for future in as_completed(waiting):
            try:
                done = future.result()
            except Exception as error:  # whatever it is, the others go on
                reports.append(f"{waiting[future]}: {type(error).__name__}: {error}")
                print(reports[-1], file=sys.stderr, flush=True)
                continue
            for (dataset, split), value in done.scores.items():
                by_part[dataset, split, done.run.variant].append(value)
                job.record(
                    "gpu_photographs.csv",
                    steps.device(),
                    **{"recipe": experiment.recipe, "variant": done.run.variant, "seed": done.run.seed},
                    **{"epochs": epochs, "kept": done.kept, "dataset": dataset, "split": split},
                    **{"expressions": len(given.scored[dataset, split]), "mIoU": round(value, 4)},
                    **{"loss of the last epoch": round(done.loss, 4), "seconds": round(done.seconds, 1)},
                    **{"val mIoU by epoch": "; ".join(f"{at}: {value:.4f}" for at, value in done.on_val.items())},
                    **{"at once": workers, "precision": given.settings.recipes[experiment.recipe].training.precision},
                )
    for (dataset, split, variant), values in by_part.items():
        print(f"{dataset} {split}, {variant}: mIoU {mean(values):.4f}, {min(values):.4f} to {max(values):.4f}")
    if reports:
        raise SystemExit(f"error: {len(reports)} of {len(runs)} runs failed")


def fitting_epochs(given: Packed, paces: list[Pace], rounds: int, seconds: float) -> int:
    """How many epochs each run may take where so many rounds of runs share the seconds.

    Raises:
        LateError: not even one.
    """
    training = given.settings.recipes[given.settings.experiment.recipe].training
    build_one, step, score = (median(values) for values in zip(*paces, strict=True))
    expressions = VALIDATIONS * len(given.val) + sum(map(len, given.scored.values()))
    one = (1 - KEPT_BACK) * seconds / rounds - build_one - score * expressions
    epochs = int(one / (step * math.ceil(given.orders.shape[2] / training.batch_size)))
    if epochs < 1:
        raise LateError(f"{seconds:.0f} s are too few for one epoch of each run, of {one:.0f} s in {rounds} rounds")
    return min(epochs, given.orders.shape[1])
