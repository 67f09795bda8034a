"""Several processes: the same batches, losses, gradients, weights and scores as one."""

import io
import json
import multiprocessing
import os
import pickle
import socket
import subprocess
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate.state import AcceleratorState
from accelerate.utils import DynamoBackend
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML
from safetensors.torch import load_file
from torch import nn
from torch.multiprocessing import start_processes
from torch.nn.parallel import DistributedDataParallel
from transformers import ResNetConfig

from benchmarks.clones import ENVIRONMENT, tiny
from models import losses
from models.alignformer import AlignFormer
from models.parallel import BatchPart, GlobalBatchNorm2d, PartAware, convert_batch_norm, gathered, set_part
from stages.data.samplers import BatchParts, OneExpressionPerRef
from stages.data.samples import Expressions
from stages.evaluate import evaluation
from stages.prepare import preparation
from stages.runtime import layout, params, processes
from stages.runtime.params import Training
from stages.runtime.processes import ProcessShare
from stages.runtime.run import Run
from stages.scoring.protocols import PROTOCOLS
from stages.scoring.score import score
from stages.tracking import live
from stages.train import loop
from stages.train import training as stage
from stages.train.__main__ import main as train
from stages.train.loop import fit
from tests.project import clone

VARIANTS = {
    "baseline": {"vlba": "none", "contrastive": "none"},
    "text_to_pixel": {"vlba": "text_to_pixel", "contrastive": "none"},
    "pixel_to_text": {"vlba": "pixel_to_text", "contrastive": "none"},
    "vlba": {"vlba": "bidirectional", "contrastive": "none"},
    "vlba_pixel": {"vlba": "bidirectional", "contrastive": "pixel"},
    "alignformer": {"vlba": "bidirectional", "contrastive": "instance"},
}
RUN = Run("scenes", "alignformer", 0)
CASES = [*((name, "resnet") for name in VARIANTS), ("alignformer", "swin")]

# What is run, by one process and by several


@dataclass
class Job:
    """Models to fit on `train`, and one to score `train` with."""

    train: Expressions
    val: Expressions
    training: Training
    models: dict[tuple[str, str], AlignFormer]

    def __call__(self) -> dict:
        norm = normalised()
        fitted = {case: self.fit(model) for case, model in self.models.items()}
        scores = self.scores(next(iter(self.models.values())))
        return {"fitted": fitted, "scores": scores, "norm": norm, "losses": all_losses()}

    def fit(self, model: AlignFormer) -> dict:
        """History, gradients of every step after clipping, and final weights."""
        gradients, optimizer = [], loop.build_optimizer

        def watched(model, settings):
            made = optimizer(model, settings)
            named = dict(model.named_parameters())
            made.register_step_pre_hook(
                lambda *_: gradients.append({n: p.grad.clone() for n, p in named.items() if p.grad is not None})
            )
            return made

        loop.build_optimizer = watched
        calls = []
        try:
            model, history = fit(
                model, self.train, self.val, self.training, PROTOCOLS["original"], 0, lambda *row: calls.append(row)
            )
        finally:
            loop.build_optimizer = optimizer
        weights = {name: value.clone() for name, value in model.state_dict().items()}
        return {"history": history, "gradients": gradients, "weights": weights, "calls": len(calls)}

    def scores(self, model: AlignFormer) -> list[pd.DataFrame]:
        """With batches of 1 to 4: their number is odd and even, and below that of processes."""
        return [
            score(model, part, PROTOCOLS["original"], size)
            for part in (self.train, self.val)
            for size in (1, 2, 3, 100)
        ]


def normalised() -> dict[str, torch.Tensor]:
    """Values and gradients of a batch norm in float64, for 7 samples: here the part of this process."""
    torch.manual_seed(0)
    model = Normed().double()
    samples, targets = torch.randn(7, 3, 4, 5, dtype=torch.float64) * 3 + 20, torch.randn(7, 8, dtype=torch.float64)
    share = processes.share()
    if share:
        samples = samples[:5] if share.index == 0 else samples[5:]
        convert_batch_norm(model)
        set_part(model, BatchPart(0 if share.index == 0 else 5, 7))
        model = DistributedDataParallel(model)
    for _ in range(2):
        loss = model(samples, targets)
        loss.backward()
    inner = getattr(model, "module", model)
    found = {f"gradient of {name}": parameter.grad for name, parameter in inner.named_parameters()}
    return found | inner.state_dict() | {"loss": loss.detach()}


