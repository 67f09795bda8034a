"""What the benchmarks of cost compare, and how they write their rows."""

import csv

import pytest
import torch
from transformers import BertConfig, Dinov2Config, SwinConfig

from benchmarks import evaluation, steps, table
from models.alignformer import AlignFormer
from models.configuration import AlignFormerConfig
from stages.runtime import params

TEXT = BertConfig(
    vocab_size=40,
    hidden_size=16,
    intermediate_size=32,
    num_hidden_layers=1,
    num_attention_heads=2,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
)
SWIN = SwinConfig(image_size=32, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4, drop_path_rate=0.0)
DINOV2 = Dinov2Config(image_size=28, hidden_size=16, num_hidden_layers=4, num_attention_heads=2, use_mask_token=False)
SETTINGS = {
    "swin": steps.Setting(SWIN, TEXT, pixel_dim=16, frozen=0, image_size=32, batch_size=2, rounds=1),
    "dinov2": steps.Setting(DINOV2, TEXT, pixel_dim=16, frozen=3, image_size=28, batch_size=2, rounds=1),
}


@pytest.fixture
def content(root) -> params.Params:
    return params.read(root / "tests" / "params.yaml")


@pytest.mark.parametrize("kind", SETTINGS)
def test_the_encoders_alone_compute_what_alignformer_computes_before_any_word_is_read(content, kind):
    """With the same weights: the same words and, before AlignFormer's own norms, the same features of every level."""
    setting = SETTINGS[kind]
    alone = steps.made(content, setting, steps.ALONE, compiled=False).eval()
    model = steps.made(content, setting, "baseline", compiled=False).eval()
    mine = {name: value for name, value in alone.vision.state_dict().items() if "norms" not in name}
    names = [name.removeprefix("swin.") for name in mine]
    loaded = model.vision.encoder.load_state_dict(dict(zip(names, mine.values(), strict=True)), strict=False)
    assert not loaded.missing_keys
    assert all("layernorm" in name for name in loaded.unexpected_keys)
    model.text.load_state_dict(alone.text.state_dict())
    inputs, _ = steps.batch(setting)
    *features, words = alone(**inputs)
    grid = model.vision.embed(inputs["pixel_values"])
    assert len(features) == len(model.vision.dims)
    for level, feature in enumerate(features):
        grid = model.vision.level(level, grid)
        ours = torch.nn.functional.layer_norm(grid.tokens, grid.tokens.shape[-1:], eps=setting.vision.layer_norm_eps)
        torch.testing.assert_close(feature, ours.transpose(1, 2).unflatten(2, grid.size), atol=1e-4, rtol=1e-4)
    ours = model.text(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).last_hidden_state
    torch.testing.assert_close(words, ours)
    trained = {name for name, value in alone.vision.named_parameters() if value.requires_grad and "norm" not in name}
    ours = {
        name for name, value in model.vision.encoder.named_parameters() if value.requires_grad and "norm" not in name
    }
    assert {name.removeprefix("swin.") for name in trained} == ours


@pytest.mark.parametrize("name", [steps.ALONE, "alignformer"])
def test_a_step_reaches_every_trained_parameter_and_drops_its_gradients(content, name):
    model = steps.made(content, SETTINGS["dinov2"], name, compiled=False)
    reached = set()
    for path, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(lambda _, path=path: reached.add(path))
    steps.forward_backward(model, *steps.batch(SETTINGS["dinov2"]), "no")
    left = {path for path, parameter in model.named_parameters() if parameter.requires_grad} - reached
    assert not left
    assert all(parameter.grad is None for parameter in model.parameters())


def test_ratios_are_of_medians_and_their_range_of_rounds():
    assert steps.compared([1.0, 2.0, 4.0], [3.0, 2.0, 6.0]) == {
        steps.ALONE: 2.0,
        "itself": 3.0,
        "ratio": 1.5,
        "lowest": 1.0,
        "highest": 3.0,
        "rounds": 3,
    }


def test_works_take_turns_in_alternating_order():
    order = []
    found = steps.in_turn({name: lambda name=name: order.append(name) for name in "ab"}, rounds=3)
    assert "".join(order) == "ab" + "ba" + "ab" + "ba"
    assert {name: len(times) for name, times in found.items()} == {"a": 3, "b": 3}


def test_inputs_without_sharing_give_the_same_masks():
    torch.manual_seed(0)
    model = AlignFormer(AlignFormerConfig(vision_config=SWIN, text_config=TEXT, pixel_dim=16)).eval()
    inputs = {
        "pixel_values": torch.randn(2, 3, 32, 32),
        "input_ids": torch.tensor([[2, 5, 3, 0], [2, 6, 7, 3]]),
        "attention_mask": torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]]),
        "image_index": torch.tensor([0, 0, 1]),
        "text_index": torch.tensor([1, 0, 1]),
    }
    with torch.no_grad():
        shared = model(**inputs).logits
        _, alone = evaluation.repeated(model, (), inputs)
        assert len(alone["pixel_values"]) == len(alone["input_ids"]) == 3
        torch.testing.assert_close(model(**alone).logits, shared)


def test_rows_are_added_in_the_order_of_the_columns_that_are_there(tmp_path):
    file = tmp_path / "results" / "rows.csv"
    table.append(file, [{"a": 1, "b": "x, y"}])
    table.append(file, [{"b": "z", "a": 2}])
    with file.open(newline="") as stream:
        assert list(csv.reader(stream)) == [["a", "b"], ["1", "x, y"], ["2", "z"]]
    with pytest.raises(ValueError, match=r"rows\.csv has the columns \['a', 'b'\]"):
        table.append(file, [{"a": 1}])
    assert len(file.read_text().splitlines()) == 3


def test_training_steps_train(content):
    model = steps.made(content, SETTINGS["swin"], "alignformer", compiled=False).train()
    inputs, truth = steps.batch(SETTINGS["swin"])
    before = model(**inputs, **truth).loss.item()
    training = content.recipes["paper"].training.model_copy(update={"learning_rate": 1e-2})
    step = steps.training_step(model, training, steps=1000)
    for _ in range(10):
        step(**inputs, **truth)
    assert model(**inputs, **truth).loss.item() < before
