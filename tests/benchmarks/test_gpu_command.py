"""The command for a GPU: what it packs is what the project reads, trains and scores, and all parts run on a CPU."""

import csv
import os
import subprocess
import sys
import time
from collections import Counter
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML
from transformers import BertConfig, BertModel, Dinov2Config, Dinov2Model

from benchmarks import gpu, gpu_photographs, packed
from benchmarks.gpu import Job
from benchmarks.gpu_photographs import Pace, Run, Worker
from models.processing import AlignFormerProcessor
from stages.data import prepared
from stages.data.samples import Expressions
from stages.prepare.preparation import prepare
from stages.runtime import layout
from stages.runtime.params import Params
from stages.scoring.metrics import summarise
from stages.scoring.protocols import PROTOCOLS
from stages.scoring.score import score
from stages.setup import build
from stages.train.loop import fit

COUNTS = {"train": 10, "val": 3, "testA": 2, "testB": 2}
BARE = Path(__file__).parents[1] / "bare"


@pytest.fixture(scope="module")
def place(root, tmp_path_factory) -> Path:
    """A folder with two prepared datasets, two tiny encoders, and all of it packed. Leave it as it is."""
    folder = tmp_path_factory.mktemp("gpu")
    content = YAML(typ="safe").load((root / "tests" / "params.yaml").read_text(encoding="utf-8"))
    content["experiment"].update(variants=["baseline", "alignformer"], evaluate_on=["others"], seeds=[0])
    content["datasets"]["scenes"]["image_counts"] = COUNTS
    content["datasets"]["others"] = {**content["datasets"]["scenes"], "seed": 1}
    model, training = content["recipes"]["small"]["model"], content["recipes"]["small"]["training"]
    model["image_size"] = 56
    model["vision"] = {"kind": "pretrained", "weights": "dinov2", "drop_path": 0.0, "frozen": 2}
    model["text"] = {"kind": "pretrained", "weights": "bert", "frozen": False}
    training.update(epochs=2, batch_size=8, mirror=True, averaging=0.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        torch.manual_seed(0)
        tokenizer = build.word_tokenizer(["the red circle on the left", "the blue cross"], max_words=20)
        text = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        vision = Dinov2Config(image_size=56, hidden_size=16, num_hidden_layers=4, num_attention_heads=2)
        for name, encoder in {"dinov2": Dinov2Model(vision), "bert": BertModel(text)}.items():
            encoder.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / "bert")
        settings = Params.model_validate(content)
        for name in ("scenes", "others"):
            prepare(name, settings.datasets[name])
        packed.write(folder / "packed", settings)
    return folder


@pytest.fixture
def here(place, monkeypatch) -> Path:
    """The same, as the current folder."""
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def worker(here) -> Worker:
    return Worker(packed.read(here / "packed"), get_context("fork").Barrier(1), torch.device("cpu"))


@pytest.fixture
def settings(here) -> Params:
    return Params.model_validate_json((here / "packed" / "data" / "params.json").read_text())


def processor_of(settings: Params) -> AlignFormerProcessor:
    return build.processor(settings.recipes["small"].model, ["not looked at"])


def expressions(settings: Params, split: str) -> Expressions:
    dataset = prepared.read(layout.prepared("scenes"))
    return Expressions(dataset, dataset.split(split), processor_of(settings), mirror=split == "train")


def test_what_is_packed_is_what_the_project_reads(settings, worker):
    """Of each sample of an epoch: pixel values, words and mask."""
    given, train = worker.given, expressions(settings, "train")
    epoch = packed_rows(settings, train, seed=3, epoch=2)
    assert any(row >= len(train) for row in epoch), "no sample is mirrored"
    batch = train[epoch]
    rows = given.orders[3, 1]
    torch.testing.assert_close(given.pixels[given.train.image[rows]], batch.pixel_values[batch.image_index])
    assert torch.equal(given.train.masks[rows], batch.masks)
    for row, text in zip(rows.tolist(), batch.text_index.tolist(), strict=True):
        ours = given.train.input_ids[row][given.train.attention_mask[row].bool()]
        assert ours.tolist() == batch.input_ids[text][batch.attention_mask[text].bool()].tolist()
    assert len(torch.unique(given.train.image)) == len(torch.unique(given.pixels[given.train.image], dim=0))


