"""Pretrained encoders: loaded completely or not at all, and frozen as the recipe asks."""

import re
import shutil
from itertools import combinations
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    BertConfig,
    BertModel,
    Dinov2Config,
    Dinov2Model,
    PreTrainedTokenizerFast,
    SwinConfig,
    SwinModel,
)

from models.alignformer import AlignFormer
from models.encoders import LevelsError
from stages.data import prepared
from stages.runtime import layout, params
from stages.runtime.errors import UserError
from stages.runtime.run import Run
from stages.setup import build, training_setup
from stages.setup.optimizer import build_optimizer
from stages.setup.pretrained import WeightsError

SHARED = Path(__file__).parents[4] / "shared" / "weights"
WORDS = ["the red cup", "a blue box on the left"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Tiny encoders as transformers saves them, with parts that AlignFormer does not use. Leave them as they are."""
    root = tmp_path_factory.mktemp("encoders")
    torch.manual_seed(0)
    tokenizer = build.word_tokenizer(WORDS, max_words=12)
    made = {
        "dinov2": Dinov2Model(
            Dinov2Config(
                image_size=28, patch_size=7, hidden_size=8, num_hidden_layers=5, num_attention_heads=2, mlp_ratio=2
            )
        ),
        "swin": SwinModel(SwinConfig(image_size=32, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4)),
        "text": BertModel(
            BertConfig(
                vocab_size=len(tokenizer),
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=20,
            )
        ),
    }
    for name, model in made.items():
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        model.save_pretrained(root / name)
    tokenizer.save_pretrained(root / "text")
    return {name: root / name for name in made}


def recipe(small_params: dict, vision: Path | str, text: Path | str, frozen: int = 0, text_frozen: bool = False):
    model = small_params["recipes"]["small"]["model"]
    model["image_size"] = 28
    model["vision"] = {"kind": "pretrained", "weights": str(vision), "drop_path": 0.1, "frozen": frozen}
    model["text"] = {"kind": "pretrained", "weights": str(text), "frozen": text_frozen}
    return params.Params.model_validate(small_params).recipes["small"]


def built(recipe: params.Recipe, **variant):
    chosen = {"vlba": "bidirectional", "contrastive": "instance", "contrastive_weight": 0.1, "temperature": 0.05}
    processor = build.processor(recipe.model, ["not looked at"])
    return build.model(recipe, params.Variant(**(chosen | variant)), processor.tokenizer), processor


@torch.no_grad()
@pytest.mark.parametrize("kind", ["dinov2", "swin"])
def test_the_encoders_compute_what_those_of_transformers_do(folders, small_params, kind):
    model, processor = built(recipe(small_params, folders[kind], folders["text"]))
    model.eval()
    words = processor.tokenizer(WORDS[:1], return_tensors="pt")
    text = AutoModel.from_pretrained(folders["text"]).eval()
    assert torch.equal(model.text(**words).last_hidden_state, text(**words).last_hidden_state)

    images = torch.randn(2, 3, 28, 28)
    vision = AutoModel.from_pretrained(folders[kind]).eval()
    vision.layernorm = torch.nn.Identity()
    grid = model.vision.embed(images)
    for stage in range(len(model.vision.dims)):
        grid = model.vision.level(stage, grid)
    expected = vision(images).last_hidden_state
    found = grid.tokens if grid.prefix_tokens is None else torch.cat([grid.prefix_tokens, grid.tokens], dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["dinov2", "swin"])
def test_a_pretrained_model_is_saved_whole_and_needs_its_sources_no_more(folders, small_params, kind, tmp_path):
    model, processor = built(recipe(small_params, folders[kind], folders["text"]))
    model.to(memory_format=torch.channels_last).save_pretrained(tmp_path / "saved")
    processor.save_pretrained(tmp_path / "saved")
    again = type(model).from_pretrained(tmp_path / "saved")
    assert again.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(again.state_dict()[name], value) for name, value in model.state_dict().items())
    assert (
        type(processor).from_pretrained(tmp_path / "saved").tokenizer(WORDS)["input_ids"]
        == (processor.tokenizer(WORDS)["input_ids"])
    )


@pytest.mark.parametrize("kind", ["small", "dinov2", "swin"])
def test_variants_of_a_recipe_start_from_the_same_weights(folders, small_params, kind):
    listed = params.Params.model_validate(small_params)
    chosen = listed.recipes["small"] if kind == "small" else recipe(small_params, folders[kind], folders["text"])
    tokenizer = build.processor(chosen.model, WORDS).tokenizer
    weights = []
    for variant in listed.variants.values():
        torch.manual_seed(3)
        weights.append(build.model(chosen, variant, tokenizer).state_dict())
    assert len(weights) == 6
    for one, other in combinations(weights, 2):
        common = [name for name in one if name in other]
        assert [name for name in common if not torch.equal(one[name], other[name])] == []


@pytest.mark.parametrize(("levels", "frozen", "message"), [
    (9, 0, "variant 'alignformer' with recipe 'small': vlba_levels is 9, but the vision encoder has 4 levels"),
    (4, 5, "variant 'alignformer' with recipe 'small': frozen is 5, but the vision encoder has 4 levels"),
])  # fmt: skip
def test_levels_that_a_pretrained_encoder_lacks_are_an_error(
    folders, small_params, squares, tmp_path, monkeypatch, levels, frozen, message
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training_setup, "set_seed", lambda *arguments, **options: None)
    recipe(small_params, folders["dinov2"], folders["text"], frozen)
    small_params["variants"]["alignformer"]["vlba_levels"] = levels
    instances = squares.prepared.instances.reset_index()
    prepared.write(layout.prepared("scenes"), squares.prepared.expressions, instances, {"name": "scenes"})
    with pytest.raises(UserError, match=message):
        training_setup.assemble(Run("scenes", "alignformer", 0), params.Params.model_validate(small_params))


def test_the_recipe_says_how_fine_the_grids_of_a_plain_vision_transformer_become(folders, small_params, tmp_path):
    small_params["recipes"]["small"]["model"]["pixel_dim"] = 8
    section = recipe(small_params, folders["dinov2"], folders["text"]).model_dump()
    section["model"]["vision"]["upsampling"] = [2, 1, 1, 1]
    model, _ = built(params.Recipe.model_validate(section))
    assert [layer.out_features for layer in model.pixel_decoder.laterals] == [2 * 2 * 8, 8, 8, 8]
    model.save_pretrained(tmp_path)
    assert AlignFormer.from_pretrained(tmp_path).vision.upsampling == [2, 1, 1, 1]
    for wrong in ([2, 1, 1], [1, 2, 1, 1]):
        section["model"]["vision"]["upsampling"] = wrong
        with pytest.raises(LevelsError, match=re.escape(f"upsampling is {wrong}; it needs 4 numbers")):
            built(params.Recipe.model_validate(section))
    section["model"]["vision"] |= {"weights": str(folders["swin"]), "upsampling": [1, 1]}
    with pytest.raises(LevelsError, match=f"upsampling is for a dinov2, and {folders['swin']} is a swin"):
        built(params.Recipe.model_validate(section))


def test_the_tokenizer_is_the_text_encoders_and_cuts_at_the_recipes_words(folders, small_params):
    _, processor = built(recipe(small_params, folders["dinov2"], folders["text"]))
    assert isinstance(processor.tokenizer, PreTrainedTokenizerFast)
    longest = small_params["recipes"]["small"]["model"]["max_words"]
    assert len(processor.tokenizer("cup " * 99, truncation=True)["input_ids"]) == longest


@pytest.mark.parametrize(("frozen", "text_frozen"), [(0, False), (2, False), (4, True)])
def test_every_parameter_is_optimized_once_or_frozen(folders, small_params, frozen, text_frozen):
    small_params["recipes"]["small"]["training"]["encoder_learning_rate"] = 1e-5
    chosen = recipe(small_params, folders["dinov2"], folders["text"], frozen, text_frozen)
    model, _ = built(chosen)
    groups = build_optimizer(model, chosen.training).param_groups
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(rates)
    ends = [0, 2, 3, 4, 5]  # five blocks in four groups
    for name, parameter in model.named_parameters():
        block = int(name.split("layer.")[1].split(".")[0]) if "vision.encoder.encoder.layer." in name else -1
        keeps = (name.startswith("vision.") and frozen and block < ends[frozen]) or (
            name.startswith("text.") and text_frozen
        )
        assert parameter.requires_grad is (not keeps), name
        assert (id(parameter) in rates) is (not keeps), name
        if not keeps:
            encoder = name.startswith(("vision.", "text."))
            assert rates[id(parameter)] == (1e-5 if encoder else chosen.training.learning_rate), name


def test_a_control_freezes_both_encoders_whatever_the_recipe_trains(folders, small_params):
    chosen = recipe(small_params, folders["dinov2"], folders["text"], frozen=1)
    model, _ = built(chosen, vlba="none", contrastive="none", head="plain", frozen_encoders=True)
    trained = {name.split(".")[0] for name, each in model.named_parameters() if each.requires_grad}
    assert trained == {"pixel_decoder", "center", "grouping", "stage_norms"}
    assert model.frozen_levels == 4


def test_frozen_encoders_need_a_recipe_with_pretrained_ones(small_params):
    small_params["variants"]["baseline"]["frozen_encoders"] = True
    with pytest.raises(
        ValueError, match=r"variants\.baseline\.frozen_encoders: recipe 'small' trains encoders from scratch"
    ):
        params.Params.model_validate(small_params)


def test_frozen_parts_stay_as_they_are_and_drop_nothing(folders, small_params):
    model, processor = built(recipe(small_params, folders["swin"], folders["text"], frozen=1, text_frozen=True))
    model.train()
    assert not any(module.training for part in model.frozen for module in part.modules())
    assert model.vision.encoder.encoder.layers[1].blocks.training
    images, words = torch.randn(2, 3, 28, 28), processor.tokenizer(WORDS, padding=True, return_tensors="pt")
    grids = [model.vision.level(0, model.vision.embed(images)).tokens for _ in range(2)]
    assert torch.equal(*grids)
    assert not grids[0].requires_grad
    model(images, words["input_ids"], words["attention_mask"], masks=torch.ones(2, 28, 28), image_ids=torch.arange(2))[
        "loss"
    ].backward()
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad or parameter.grad is None, name


@pytest.mark.parametrize("weights", ["nowhere/at/all", "./nowhere", "../nowhere", "owner/no-such-model", "no-model"])
def test_missing_weights_are_an_error_that_says_what_and_where(folders, small_params, weights):
    with pytest.raises(WeightsError) as error:
        built(recipe(small_params, weights, folders["text"]))
    message = str(error.value)
    assert repr(weights) in message
    assert "config.json" in message
    assert "params.yaml" in message
    assert ("hf download" in message) is (weights in ("owner/no-such-model", "no-model"))
    with pytest.raises(WeightsError, match="tokenizer"):
        built(recipe(small_params, folders["dinov2"], weights))


def test_a_folder_without_weights_or_with_others_is_an_error(folders, small_params, tmp_path):
    vision = shutil.copytree(folders["dinov2"], tmp_path / "dinov2")
    file = vision / "model.safetensors"
    weights = load_file(file)
    name = "encoder.layer.3.mlp.fc1.weight"
    for wrong in (
        {key: value for key, value in weights.items() if key != name},
        weights | {name: weights[name][:3].clone()},
    ):
        save_file(wrong, file, metadata={"format": "pt"})
        with pytest.raises(WeightsError, match=name):
            built(recipe(small_params, vision, folders["text"]))
    file.unlink()
    with pytest.raises(WeightsError, match=r"model\.safetensors"):
        built(recipe(small_params, vision, folders["text"]))


@torch.no_grad()
@pytest.mark.skipif(not SHARED.exists(), reason="the pretrained encoders are not in ../shared/weights")
def test_the_recipe_photographs_reads_its_weights(small_params, root):
    chosen = params.read(root / "experiments/photographs/params.yaml").recipes["photographs"]
    weights = {part: SHARED / Path(getattr(chosen.model, part).weights).name for part in ("vision", "text")}
    model, processor = built(recipe(small_params, weights["vision"], weights["text"], chosen.model.vision.frozen))
    model.eval()
    words = processor.tokenizer(WORDS, padding=True, return_tensors="pt")
    expected = AutoModel.from_pretrained(weights["text"], dtype=torch.float32).eval()(**words).last_hidden_state
    present = words["attention_mask"].bool()
    torch.testing.assert_close(model.text(**words).last_hidden_state[present], expected[present])

    images = torch.randn(1, 3, 98, 126)
    grid = model.vision.embed(images)
    for stage in range(4):
        grid = model.vision.level(stage, grid)
    library = AutoModel.from_pretrained(weights["vision"], dtype=torch.float32).eval()
    library.layernorm = torch.nn.Identity()
    torch.testing.assert_close(grid.tokens, library(images).last_hidden_state[:, 1:], rtol=1e-4, atol=1e-4)