def all_losses() -> dict[str, list[torch.Tensor]]:
    """Each loss and its gradients in float64, for 7 samples: gradients of the samples of this process.

    Some samples show one thing, one has an empty mask. With several processes, gradients are summed over them.
    """
    torch.manual_seed(1)
    pixels, centers = torch.randn(7, 4, 5, 6, dtype=torch.float64), torch.randn(7, 6, dtype=torch.float64)
    masks = (torch.rand(7, 4, 5) < 0.4).double()
    masks[1], masks[4] = masks[0], 0
    values, part, share = [pixels, centers, masks, torch.tensor([0, 0, 0, 1, 2, 3, 3])], None, processes.share()
    if share:
        mine = slice(0, 5) if share.index == 0 else slice(5, 7)
        values, part = [value[mine] for value in values], BatchPart(mine.start, 7)
    pixels, centers, masks, image_ids = values
    leaves = pixels.requires_grad_(), centers.requires_grad_()
    similarity = losses.cosine(pixels, centers)
    found = {
        "mask": losses.mask_loss(similarity, masks, 1.0, 1.0, 1.1, part),
        "pixel": losses.pixel_contrast(similarity, masks, 0.1, part),
        "instance": losses.instance_contrast(pixels, centers, similarity, masks, image_ids, 0.1, part),
        "again, with those before": remembered(pixels, centers, similarity, masks, image_ids, part),
    }
    return {
        name: [loss.detach(), *torch.autograd.grad(loss, leaves, retain_graph=True)] for name, loss in found.items()
    }


def remembered(pixels, centers, similarity, masks, image_ids, part) -> torch.Tensor:
    """The instance contrast of a second batch, of other images, that finds the first in a memory."""
    memory, texts = losses.Memory(100), image_ids % 3
    for added in (0, 10):
        loss = losses.instance_contrast(
            pixels, centers, similarity, masks, image_ids + added, 0.1, part, None, texts, memory
        )
    return loss


class Normed(PartAware):
    """A loss that is no mean over samples, of all processes' samples."""

    def __init__(self):
        super().__init__()
        self.before, self.norm, self.after = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Linear(6, 8)

    def forward(self, samples, targets):
        values = self.after(self.norm(self.before(samples)).relu().mean(dim=(2, 3)))
        return ((gathered(values, self.part) * targets).sum(dim=1).exp().sum()).log()


def plain(found: dict) -> dict:
    """What a job found, without anything that only a pickle can hold."""
    return found | {"scores": [table.to_dict("list") for table in found["scores"]]}


def one_of_several(index: int, count: int, port: int, job: bytes, project: Path, folder: Path) -> None:
    become(index, count, port, project)
    found = plain(pickle.loads(job)())
    with redirect_stdout(io.StringIO()) as said:
        evaluation.evaluate(RUN, params.read())
    torch.save(found | {"evaluation": said.getvalue()}, folder / f"{index}.pt")


def what_one_of_several_says(index: int, count: int, port: int, project: Path, folder: Path) -> None:
    """As it ends while it trains."""
    become(index, count, port, project)
    with redirect_stderr(io.StringIO()) as said, pytest.raises(SystemExit) as end:
        train(["--dataset", RUN.dataset, "--variant", RUN.variant, "--seed", str(RUN.seed)])
    (folder / f"{index}.txt").write_text(f"{said.getvalue()}{end.value.code}")