def packed_rows(settings: Params, train: Expressions, seed: int, epoch: int) -> list[int]:
    from stages.data.samplers import OneExpressionPerRef

    training = settings.recipes["small"].training
    sampler = OneExpressionPerRef(train.rows, seed, training.by_image, training.mirror)
    sampler.epoch = epoch
    return list(sampler)


@pytest.mark.parametrize("variant", ["baseline", "alignformer"])
def test_it_trains_and_scores_as_the_project_does(settings, worker, variant):
    """An epoch gives the project's weights, within rounding; and any weights have the project's mIoU."""
    recipe, protocol = settings.recipes["small"], PROTOCOLS["original"]
    ours, _, on_val = worker.train(Run(variant, seed=1), epochs=1, deadline=float("inf"))
    assert on_val == {1: worker.scores(ours)["scenes", "val"]}
    torch.manual_seed(1)
    begun = build.model(recipe, settings.variants[variant], processor_of(settings).tokenizer)
    train, val = expressions(settings, "train"), expressions(settings, "val")
    training = recipe.training.model_copy(update={"epochs": 1})
    before = {name: value.clone() for name, value in begun.state_dict().items()}
    theirs, _ = fit(begun, train, val, training, protocol, seed=1, log=lambda row, epoch: None)
    after, found = theirs.state_dict(), ours.state_dict()
    moved = torch.cat([(after[name] - before[name]).flatten() for name in after])
    apart = torch.cat([(after[name] - found[name]).flatten() for name in after])
    assert apart.norm() < 0.02 * moved.norm(), f"{apart.norm()} of {moved.norm()}"

    with torch.no_grad():
        for parameter in theirs.parameters():
            if parameter.requires_grad:  # the worker has encoded images by the frozen levels
                parameter.add_(0.3 * torch.randn(parameter.shape))
        theirs.grouping.bias.bias -= theirs(**val[[0, 1, 2]].inputs(theirs.device)).logits.median()  # no mask is empty
    expected = summarise(score(theirs, val, protocol, batch_size=16), protocol)["mIoU"]
    assert 0.01 < expected < 0.9
    scores = worker.scores(theirs)
    assert scores["scenes", "val"] == pytest.approx(expected, abs=1e-3)
    assert set(scores) == {("scenes", "val"), ("scenes", "testA"), ("scenes", "testB"), ("others", "all")}


