"""Training: optimizer, schedule and the loop."""

import copy
import json
import re
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from stages.data import prepared
from stages.runtime import kernels, layout, params
from stages.runtime.params import Training
from stages.runtime.run import Run
from stages.scoring.metrics import METRICS
from stages.scoring.protocols import PROTOCOLS
from stages.setup.optimizer import build_optimizer, orthogonalise, schedule
from stages.tracking import live
from stages.train import loop
from stages.train import training as stage
from stages.train.identity import key
from stages.train.loop import fit
from stages.train.loss_meter import NonFiniteLossError


@pytest.fixture
def training(small_params) -> Training:
    recipe = params.Params.model_validate(small_params).recipes["small"]
    return recipe.training.model_copy(
        update={"epochs": 3, "batch_size": 3, "learning_rate": 5e-3, "warmup": 0.1, "precision": "no"}
    )


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")


def fit_squares(squares, training: Training, model=None, seed: int = 0, log=lambda row, epoch: None):
    model = model or squares.model()
    torch.manual_seed(seed)
    splits = squares.expressions("train"), squares.expressions("val")
    return fit(model, *splits, training, PROTOCOLS["original"], seed, log)


# Optimizer and schedule


def test_every_parameter_is_optimized_exactly_once(squares, training):
    model = squares.model()
    optimized = [
        id(parameter) for group in build_optimizer(model, training).param_groups for parameter in group["params"]
    ]
    assert sorted(optimized) == sorted(id(parameter) for parameter in model.parameters())


def test_norms_biases_and_position_tables_do_not_decay(squares, training):
    model = squares.model()
    training = training.model_copy(update={"weight_decay": 0.07, "learning_rate": 1e-4})
    groups = build_optimizer(model, training).param_groups
    decay = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    assert {group["lr"] for group in groups} == {1e-4}
    exempt = set()
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            table = name in ("relative_position_bias_table", "position_embeddings") or "position" in path.split(".")[-1]
            free = isinstance(module, torch.nn.LayerNorm | torch.nn.BatchNorm2d) or name == "bias" or table
            assert decay[id(parameter)] == (0 if free else 0.07), f"{path}.{name}"
            if table:
                exempt.add(name)
    assert exempt == {"relative_position_bias_table", "position_embeddings", "weight"}


def test_muon_orthogonalises_momentum(squares, training):
    """Linear layers move as with `torch.optim.Muon`, to its bfloat16; all others as with AdamW, to the bit."""
    found, expected = squares.model(), squares.model()
    layers = dict(expected.named_modules()).items()
    linear = {f"{name}.weight" for name, module in layers if isinstance(module, torch.nn.Linear)}
    weights = dict(expected.named_parameters())
    groups = build_optimizer(expected, training).param_groups
    others = [
        {**group, "params": [p for p in group["params"] if p not in {weights[n] for n in linear}]} for group in groups
    ]
    references = [
        torch.optim.AdamW(others, lr=training.learning_rate, fused=True),
        torch.optim.Muon(
            [weights[name] for name in linear],
            lr=training.learning_rate,
            weight_decay=training.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        ),
    ]
    optimizers = [
        (found, [build_optimizer(found, training.model_copy(update={"optimizer": "muon"}))]),
        (expected, references),
    ]
    begin = {name: weight.detach().clone() for name, weight in found.named_parameters()}
    for model, steppers in optimizers:
        torch.manual_seed(1)
        for _ in range(3):
            for parameter in model.parameters():
                parameter.grad = torch.randn(parameter.shape)
            for stepper in steppers:
                stepper.step()
    for name, weight in found.named_parameters():
        moved, reference = weight.detach() - begin[name], weights[name].detach() - begin[name]
        if name in linear:
            assert (moved - reference).norm() < 0.05 * reference.norm(), name
        else:
            assert torch.equal(moved, reference), name