def become(index: int, count: int, port: int, project: Path) -> None:
    """As `accelerate launch` starts the processes of a run, in the project's folder, without MLflow."""
    os.environ |= {"RANK": str(index), "LOCAL_RANK": str(index), "WORLD_SIZE": str(count), "ACCELERATE_USE_CPU": "true"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    live.store.opened = None
    torch.set_num_threads(1)
    os.chdir(project)


def in_processes(count: int, called: Callable, *arguments: object) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.set_forkserver_preload([stage.__name__, evaluation.__name__, __name__])  # imports that they share
    start_processes(called, (count, port, *arguments), nprocs=count, start_method="forkserver")


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")


@pytest.fixture(scope="module")
def job(shared_squares, root) -> Job:
    """7 refs about 2 images in batches of 3, 3 and 1."""
    recipe = params.Params.model_validate(YAML(typ="safe").load(root / "tests" / "params.yaml")).recipes["small"]
    rows = shared_squares.prepared.split("train").iloc[:7]
    return Job(
        train=Expressions(shared_squares.prepared, rows.assign(ref_id=rows["sent_id"]), shared_squares.processor),
        val=shared_squares.expressions("val"),
        training=recipe.training.model_copy(
            update={"epochs": 2, "batch_size": 3, "learning_rate": 1e-3, "precision": "no"}
        ),
        models={case: without_dropout(model_of(shared_squares, *case)) for case in CASES},
    )


def model_of(squares, variant: str, kind: str) -> AlignFormer:
    model = squares.model(**VARIANTS[variant])
    if kind == "resnet":
        model.config.vision_config = ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"
        )
        torch.manual_seed(0)
        model = AlignFormer(model.config)
    return model


def without_dropout(model: AlignFormer) -> AlignFormer:
    for module in model.modules():
        if type(module).__name__ in ("Dropout", "SwinDropPath"):
            module.p = module.drop_prob = 0.0
    return model


@pytest.fixture(scope="module")
def project(root, tmp_path_factory) -> Path:
    """A clone with a tiny prepared dataset."""
    folder = tiny(clone(root, tmp_path_factory.mktemp("project")))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        preparation.prepare("scenes", params.read().datasets["scenes"])
    return folder