def test_epochs_fill_the_time_that_is_left(worker):
    """Ten refs or more in two batches or more of 8; two rounds; a fifth is kept back."""
    steps = -(-worker.given.orders.shape[2] // 8)
    expressions = sum(map(len, worker.given.scored.values())) + 8 * len(worker.given.val)
    paces = [Pace(build=5.0, step=0.1, score=0.01)] * 3
    found = gpu_photographs.fitting_epochs(worker.given, paces, rounds=2, seconds=50.0)
    assert found == int((0.8 * 50 / 2 - 5 - 0.01 * expressions) / (0.1 * steps))
    assert gpu_photographs.fitting_epochs(worker.given, paces, 2, seconds=1e6) == packed.EPOCHS
    with pytest.raises(gpu_photographs.LateError, match="10 s are too few"):
        gpu_photographs.fitting_epochs(worker.given, paces, 2, seconds=10.0)


def test_the_kept_weights_are_those_of_the_best_epoch_on_val(worker, monkeypatch):
    """Of three epochs, the second; what is scored on val does not change the third."""
    run, limit = Run("alignformer", 0), float("inf")
    told = iter([0.2, 0.4, 0.3])
    seen = []

    def miou(model, samples):
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return next(told)

    monkeypatch.setattr(worker, "miou", miou)
    kept, _, on_val = worker.train(run, 3, limit)
    assert on_val == {1: 0.2, 2: 0.4, 3: 0.3} and len(seen) == 3
    found = kept.state_dict()
    assert all(torch.equal(found[name], value) for name, value in seen[1].items())
    assert any(not torch.equal(found[name], value) for name, value in seen[2].items())

    monkeypatch.setattr(gpu_photographs, "VALIDATIONS", 1)
    monkeypatch.setattr(worker, "miou", lambda model, samples: 0.5)
    last, _, on_val = worker.train(run, 3, limit)
    assert on_val == {3: 0.5}
    assert all(torch.equal(value, seen[2][name]) for name, value in last.state_dict().items())


def test_epochs_that_are_validated_are_spread_evenly():
    assert gpu_photographs.validated(3) == {1, 2, 3}
    assert gpu_photographs.validated(16) == {2, 4, 6, 8, 10, 12, 14, 16}
    assert len(gpu_photographs.validated(37)) == 8 and max(gpu_photographs.validated(37)) == 37
    assert gpu_photographs.best({2: 0.4, 4: 0.5, 6: 0.5}) == 4


def test_a_training_ends_at_its_deadline(worker):
    with pytest.raises(gpu_photographs.LateError, match="after epoch 1 of 3"):
        worker.train(Run("baseline", 0), epochs=3, deadline=time.monotonic())


def test_other_experiments_are_refused(settings):
    scratch = Params.model_validate(
        settings.model_dump() | {"recipes": settings.model_dump()["recipes"] | {"small": small_of(settings)}}
    )
    with pytest.raises(packed.PackError, match=r"recipe 'small' trains encoders from scratch \(text\)"):
        packed.write(Path("nowhere"), scratch)


def small_of(settings: Params) -> dict:
    recipe = settings.model_dump()["recipes"]["small"]
    recipe["model"]["text"] = {"kind": "bert", "hidden_size": 8, "num_layers": 1, "num_heads": 1, "dropout": 0.0}
    return recipe


# Parts


def test_a_part_that_fails_or_hangs_is_told_apart(monkeypatch, tmp_path, capfd):
    monkeypatch.setattr(gpu, "GRACE", 0.2)
    job = Job(tmp_path, tiny=True, deadline=time.monotonic() + 60)
    assert gpu.apart(lambda job: None, job) is None
    assert gpu.apart(lambda job: sys.exit("error: no room"), job) == "failed with status 1"
    assert "error: no room" in capfd.readouterr().err
    late = job._replace(deadline=time.monotonic() + 0.2)
    assert gpu.apart(lambda job: time.sleep(60), late) == "stopped at its limit"


def test_utilisation_hours_and_the_largest_batch_are_the_closed_form():
    """200 GFLOPs a forward pass, 600 a step, at 400 images a second: 240 TFLOP/s of 989."""
    assert gpu.mfu(200e9, 400.0, "NVIDIA H200") == pytest.approx(240 / 989, abs=5e-4)
    assert gpu.mfu(200e9, 400.0, "another") is None
    assert gpu.hours(40 * 42404 / 3600) == pytest.approx(1.0)
    assert gpu.fitting(32, peak=4 + 32, held=4, whole=100) == 86  # one of each image, 4 held, 90 to take


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_command_names_the_ways_on_a_cpu(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gpu", "--all"])
    with pytest.raises(SystemExit, match="there is no GPU here; add --tiny"):
        gpu.main()


def test_without_a_packed_folder_the_command_says_how_it_is_made(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["gpu", "--all", str(tmp_path), "--tiny"])
    with pytest.raises(SystemExit, match=r"params\.json is missing: make .* by python -m benchmarks\.gpu --pack"):
        gpu.main()


@pytest.mark.programs
def test_every_part_runs_without_other_packages(place, root):
    environment = {**os.environ, "PYTHONPATH": str(BARE)}
    alone = subprocess.run([sys.executable, "-c", "import pandas"], env=environment, capture_output=True, text=True)
    assert "No module named 'pandas'" in alone.stderr
    command = [sys.executable, "-m", "benchmarks.gpu", "--all", str(place / "packed"), "--tiny"]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    tables = {}
    for name in ("gpu_checks", "gpu", "gpu_photographs"):
        with (place / "packed" / f"{name}.csv").open(newline="") as file:
            tables[name] = list(csv.DictReader(file))
    assert Counter(row["model"] for row in tables["gpu_checks"]) == {"swin": 12, "dinov2": 6}
    assert all(0 < float(row["error"]) < 0.25 for row in tables["gpu_checks"])
    speeds = {(row["compiled"], row["largest"]) for row in tables["gpu"]}
    assert len(tables["gpu"]) == len(speeds) == 4
    runs = Counter((row["variant"], row["seed"]) for row in tables["gpu_photographs"])
    assert runs == {(variant, seed): 4 for variant in ("baseline", "alignformer") for seed in "01"}
    assert all(0 <= float(row["mIoU"]) <= 1 and row["date"] and row["machine"] for row in tables["gpu_photographs"])