@pytest.mark.parametrize("shape", [(3, 5, 9), (2, 9, 5), (1, 6, 6)])
def test_orthogonalised_matrices_keep_their_singular_vectors(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    core = u.mT @ orthogonalise(matrices) @ v.mT
    values = core.diagonal(dim1=1, dim2=2)
    assert (values > 0.6).all()
    assert (values < 1.3).all()
    torch.testing.assert_close(core, torch.diag_embed(values))


def rates(training: Training, steps: int) -> list[float]:
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=training.learning_rate)
    scheduler = schedule(optimizer, training, steps)
    found = []
    for _ in range(steps + 2):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_the_rate_rises_linearly_then_falls_polynomially(training):
    """20 steps, a fifth of them warm-up, peak 1."""
    training = training.model_copy(update={"learning_rate": 1.0, "warmup": 0.2, "power": 0.9})
    expected = [0.25, 0.5, 0.75, 1.0] + [(1 - k / 16) ** 0.9 for k in range(16)] + [0.0, 0.0]
    assert rates(training, 20) == pytest.approx(expected)


@pytest.mark.parametrize("power", [1.0, 2.0, 0.0])
def test_without_warmup_the_first_step_has_the_full_rate(training, power):
    training = training.model_copy(update={"learning_rate": 3.0, "warmup": 0.0, "power": power})
    found = rates(training, 11)
    assert found[0] == 3.0
    assert found[6] == pytest.approx(3 * (1 - 6 / 11) ** power)
    assert all(later <= earlier for earlier, later in pairwise(found))


def test_one_step_in_all(training):
    assert rates(training.model_copy(update={"learning_rate": 2.0}), 1)[0] == 2.0


# The loop


def test_a_non_finite_loss_names_step_samples_and_rate(squares, training):
    model = squares.model()
    seen, forward = [], model.forward

    def broken(*arguments, **inputs):
        output = forward(*arguments, **inputs)
        if inputs.get("masks") is not None:
            seen.append(inputs["masks"])
            if len(seen) == 2:
                output.loss = output.loss * float("nan")
        return output

    model.forward = broken
    before = {}
    with pytest.raises(NonFiniteLossError) as error:
        fit_squares(squares, training, model, log=lambda row, epoch: before.update(row))
    message = str(error.value)
    assert not before
    assert re.search(r"at step 1\b", message)  # the second: steps count from 0
    assert f"learning rate {training.learning_rate:.3g}" in message
    sampler = loop.OneExpressionPerRef(squares.prepared.split("train"), 0)
    sampler.epoch = 1
    sent_ids = squares.prepared.split("train")["sent_id"].iloc[list(sampler)[3:]].tolist()
    assert f"sent_ids {sent_ids}" in message


def test_a_poisoned_weight_stops_before_it_spreads(squares, training):
    model = squares.model()
    with torch.no_grad():
        model.grouping.weight.weight[0, 0] = float("inf")
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(NonFiniteLossError, match=r"at step 0\b"):
        fit_squares(squares, training, model)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_the_weights_of_the_best_epoch_are_returned(squares, training, monkeypatch):
    """By the metric the recipe names; of equals, the first."""
    scripts = {"mIoU": [0.1, 0.9, 0.9, 0.5], "oIoU": [0.2, 0.3, 0.1, 0.8]}
    summarise = loop.summarise
    for metric, best in (("mIoU", 2), ("oIoU", 4)):
        script = iter(zip(scripts["mIoU"], scripts["oIoU"], strict=True))

        def scripted(scores, protocol, script=script):
            return summarise(scores, protocol) | dict(zip(("mIoU", "oIoU"), next(script), strict=True))

        monkeypatch.setattr(loop, "summarise", scripted)
        model, snapshots = squares.model(), {}

        def keep(row, epoch, model=model, snapshots=snapshots):
            snapshots[epoch] = copy.deepcopy(model.state_dict())

        settings = training.model_copy(update={"epochs": 4, "batch_size": 4, "select_by": metric})
        returned, history = fit_squares(squares, settings, model, log=keep)
        assert [row["val_mIoU"] for row in history] == scripts["mIoU"]
        for name, value in returned.state_dict().items():
            assert torch.equal(value, snapshots[best][name]), name
        assert any(not torch.equal(value, snapshots[1][name]) for name, value in snapshots[best].items())


