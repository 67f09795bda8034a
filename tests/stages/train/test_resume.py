"""Resume: an interrupted and restarted training computes the same as an undisturbed one."""

import errno
import hashlib
import itertools
import math
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from stages.data import prepared
from stages.data.samplers import OneExpressionPerRef
from stages.data.samples import Reader
from stages.evaluate.evaluation import remove_checkpoints
from stages.runtime import layout, params
from stages.runtime.params import Training
from stages.runtime.run import Run
from stages.runtime.run_lock import RunTakenError, only_trainer
from stages.scoring.protocols import PROTOCOLS
from stages.tracking import live
from stages.train import __main__ as command_of_train
from stages.train import checkpoints as files
from stages.train import identity, loop
from stages.train import training as stage
from stages.train.checkpoints import CheckpointError, Checkpoints
from stages.train.loss_meter import NonFiniteLossError

EPOCHS, STEPS = 3, 2  # of an epoch


class Break(Exception):
    """The error that ends a training."""


@pytest.fixture(autouse=True)
def as_a_training_computes(monkeypatch):
    """On the CPU, and without the sums whose order torch leaves to chance, as `stages.setup.training_setup` sees to."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@dataclass
class Bench:
    """Trains four squares, two a step, as often as asked, always from the same start."""

    squares: object
    training: Training
    folder: Path
    monkeypatch: pytest.MonkeyPatch
    calls: list = field(default_factory=list)

    def checkpoints(self, seconds: float = math.inf, key: str = "a") -> Checkpoints:
        return Checkpoints(self.folder, key, seconds)

    def fit(self, checkpoints: Checkpoints | None = None):
        """A new process would do the same: a fresh model, fresh generators. Every step draws from each of them."""
        self.calls.clear()
        model = self.squares.model(contrastive="instance", contrastive_memory=3)
        forward = model.forward

        def drawing(pixel_values, **inputs):
            if model.training:
                pixel_values = pixel_values * (1 + 0.1 * random.random() * np.random.standard_normal())
            return forward(pixel_values, **inputs)

        model.forward = drawing
        for seed in (random.seed, np.random.seed, torch.manual_seed):
            seed(3)
        splits = self.squares.expressions("train"), self.squares.expressions("val")
        log = lambda row, epoch: self.calls.append((epoch, row))  # noqa: E731
        return loop.fit(model, *splits, self.training, PROTOCOLS["original"], 3, log, checkpoints)

    def fit_until(self, owner: object, name: str, call: int, checkpoints: Checkpoints) -> None:
        """The same, broken off when a function is called for the n-th time."""
        function, calls = getattr(owner, name), itertools.count(1)

        def breaking(*arguments, **named):
            if next(calls) == call:
                raise Break
            return function(*arguments, **named)

        with self.monkeypatch.context() as patch:
            patch.setattr(owner, name, breaking)
            with pytest.raises(Break):
                self.fit(checkpoints)

    def files(self) -> list[str]:
        """Epoch and step of the checkpoints that lie there, the newest first."""
        return ["-".join(path.name.split("-")[:2]) for path in self.checkpoints().newest_first()]


@pytest.fixture
def bench(squares, small_params, tmp_path, monkeypatch) -> Bench:
    recipe = params.Params.model_validate(small_params).recipes["small"]
    changes = {"epochs": EPOCHS, "batch_size": 2, "learning_rate": 5e-3, "warmup": 0.1, "precision": "no"}
    changes |= {"averaging": 0.5, "by_image": True, "optimizer": "muon"}
    return Bench(squares, recipe.training.model_copy(update=changes), tmp_path / "checkpoints", monkeypatch)


@pytest.fixture(scope="module")
def known() -> dict:
    return {}


@pytest.fixture
def whole(bench, known):
    """What a training without a break gives: weights, history, what was logged. Trained once for all tests."""
    if "whole" not in known:
        model, history = bench.fit()
        known["whole"] = model.state_dict(), history, list(bench.calls)
    return known["whole"]


@pytest.fixture
def broken_off(bench, known, tmp_path_factory, capsys) -> Checkpoints:
    """The checkpoints of a training that broke off after the first step of epoch 2. Made once for all tests."""
    if "broken off" not in known:
        bench.fit_until(loop.LossMeter, "add", STEPS + 2, bench.checkpoints(seconds=0))
        known["broken off"] = bench.folder.rename(tmp_path_factory.mktemp("broken") / "off")
    shutil.copytree(known["broken off"], bench.folder)
    capsys.readouterr()
    return bench.checkpoints()


def assert_identical(found, bench, whole):
    model, history = found
    weights, expected, calls = whole
    assert history == expected
    assert bench.calls == calls
    assert model.state_dict().keys() == weights.keys()
    for name, value in model.state_dict().items():
        assert torch.equal(value, weights[name]), name


# Bits


def test_broken_off_at_every_step(bench, whole):
    """Each start makes one step and its checkpoint (after the last step of an epoch, the epoch's), and then breaks."""
    places = []
    for _ in range(EPOCHS * STEPS - 1):
        bench.fit_until(loop.LossMeter, "add", 2, bench.checkpoints(seconds=0))
        places.append(bench.files()[0])
    steps = [(1 + done // STEPS, done % STEPS) for done in range(1, EPOCHS * STEPS)]
    assert places == [f"{epoch:05d}-{step:08d}" for epoch, step in steps]
    assert_identical(bench.fit(bench.checkpoints(seconds=0)), bench, whole)


OWN = params.read(Path(__file__).parents[3] / "params.yaml")


@pytest.mark.parametrize("recipe", OWN.recipes)
def test_every_recipe_of_the_project_goes_on_after_a_break(bench, recipe):
    changes = {"epochs": 2, "batch_size": 2, "precision": "no", "compile": False, "encode_once": False}
    bench.training = OWN.recipes[recipe].training.model_copy(update=changes)
    expected = bench.fit()
    whole = expected[0].state_dict(), expected[1], list(bench.calls)
    bench.fit_until(loop.LossMeter, "add", 4, bench.checkpoints(seconds=0))
    assert_identical(bench.fit(bench.checkpoints()), bench, whole)


@pytest.mark.parametrize("step", [1, 3, 4, 6])
def test_broken_off_far_from_a_checkpoint(bench, whole, step):
    """With checkpoints at the ends of epochs alone, the steps since are made again."""
    bench.fit_until(loop.LossMeter, "add", step, bench.checkpoints())
    assert bench.files() == [f"{epoch:05d}-00000000" for epoch in range((step - 1) // STEPS + 1, 1, -1)]
    assert_identical(bench.fit(bench.checkpoints()), bench, whole)


@pytest.mark.parametrize("owner, name, call", [
    (loop, "summarise", 3),  # while the epoch is validated
    (loop.State, "end_epoch", 2),  # after the row of history was logged
    (loop.State, "content", 5),  # before a checkpoint is written
    (files.os, "fsync", 9),  # while it is written
    (files, "_sync_folder", 5),  # after it
])  # fmt: skip
def test_broken_off_between_steps(bench, whole, owner, name, call):
    bench.fit_until(owner, name, call, bench.checkpoints(seconds=0))
    assert_identical(bench.fit(bench.checkpoints(seconds=0)), bench, whole)


def test_checkpoints_change_no_result_and_after_the_last_epoch_nothing_is_trained(bench, whole, monkeypatch, capsys):
    """The model and the history may be what was not written. Two checkpoints are kept, also at the end."""
    checkpoints = bench.checkpoints(seconds=0)
    assert_identical(bench.fit(checkpoints), bench, whole)
    assert bench.files() == ["00004-00000000", f"00003-{STEPS:08d}"]
    assert {path.suffix for path in checkpoints.folder.iterdir()} == {".pt"}
    capsys.readouterr()
    monkeypatch.setattr(loop.LossMeter, "add", None)
    monkeypatch.setattr(loop, "score", None)
    assert_identical(bench.fit(bench.checkpoints()), bench, whole)
    assert capsys.readouterr().out.startswith("resuming at the end, from ")


def test_what_was_done_is_said_and_its_samples_are_not_loaded_again(bench, broken_off, monkeypatch, capsys):
    read, batch = [], Reader.batch

    def reading(reader, rows):
        if reader.serves_masks:  # for a training step
            read.append(rows)
        return batch(reader, rows)

    monkeypatch.setattr(Reader, "batch", reading)
    bench.fit(broken_off)
    newest = f"{bench.folder}/a/00002-00000001-"
    assert f"resuming at epoch 2, step 1 of {STEPS}, from {newest}" in capsys.readouterr().out
    assert len(read) == EPOCHS * STEPS - STEPS - 1
    sampler = OneExpressionPerRef(bench.squares.prepared.split("train"), 3, by_image=True)
    sampler.epoch = 2
    assert read[0] == list(sampler)[-2:]


# Files


def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(bench, broken_off, whole, caplog, capsys):
    newest, before = broken_off.newest_first()
    damage(newest)
    assert_identical(bench.fit(broken_off), bench, whole)
    assert f"{newest} is damaged" in caplog.text
    assert f"from {before}" in capsys.readouterr().out
    assert not newest.exists()


@pytest.mark.parametrize("harm", ["the end is missing", "empty"])
def test_both_damaged_starts_from_the_beginning(bench, broken_off, whole, caplog, capsys, harm):
    both = broken_off.newest_first()
    for path in both:
        damage(path, harm)
    assert_identical(bench.fit(broken_off), bench, whole)
    assert len(both) == 2 and all(f"{path} is damaged" in caplog.text for path in both)
    assert "starts from the beginning" in caplog.text
    assert "resuming" not in capsys.readouterr().out


def damage(path: Path, harm: str = "one bit") -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes({"one bit": content, "the end is missing": content[:-1], "empty": b""}[harm])


def test_checkpoints_of_another_key_are_removed_and_said_so(bench, broken_off, whole, capsys):
    (bench.folder / "a").rename(bench.folder / "b")
    assert_identical(bench.fit(broken_off), bench, whole)
    output = capsys.readouterr().out
    (line,) = [line for line in output.splitlines() if str(bench.folder / "b") in line]
    assert "removed" in line
    assert "resuming" not in output
    assert not (bench.folder / "b").exists()


def test_what_a_kill_left_half_written_is_removed(bench, broken_off):
    partial = broken_off.folder / files.TEMPORARY
    partial.write_bytes(b"half")
    bench.fit_until(loop.LossMeter, "add", 1, broken_off)
    assert not partial.exists()


def test_a_checkpoint_can_be_read_without_running_code(bench, broken_off):
    content = torch.load(broken_off.newest_first()[0], weights_only=True)
    assert content["progress"]["epoch"] == 2
    parameters = bench.squares.model(contrastive="instance").parameters()
    assert len(content["parts"]["optimizer"]["state"]) == len(list(parameters))


# A disk that is full


class Full:
    """A file on a disk that is full after some kilobytes."""

    def __init__(self, file, number: int):
        self.file, self.number, self.flush = file, number, file.flush

    def write(self, data) -> int:
        if self.file.tell() > 10_000:
            raise OSError(self.number, os.strerror(self.number))
        return self.file.write(data)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_stops_and_leaves_the_last_good_checkpoint(bench, whole, monkeypatch, number):
    start, count = files._Hashing.__init__, itertools.count(1)
    with monkeypatch.context() as patch:
        full_at = lambda self, file: start(self, Full(file, number) if next(count) == 3 else file)  # noqa: E731
        patch.setattr(files._Hashing, "__init__", full_at)
        with pytest.raises(CheckpointError) as error:
            bench.fit(bench.checkpoints(seconds=0))
    newest = bench.checkpoints().newest_first()[0]
    message = str(error.value)
    assert os.strerror(number) in message
    assert f"resumes from {newest}" in message
    assert str(newest.parent / files.TEMPORARY) in message
    needed = re.search(r"needs ([\d.]+) MB", message)
    assert float(needed[1]) == pytest.approx(newest.stat().st_size / 1e6, rel=0.5)
    assert bench.files() == ["00001-00000002", "00001-00000001"]
    assert set(newest.parent.iterdir()) == set(bench.checkpoints().newest_first())
    assert_identical(bench.fit(bench.checkpoints()), bench, whole)


def test_no_room_for_the_first_checkpoint(bench, monkeypatch):
    start = files._Hashing.__init__
    monkeypatch.setattr(files._Hashing, "__init__", lambda self, file: start(self, Full(file, errno.ENOSPC)))
    with pytest.raises(CheckpointError, match="starts from the beginning"):
        bench.fit(bench.checkpoints(seconds=0))


def test_a_signal_while_a_checkpoint_is_written_is_still_that_signal(bench, whole, monkeypatch):
    """torch has other words for any exception there."""
    calls = itertools.count(1)

    class Interrupted:
        def __init__(self):
            self.hash = hashlib.sha256()

        def update(self, data):
            if next(calls) == 200:
                raise KeyboardInterrupt
            self.hash.update(data)

        def hexdigest(self):
            return self.hash.hexdigest()

    with monkeypatch.context() as patch:
        patch.setattr(files, "hashlib", SimpleNamespace(sha256=Interrupted, file_digest=hashlib.file_digest))
        with pytest.raises(KeyboardInterrupt):
            bench.fit(bench.checkpoints(seconds=0))
    assert not (bench.checkpoints().folder / files.TEMPORARY).exists()
    assert_identical(bench.fit(bench.checkpoints()), bench, whole)


# A loss that is not finite


def test_no_checkpoint_of_a_step_whose_loss_is_unknown(bench, monkeypatch):
    """As on a GPU, where losses are fetched several steps at once."""
    broken_at = 3
    losses = loop.LossMeter
    seen = itertools.count(1)

    class Patient(losses):
        def __init__(self, state, device):
            super().__init__(state, device)
            self.patience = 2

        def add(self, output, batch):
            if next(seen) == broken_at:
                output.loss = output.loss * math.nan
                self.sent_ids = batch.sent_ids.tolist()
                Patient.culprit = self.sent_ids
            super().add(output, batch)

    monkeypatch.setattr(loop, "LossMeter", Patient)
    with pytest.raises(NonFiniteLossError) as error:
        bench.fit(bench.checkpoints(seconds=0))
    assert f"at step {broken_at - 1}," in str(error.value)
    assert f"sent_ids {Patient.culprit}" in str(error.value)
    assert bench.files() == ["00002-00000000", "00001-00000002"]


# What determines a run


@pytest.fixture
def place(squares, small_params, tmp_path, monkeypatch) -> Run:
    """A run that the stage can train here: parameters and a prepared dataset in the working folder, no MLflow."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(live.store, "opened", None)
    small_params["recipes"]["small"]["training"].update(epochs=2, batch_size=2)
    Path("params.yaml").write_text(yaml.safe_dump(small_params))
    instances = squares.prepared.instances.reset_index()
    prepared.write(layout.prepared("scenes"), squares.prepared.expressions, instances, {"name": "scenes"})
    threads = torch.get_num_threads()
    yield Run("scenes", "alignformer", 0)
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


def test_the_key_changes_with_everything_that_determines_the_run(place, monkeypatch, tmp_path):
    settings, weights, code = params.read(), tmp_path / "weights", tmp_path / "project"
    small, pretrained = settings.recipes["small"], settings.recipes["photographs"].model_dump()
    longer = small.model_copy(update={"training": small.training.model_copy(update={"epochs": 6})})
    pretrained["model"]["text"]["weights"] = str(weights)
    pretrained = params.Recipe.model_validate(pretrained)
    make_parent(weights / "model.safetensors").write_bytes(b"1")
    for name in identity.SOURCES:
        source, copy = identity.PROJECT / name, make_parent(code / name)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, copy)

    def key(recipe=small, variant="alignformer", run=place, protocol="original") -> str:
        return identity.key(run, recipe, settings.variants[variant], PROTOCOLS[protocol])

    assert re.fullmatch(r"[0-9a-f]{16}", key())
    keys = [key(), key(longer), key(pretrained), key(variant="vlba"), key(protocol="lavt")]
    keys += [key(run=place._replace(seed=1)), key(run=place._replace(dataset="refcoco"))]
    for processes, device in ((2, "cpu"), (1, "cuda")):
        with monkeypatch.context() as patch:
            there = SimpleNamespace(num_processes=processes, device=torch.device(device))
            patch.setattr(identity, "here", lambda there=there: there)
            keys.append(key())
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "0.1")
        keys.append(key())
    (weights / "model.safetensors").write_bytes(b"2")
    keys.append(key(pretrained))
    monkeypatch.setattr(identity, "PROJECT", code)
    assert key() == keys[0]
    for changed in (
        layout.prepared("scenes") / "instances.parquet",
        make_parent(layout.prepared("scenes") / "refer" / "1.png"),
        *(code / name for name in ("models/vlba.py", "stages/train/loop.py", "stages/data/samples.py")),
    ):
        with changed.open("ab") as file:
            file.write(b"#")
        keys.append(key())
    assert len(set(keys)) == len(keys)


def make_parent(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


# The stage


def outputs(run: Run) -> tuple[str, str]:
    files = layout.model(*run) / "model.safetensors", layout.history(*run)
    return tuple(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)


@contextmanager
def files_limited_to(size: int):
    """The system refuses to make a file larger, as it would on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_model_that_cannot_be_written_is_written_by_the_next_start(place, monkeypatch, capsys):
    stage.train(place, params.read(), 300.0)
    expected = outputs(place)
    write = stage.write

    def limited(*arguments):
        with files_limited_to(100_000):
            write(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(stage, "write", limited)
        with pytest.raises(stage.OutputError, match="Nothing is lost") as error:
            stage.train(place, params.read(), 300.0)
    assert str(layout.model(*place)) in str(error.value)
    assert not layout.model(*place).exists()
    assert not layout.history(*place).exists()
    capsys.readouterr()
    stage.train(place, params.read(), 300.0)
    assert "resuming at the end" in capsys.readouterr().out
    assert outputs(place) == expected


def test_a_system_that_refuses_a_checkpoint_ends_the_command_with_code_1(place, monkeypatch, capsys):
    command = ["stages.train", "--dataset", place.dataset, "--variant", place.variant, "--seed", str(place.seed)]
    monkeypatch.setattr(sys, "argv", command)
    with files_limited_to(1_000_000), pytest.raises(SystemExit) as end:
        command_of_train.main()
    assert str(end.value.code).startswith("error: the checkpoint checkpoints/scenes-alignformer-0/")
    assert os.strerror(errno.EFBIG) in end.value.code


@pytest.mark.programs
def test_what_a_killed_command_trained_goes_on_and_a_second_trainer_is_refused(place, small_params, root, capsys):
    """The real command, killed by the system in its third epoch or later; another process goes on."""
    small_params["recipes"]["small"]["training"].update(epochs=5, batch_size=1)
    Path("params.yaml").write_text(yaml.safe_dump(small_params))
    folder, holder = layout.checkpoints(*place), Path("checkpoints/scenes-alignformer-0.holder")
    command = [sys.executable, "-m", "stages.train", "--dataset", "scenes", "--variant", "alignformer", "--seed", "0"]
    environment = os.environ | {"PYTHONPATH": str(root), "MLFLOW_TRACKING_URI": os.devnull, "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen([*command, "--checkpoint-seconds", "0"], env=environment, stdout=subprocess.PIPE)
    try:
        while not any(folder.glob("*/0000[3-9]-*.pt")):
            assert first.poll() is None
            time.sleep(0.005)
        with pytest.raises(RunTakenError) as refusal:
            stage.train(place, params.read(), 300.0)
        assert first.poll() is None
    finally:
        first.send_signal(signal.SIGKILL)
        first.communicate()
    assert f"process {first.pid} on {socket.gethostname()}, since 20" in str(refusal.value)
    assert holder.exists()
    assert not layout.model(*place).exists()
    assert any(folder.rglob("*.pt"))

    capsys.readouterr()
    stage.train(place, params.read(), 300.0)
    said = capsys.readouterr().out
    assert re.search(r"^resuming at epoch [345], step \d of 4, from checkpoints/scenes-alignformer-0/", said, re.M)
    with only_trainer(folder):
        remove_checkpoints(folder)  # as the evaluation does, while the run is trained anew
    assert any(folder.rglob("*.pt"))
    remove_checkpoints(folder)
    assert not folder.exists()
    assert not holder.exists()
    resumed = outputs(place)
    stage.train(place, params.read(), 300.0)
    assert outputs(place) == resumed


HOLDING = """
import os, signal, sys
from pathlib import Path
from stages.runtime.run_lock import only_trainer
with only_trainer(Path(sys.argv[1])):
    if os.fork() == 0:
        signal.pause()
    print("held", flush=True)
    signal.pause()
"""


@pytest.mark.programs
def test_a_lock_ends_with_the_process_that_took_it(tmp_path, root):
    """Also where a child lives on, as a loader's worker does for some seconds."""
    environment = os.environ | {"PYTHONPATH": str(root)}
    command = [sys.executable, "-c", HOLDING, str(tmp_path / "run")]
    holder = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunTakenError, match=f"run is being trained already, by process {holder.pid} on "):
            only_trainer(tmp_path / "run").__enter__()
        holder.kill()
        holder.wait()
        with only_trainer(tmp_path / "run"):
            assert f"process {os.getpid()} " in (tmp_path / "run.holder").read_text()
    finally:
        os.killpg(holder.pid, signal.SIGKILL)
        holder.stdout.close()