@pytest.fixture(scope="module")
def alone(project) -> pd.DataFrame:
    """The history of a run that one process trained."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        patch.setenv("ACCELERATE_USE_CPU", "true")
        patch.setattr(live.store, "opened", None)
        stage.train(RUN, params.read(), 300.0)
        history = pd.read_csv(layout.history(*RUN))
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)
    return history


@pytest.fixture(scope="module")
def two(job, project, alone, tmp_path_factory) -> list[dict]:
    """What two processes find with the job, and then what they print while they evaluate the model of `alone`."""
    folder = tmp_path_factory.mktemp("two")
    in_processes(2, one_of_several, pickle.dumps(job), project, folder)
    found = [torch.load(folder / f"{index}.pt", weights_only=True) for index in range(2)]
    return [part | {"scores": [pd.DataFrame(table) for table in part["scores"]]} for part in found]


@pytest.fixture(scope="module")
def one(job, two):
    """After `two`, which has the models as they were."""
    return job()


# One process and two


def test_some_batches_are_shared_and_some_are_not(job):
    """Otherwise the tests below would show less than they say."""
    sampler = OneExpressionPerRef(job.train.rows, 0)
    kinds = set()
    for sampler.epoch in (1, 2):
        batches = list(job.train.loader(3, sampler, share=ProcessShare(1, 2)))
        assert [batch.total for batch in batches] == [3, 3, 1]
        kinds |= {(batch.part is None, len(batch.rows)) for batch in batches}
    assert {whole for whole, _ in kinds} == {True, False}
    assert {rows for whole, rows in kinds if not whole} >= {1}


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_two_processes_train_as_one_does(one, two, case):
    """In float32, with no dropout: gradients to 1e-4 of the largest, losses to 1e-4, the same history otherwise."""
    alone, (first, second) = one["fitted"][case], [process["fitted"][case] for process in two]
    assert len(alone["gradients"]) == 6
    for expected, *found in zip(alone["gradients"], first["gradients"], second["gradients"], strict=True):
        largest = max(gradient.abs().max() for gradient in expected.values())
        for gradients in found:
            assert gradients.keys() == expected.keys()
            for name, gradient in gradients.items():
                torch.testing.assert_close(gradient, expected[name], rtol=0, atol=1e-4 * largest, msg=name)
    for expected, found in zip(alone["history"], first["history"], strict=True):
        assert found == pytest.approx(expected, rel=1e-4)
    assert first["history"] == second["history"]


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_two_processes_end_with_the_same_bits_and_one_logs(job, two, case):
    first, second = (process["fitted"][case] for process in two)
    assert first["weights"].keys() == job.models[case].state_dict().keys()
    for name, value in first["weights"].items():
        assert torch.equal(value, second["weights"][name]), name
    assert (first["calls"], second["calls"]) == (2, 0)


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_every_parameter_has_a_gradient_in_every_step(job, one, case):
    """Where one had none, distributed data parallel training would wait for it for ever."""
    names = {name for name, parameter in job.models[case].named_parameters() if parameter.requires_grad}
    assert all(gradients.keys() == names for gradients in one["fitted"][case]["gradients"])


def test_two_processes_count_every_expression_once(one, two, job):
    assert [len(scores) for scores in one["scores"]] == 4 * [len(job.train)] + 4 * [len(job.val)]
    for alone, first, second in zip(one["scores"], *(process["scores"] for process in two), strict=True):
        pd.testing.assert_frame_equal(alone.drop(columns="prediction"), first.drop(columns="prediction"))
        assert alone["prediction"].tolist() == first["prediction"].tolist()
        pd.testing.assert_frame_equal(first, second)


@pytest.mark.parametrize("name", ["mask", "pixel", "instance", "again, with those before"])
def test_a_loss_over_two_processes_is_that_of_one_in_value_and_gradient(one, two, name):
    value, *gradients = one["losses"][name]
    for process in two:
        torch.testing.assert_close(process["losses"][name][0], value, rtol=1e-12, atol=1e-12)
    for place, expected in enumerate(gradients, start=1):
        assert expected.abs().max() > 0
        summed = torch.cat([process["losses"][name][place] for process in two])
        torch.testing.assert_close(summed / len(two), expected, rtol=1e-10, atol=1e-14)


def test_batch_norm_is_that_of_all_samples(one, two):
    """Values, gradients and buffers in float64, where one process has 5 samples and the other 2."""
    for process in two:
        assert process["norm"].keys() == one["norm"].keys()
        for name, value in one["norm"].items():
            torch.testing.assert_close(process["norm"][name], value, rtol=1e-10, atol=1e-12, msg=name)


def test_batch_norm_keeps_its_names_and_is_an_ordinary_one_alone():
    ordinary, ours = nn.BatchNorm2d(4), nn.Sequential(nn.BatchNorm2d(4))
    convert_batch_norm(ours)
    assert type(ours[0]) is GlobalBatchNorm2d
    assert ours[0].state_dict().keys() == ordinary.state_dict().keys()
    samples = torch.randn(3, 4, 5, 5)
    for mode in (True, False):
        assert torch.equal(ours.train(mode)(samples), ordinary.train(mode)(samples))
    assert torch.equal(ours[0].running_var, ordinary.running_var)


def test_two_processes_evaluate_as_one_does_and_speak_with_one_voice(two, project, alone):
    first, second = (process["evaluation"] for process in two)
    assert first.count("protocol original") == 1 and second == ""
    metrics = json.loads((project / layout.metrics(*RUN)).read_text())
    assert metrics["val"]["mIoU"] == alone["val_mIoU"].max()
    scores = pd.read_parquet(project / layout.scores(*RUN))
    assert scores["sent_id"].is_unique
    assert len(scores) == sum(values["expressions"] for name, values in metrics.items() if name != "protocol")


# Which samples are whose


@given(images=st.lists(st.integers(0, 6), min_size=1, max_size=12), count=st.integers(1, 5), data=st.data())
def test_the_parts_of_a_batch_are_the_batch(images, count, data):
    rows = data.draw(st.permutations(range(len(images))))
    images = np.array(images)
    parts = [next(iter(BatchParts([rows], images, ProcessShare(index, count)))) for index in range(count)]
    if len(set(images)) < count:
        assert parts == [(rows, None)] * count
        return
    assert Counter(row for part in parts for row in part.rows) == Counter(rows)
    place = 0
    for part in parts:
        assert part.part == (place, len(rows))
        assert part.rows
        place += len(part.rows)
    owners = [{image for image in images[part.rows].tolist()} for part in parts]
    assert sum(map(len, owners)) == len(set(images))
    assert max(map(len, owners)) - min(map(len, owners)) <= 1


@given(size=st.integers(4, 12), count=st.integers(1, 4))
def test_where_no_image_comes_twice_the_parts_follow_each_other_in_the_batch(size, count):
    rows = list(range(20, 20 + size))
    parts = [next(iter(BatchParts([rows], np.arange(40), ProcessShare(index, count)))).rows for index in range(count)]
    assert parts == [part.tolist() for part in np.array_split(rows, count)]


@pytest.mark.parametrize("count", [1, 2, 3, 20])
def test_every_whole_image_is_one_processes(squares, count):
    expressions = squares.expressions("train")
    everything = [batch.rows for batch in expressions.by_image(3)]
    shares = [[batch.rows for batch in expressions.by_image(3, share=ProcessShare(i, count))] for i in range(count)]
    assert [len(expressions.by_image(3, share=ProcessShare(i, count))) for i in range(count)] == [*map(len, shares)]
    assert sorted(rows for share in shares for rows in share) == sorted(everything)


def test_workers_hand_over_where_a_part_lies(squares):
    expressions = squares.expressions("train")
    for index, workers in ((0, 0), (1, 1)):
        (batch,) = expressions.loader(8, workers=workers, share=ProcessShare(index, 2))
        assert (batch.part, batch.total, len(batch.rows)) == ((4 * index, 8), 8, 4)


def test_processes_that_do_not_find_each_other_do_not_start(monkeypatch):
    processes.here()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(processes.NotOneRunError, match="accelerate launch"):
        processes.here()


def test_an_error_in_one_process_ends_all(project, tmp_path):
    """The image is missing for one of them; the other one, which waits for it, says no more than that."""
    instances = pd.read_parquet(project / layout.prepared("scenes") / "instances.parquet")
    rows = pd.read_parquet(project / layout.prepared("scenes") / "expressions.parquet")
    last = rows.loc[rows["split"] == "train", "image_id"].max()
    image = project / instances.loc[instances["image_id"] == last, "image"].iloc[0]
    content = image.read_bytes()
    image.unlink()
    try:
        in_processes(2, what_one_of_several_says, project, tmp_path)
    finally:
        image.write_bytes(content)
    waiting, failed = sorted((path.read_text() for path in tmp_path.iterdir()), key=lambda said: image.name in said)
    assert f"{image.name}, image_id" in failed and "it does not exist" in failed
    assert "of 2 lost another process, whose message says why" in waiting
    assert "Connection closed" not in waiting and image.name not in waiting


# The real command

LAUNCHED = ["accelerate", "launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0", "-m"]


@pytest.mark.programs
def test_a_launched_training_equals_a_plain_one_and_speaks_with_one_voice(project, alone):
    command = [*LAUNCHED, "stages.train", "--dataset", RUN.dataset, "--variant", RUN.variant, "--seed", str(RUN.seed)]
    variables = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": os.devnull}
    done = subprocess.run(command, cwd=project, env={**ENVIRONMENT, **variables}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    output = done.stdout + done.stderr
    assert output.count("epoch 1/1: loss") == 1
    assert "Warning" not in output
    together = pd.read_csv(project / layout.history(*RUN))
    pd.testing.assert_frame_equal(together, alone, rtol=1e-3)
    assert load_file(project / layout.model(*RUN) / "model.safetensors")


# Accelerate's own settings


@pytest.fixture
def fresh_accelerate(monkeypatch):
    """accelerate without the state that other tests left, on the CPU."""
    AcceleratorState._reset_state(True)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    yield
    AcceleratorState._reset_state(True)


@pytest.mark.usefixtures("fresh_accelerate")
def test_the_users_settings_of_accelerate_change_nothing(monkeypatch):
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    accelerator = processes.accelerator("no")
    assert accelerator.gradient_accumulation_steps == 1
    assert accelerator.state.dynamo_plugin.backend == DynamoBackend.NO
    assert accelerator.mixed_precision == "no"
    model = nn.Linear(2, 2)
    assert accelerator.prepare(model) is model


@pytest.mark.usefixtures("fresh_accelerate")
@pytest.mark.parametrize("engine", ["DEEPSPEED", "FSDP", "MEGATRON_LM", "PARALLELISM_CONFIG"])
def test_another_engine_of_accelerate_is_refused(monkeypatch, engine):
    monkeypatch.setenv(f"ACCELERATE_USE_{engine}", "true")
    with pytest.raises(processes.AccelerateSettingsError, match=f"ACCELERATE_USE_{engine}"):
        processes.here()


@pytest.mark.usefixtures("fresh_accelerate")
def test_fp16_without_a_gpu_is_refused():
    with pytest.raises(processes.AccelerateSettingsError, match="fp16 needs a GPU"):
        processes.accelerator("fp16")