def test_the_average_of_the_weights_is_validated_and_kept(squares, training, monkeypatch):
    """a_1 = w_1, then a_t = decay a_(t-1) + (1 - decay) w_t, for weights and for the statistics of batch norms."""
    decay, averages, validated = 0.7, [], []
    model, score = squares.model(), loop.score
    step = torch.optim.lr_scheduler.LambdaLR.step

    def stepping(scheduler, *arguments):
        step(scheduler, *arguments)
        if scheduler.last_epoch:  # torch makes a step of its own at the start
            weights = {name: value.double().clone() for name, value in model.state_dict().items()}
            before = averages[-1] if averages else weights
            averages.append({name: decay * before[name] + (1 - decay) * value for name, value in weights.items()})

    def scoring(scored, *arguments):
        validated.append(copy.deepcopy(scored.state_dict()))
        return score(scored, *arguments)

    monkeypatch.setattr(torch.optim.lr_scheduler.LambdaLR, "step", stepping)
    monkeypatch.setattr(loop, "score", scoring)
    monkeypatch.setattr(loop, "summarise", lambda *_: {**dict.fromkeys(METRICS, 0.0), "mIoU": len(validated) / 10})
    kept, _ = fit_squares(squares, training.model_copy(update={"averaging": decay}), model)
    steps = len(averages) // training.epochs
    for found, expected in zip(
        [*validated, kept.state_dict()], [*averages[steps - 1 :: steps], averages[-1]], strict=True
    ):
        for name, value in found.items():
            torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6, msg=name)


def test_history_and_log_get_one_row_per_epoch(squares, training):
    calls = []
    _, history = fit_squares(squares, training, log=lambda row, epoch: calls.append((epoch, row)))
    assert [row["epoch"] for row in history] == [epoch for epoch, _ in calls] == [1, 2, 3]
    for row, (_, logged) in zip(history, calls, strict=True):
        assert {"epoch": row["epoch"], **logged} == row
        assert row["loss"] == pytest.approx(row["mask_loss"] + 0.01 * row["contrastive_loss"], rel=1e-5)


def test_the_loss_of_history_is_the_mean_over_samples(squares, training):
    """With a rate of nearly zero the loss of an epoch is that of its batches, weighted by their sizes."""
    training = training.model_copy(update={"epochs": 1, "learning_rate": 1e-30, "warmup": 0.0, "weight_decay": 0.0})
    model = squares.model(contrastive="none")
    model.config.vision_config.drop_path_rate = 0.0
    for module in model.modules():
        if module.__class__.__name__ in ("Dropout", "SwinDropPath"):
            module.p = module.drop_prob = 0.0
    train = squares.expressions("train")
    sampler = loop.OneExpressionPerRef(train.rows, 0)
    sampler.epoch = 1
    with torch.no_grad():
        batches = [(model.train()(**batch.inputs(model.device)), batch) for batch in train.loader(3, sampler)]
    expected = sum(output.loss.item() * len(batch.rows) for output, batch in batches) / 4
    assert [len(batch.rows) for _, batch in batches] == [3, 1]
    _, history = fit_squares(squares, training, model)
    assert history[0]["loss"] == pytest.approx(expected, rel=1e-5)


