"""The encoders that run level by level against those of transformers."""

import pytest
import torch
from transformers import (
    AutoConfig,
    BertConfig,
    BertModel,
    ConvNextConfig,
    Dinov2Backbone,
    Dinov2Config,
    ResNetBackbone,
    ResNetConfig,
    SwinBackbone,
    SwinConfig,
)

from models.encoders import SwinLevels, text_encoder, vision_encoder


def swin(**changes) -> SwinConfig:
    values = {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [2, 2, 1], "num_heads": [1, 2, 4]}
    return SwinConfig(**{**values, "window_size": 4, "drop_path_rate": 0.3, "out_indices": (1, 2, 3), **changes})


def randomise(module: torch.nn.Module) -> torch.nn.Module:
    """Every parameter random, so that no zero table or unit norm hides a difference."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return module.eval()


def run(levels, images: torch.Tensor) -> list[torch.Tensor]:
    """Outputs of the levels as transformers returns them, (B, C, h, w)."""
    grid = levels.embed(images)
    outputs = [grid.tokens.transpose(1, 2).unflatten(2, grid.size)]
    for index in range(len(levels.dims)):
        grid = levels.level(index, grid)
        assert grid.tokens.shape == (len(images), grid.size[0] * grid.size[1], levels.dims[index])
        outputs.append(grid.tokens.transpose(1, 2).unflatten(2, grid.size))
    return outputs


@torch.no_grad()
@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("size", [(32, 32), (64, 64), (36, 44), (30, 50), (20, 12)])
def test_swin_by_levels_equals_the_backbone_before_its_norms(size, absolute):
    """Also if the grid is no multiple of the window, the image no multiple of the patch, or a side is odd."""
    if absolute and (size[0] % 4 or size[1] % 4):
        pytest.skip("the library interpolates position tables for whole patches only")
    config = swin(use_absolute_embeddings=absolute)
    levels = randomise(vision_encoder(config))
    backbone = randomise(SwinBackbone(config))
    missing = backbone.swin.load_state_dict(levels.encoder.state_dict(), strict=False)
    assert missing.missing_keys == ["layernorm.weight", "layernorm.bias"]
    assert missing.unexpected_keys == []

    images = torch.randn(2, 3, *size)
    expected = backbone(images, output_hidden_states=True, interpolate_pos_encoding=True).hidden_states
    found = run(levels, images)
    assert len(found) == len(expected) == 4
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_normed_levels_are_the_backbones_feature_maps():
    config = swin()
    levels, backbone = randomise(vision_encoder(config)), randomise(SwinBackbone(config))
    backbone.swin.load_state_dict(levels.encoder.state_dict(), strict=False)
    images = torch.randn(1, 3, 36, 44)
    norms = backbone.hidden_states_norms.values()
    for output, norm, expected in zip(run(levels, images)[1:], norms, backbone(images).feature_maps, strict=True):
        found = norm(output.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("blocks", [4, 6])
@pytest.mark.parametrize("size", [(28, 28), (56, 56), (35, 63), (30, 40)])
def test_dinov2_by_levels_equals_the_backbone_before_its_norm(size, blocks):
    """Also if position embeddings are interpolated, or the number of blocks is not divisible by four."""
    config = Dinov2Config(
        image_size=28,
        patch_size=7,
        hidden_size=8,
        num_hidden_layers=blocks,
        num_attention_heads=2,
        mlp_ratio=2,
        apply_layernorm=False,
        out_indices={4: (0, 1, 2, 3, 4), 6: (0, 2, 4, 5, 6)}[blocks],
    )
    backbone = randomise(Dinov2Backbone(config))
    levels = vision_encoder(config).eval()
    report = levels.encoder.load_state_dict(backbone.state_dict(), strict=False)
    assert report.missing_keys == []
    images = torch.randn(2, 3, *size)
    for one, other in zip(run(levels, images), backbone(images).feature_maps, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("size", [(32, 32), (45, 51)])
def test_resnet_by_levels_equals_the_backbone(size):
    config = ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 8, 12], depths=[1, 2, 1], layer_type="basic", out_indices=(0, 1, 2, 3)
    )
    levels = randomise(vision_encoder(config))
    backbone = ResNetBackbone(config).eval()
    resnet = levels.encoder.state_dict()
    backbone.load_state_dict({name: resnet[name] for name in backbone.state_dict()})
    images = torch.randn(2, 3, *size)
    for one, other in zip(run(levels, images), backbone(images).feature_maps, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_resnet_with_positions_adds_a_vector_by_position_behind_the_stem():
    """On another grid, the vector between two positions is the mean of theirs."""
    config = ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic", position_grid=4)
    levels = randomise(vision_encoder(config))
    for side in (4, 8):
        images = torch.randn(2, 3, 4 * side, 4 * side)
        added = levels.embed(images).tokens - levels.encoder.embedder(images).flatten(2).transpose(1, 2)
        added = added.unflatten(1, (side, side))  # (2, side, side, 4)
        weight = levels.positions.weight[0].permute(1, 2, 0)  # (4, 4, 4)
        torch.testing.assert_close(added[0], added[1], rtol=1e-5, atol=1e-5)
        if side == 4:
            torch.testing.assert_close(added[0], weight, rtol=1e-5, atol=1e-5)
        else:  # rows 3 and 4 lie a quarter to each side of the middle between rows 1 and 2
            middle = (added[0, 3, 0] + added[0, 4, 0]) / 2
            torch.testing.assert_close(middle, (weight[1, 0] + weight[2, 0]) / 2, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_text_encoder_equals_bert_and_has_no_pooler():
    config = BertConfig(vocab_size=11, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16)
    text = randomise(text_encoder(config))
    assert not any("pooler" in name for name, _ in text.named_parameters())
    bert = BertModel(config).eval()
    bert.load_state_dict(text.state_dict(), strict=False)
    ids = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0]])
    attention = (ids > 0).long()
    found = text(input_ids=ids, attention_mask=attention).last_hidden_state
    expected = bert(input_ids=ids, attention_mask=attention).last_hidden_state
    torch.testing.assert_close(found, expected)
    alone = bert(input_ids=ids[1:, :2]).last_hidden_state
    torch.testing.assert_close(found[1:, :2], alone, rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["roberta", "distilbert", "electra"])
def test_any_bert_like_text_encoder_gives_one_vector_per_word(kind):
    sizes = {"vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    named = {"vocab_size": 20, "dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32}
    encoder = text_encoder(AutoConfig.for_model(kind, **(named if kind == "distilbert" else sizes))).eval()
    assert not any(name.startswith("pooler") for name, _ in encoder.named_parameters())
    ids = torch.randint(4, 20, (2, 6))
    present = torch.arange(6) < torch.tensor([[6], [4]])
    found = encoder(input_ids=ids, attention_mask=present[:, None, None, :].expand(-1, 1, 6, -1)).last_hidden_state
    alone = encoder(input_ids=ids[1:, :4], attention_mask=torch.ones(1, 4)).last_hidden_state
    assert found.shape == (2, 6, 16)
    torch.testing.assert_close(found[1:, :4], alone, rtol=1e-5, atol=1e-5)


def test_drop_path_is_active_in_training_only():
    levels = SwinLevels(swin(drop_path_rate=0.9))
    images = torch.randn(4, 3, 32, 32)
    torch.manual_seed(0)
    assert not torch.equal(run(levels.train(), images)[-1], run(levels, images)[-1])
    assert torch.equal(run(levels.eval(), images)[-1], run(levels, images)[-1])


def test_an_unknown_kind_of_vision_encoder_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'convnext'.*swin"):
        vision_encoder(ConvNextConfig())