def test_gradients_are_clipped_and_every_step_has_the_schedules_rate(squares, training, monkeypatch):
    norms, used = [], []

    def watched(model, settings):
        optimizer = build_optimizer(model, settings)

        def record(*_):
            gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
            norms.append(torch.stack([gradient.norm() for gradient in gradients]).norm().item())
            used.append(optimizer.param_groups[0]["lr"])

        optimizer.register_step_pre_hook(record)
        return optimizer

    monkeypatch.setattr(loop, "build_optimizer", watched)
    training = training.model_copy(update={"clip_norm": 0.01, "warmup": 0.5})
    fit_squares(squares, training)
    assert norms == pytest.approx([0.01] * 6, rel=1e-3)
    assert used == pytest.approx(rates(training, 6)[:6])


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(squares, training):
    training = training.model_copy(update={"epochs": 1})
    results = [fit_squares(squares, training, seed=seed) for seed in (0, 0, 1)]
    (one, history), (two, again), (other, _) = results
    assert history == again
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name]), name
    assert any(not torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize("contrastive", ["none", "pixel", "instance"])
def test_four_squares_are_learnt(squares, training, contrastive):
    training = training.model_copy(update={"epochs": 60, "batch_size": 4, "learning_rate": 1e-2})
    model = squares.model(contrastive=contrastive, contrastive_weight=0.05)
    model, history = fit_squares(squares, training, model)
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    assert max(row["val_mIoU"] for row in history) > 0.6


# The stage


@pytest.fixture
def torch_as_it_was():
    threads = torch.get_num_threads()
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


@pytest.mark.parametrize("contrastive", ["none", "instance"])
def test_variants_draw_the_same_dropout(squares, training, contrastive):
    """Every variant has drawn as much from torch's generator after an epoch, so the next step drops the same."""
    training = training.model_copy(update={"epochs": 1})
    states = []
    for vlba in ("none", "bidirectional"):
        model = squares.model(vlba=vlba, contrastive=contrastive)
        model.frozen = [model.vision]  # drop path draws for each sample, and samples share images only before VLBA
        fit_squares(squares, training, model)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


@pytest.mark.usefixtures("torch_as_it_was")
def test_the_stage_says_and_keeps_what_is_easily_overlooked(squares, small_params, tmp_path, monkeypatch, capsys):
    """Expressions that are cut, and a setting of the user's that changes rounding."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(live.store, "opened", None)
    for name in kernels.rounding_settings():
        monkeypatch.delenv(name)
    small_params["recipes"]["small"]["model"]["max_words"] = 4
    Path("params.yaml").write_text(yaml.safe_dump(small_params))
    instances = squares.prepared.instances.reset_index()
    prepared.write(layout.prepared("scenes"), squares.prepared.expressions, instances, {"name": "scenes"})
    run, settings = Run("scenes", "baseline", 0), params.read()
    determined_by = run, settings.recipes["small"], settings.variants["baseline"], PROTOCOLS["original"]
    without = key(*determined_by)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    stage.train(run, settings, 300.0)
    (note,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note:")]
    assert "more than 4 tokens, whose end the model does not read: 4 in train, 4 in val." in note
    assert "ONEDNN_MAX_CPU_ISA" in note
    config = json.loads((layout.model(*run) / "config.json").read_text())
    assert config["trained_with"] == {"ONEDNN_MAX_CPU_ISA": "SSE41"}
    assert key(*determined_by) != without


@pytest.mark.usefixtures("torch_as_it_was")
def test_the_stage_validates_under_the_protocol_on_every_val_split(squares, small_params, tmp_path, monkeypatch):
    """Under `lavt`, intersection and union are counted on 480 x 480 pixels for any input size; a mix has many vals."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(live.store, "opened", None)
    small_params["evaluation"]["protocol"] = "lavt"
    Path("params.yaml").write_text(yaml.safe_dump(small_params))
    expressions = squares.prepared.expressions.copy()
    val = expressions["split"] == "val"
    expressions.loc[val, "split"] = ["a_val", "b_val", "a_val", "b_val"]
    instances = squares.prepared.instances.reset_index()
    prepared.write(layout.prepared("scenes"), expressions, instances, {"name": "scenes"})
    scored = []

    def watched(*arguments):
        scored.append(score(*arguments))
        return scored[-1]

    score = loop.score
    monkeypatch.setattr(loop, "score", watched)
    run = Run("scenes", "baseline", 0)
    stage.train(run, params.read(), 300.0)

    (scores,) = scored
    assert scores["sent_id"].tolist() == expressions.loc[val, "sent_id"].tolist()
    assert set(scores["height"]) == set(scores["width"]) == {480}
    history = pd.read_csv(layout.history(*run))
    assert history["protocol"].tolist() == ["lavt"]
    assert history["val_oIoU"].tolist() == [scores["intersection"].sum() / scores["union"].sum()]
    assert (layout.model(*run) / "model.safetensors").exists()
