"""The whole model, in its six variants, with tiny encoders."""

from itertools import combinations

import pytest
import torch
from torch.nn import functional as F
from transformers import BertConfig, BertModel, ConvNextConfig, Dinov2Config, ResNetConfig, SwinConfig

from models.alignformer import AlignFormer
from models.configuration import AlignFormerConfig
from models.encoders import Feature
from models.grouping import CenterEmbedding, Grouping
from models.pixel_decoder import PlainDecoder

VARIANTS = {
    "baseline": ("none", "none"),
    "text_to_pixel": ("text_to_pixel", "none"),
    "pixel_to_text": ("pixel_to_text", "none"),
    "vlba": ("bidirectional", "none"),
    "vlba_pixel": ("bidirectional", "pixel"),
    "alignformer": ("bidirectional", "instance"),
}
VISION = {
    "swin": SwinConfig(
        image_size=32, patch_size=4, embed_dim=8, depths=[1, 2], num_heads=[1, 2], window_size=4, drop_path_rate=0.0
    ),
    "dinov2": Dinov2Config(
        image_size=32, patch_size=8, hidden_size=8, num_hidden_layers=4, num_attention_heads=2, mlp_ratio=2
    ),
    "resnet": ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"),
}
TEXT = {
    "vocab_size": 20,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 10,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


def tiny(variant: str, vision: str = "swin", seed: int = 0, **changes) -> AlignFormer:
    vlba, contrastive = VARIANTS[variant]
    config = AlignFormerConfig(
        vision_config=VISION[vision],
        text_config=BertConfig(**TEXT),
        vlba=vlba,
        contrastive=contrastive,
        pixel_dim=8,
        **changes,
    )
    torch.manual_seed(seed)
    return AlignFormer(config)


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    """Three images with expressions of 3, 5 and 7 words, padded."""
    generator = torch.Generator().manual_seed(0)
    attention_mask = (torch.arange(7) < torch.tensor([[3], [5], [7]])).long()
    masks = torch.zeros(3, 32, 32)
    masks[0, 4:20, 6:15] = masks[1, 0:9, 0:9] = masks[2, 17:30, 2:31] = 1
    return {
        "pixel_values": torch.randn(3, 3, 32, 32, generator=generator),
        "input_ids": torch.randint(4, 20, (3, 7), generator=generator) * attention_mask,
        "attention_mask": attention_mask,
        "masks": masks,
        "image_ids": torch.tensor([0, 1, 2]),
    }


def images_and_words(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: batch[name] for name in ("pixel_values", "input_ids", "attention_mask")}


@torch.no_grad()
@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_batch_equals_its_samples_one_by_one(batch, variant, vision):
    model = tiny(variant, vision).double().eval()
    batch["pixel_values"] = batch["pixel_values"].double()
    together = model(**images_and_words(batch))
    for sample, length in enumerate([3, 5, 7]):
        alone = model(
            batch["pixel_values"][sample : sample + 1],
            batch["input_ids"][sample : sample + 1, :length],
            batch["attention_mask"][sample : sample + 1, :length],
        )
        for name in ("logits", "similarity"):
            torch.testing.assert_close(together[name][sample], alone[name][0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_expression_of_padding_alone_is_finite_and_changes_nothing_else(batch, variant):
    """Logits of the others, and the gradient of their losses, are those of a batch without it."""
    model = tiny(variant).double().eval()
    batch["pixel_values"] = batch["pixel_values"].double()
    batch["attention_mask"][1] = 0
    others = {name: values[[0, 2]] for name, values in batch.items()}

    def gradients(loss: torch.Tensor) -> dict[str, torch.Tensor]:
        model.zero_grad()
        loss.backward()
        return {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}

    model(**batch).loss.backward()
    assert all(each.grad.isfinite().all() for each in model.parameters() if each.grad is not None)
    together, alone = model(**images_and_words(batch)).logits, model(**images_and_words(others)).logits
    assert together.isfinite().all()
    torch.testing.assert_close(together[[0, 2]], alone)
    expected = gradients(alone.square().sum())
    for name, found in gradients(together[[0, 2]].square().sum()).items():
        torch.testing.assert_close(found, expected[name], msg=name)


@torch.no_grad()
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("variant", ["vlba_pixel", "alignformer"])
def test_half_precision_ends_before_the_losses(batch, variant, kind):
    """Pixels and centers that are alike, as trained ones are, with cosines of .95."""
    model = tiny(variant).eval()
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(8, generator=generator)
    pixels, center = (
        0.95**0.5 * common + 0.05**0.5 * torch.randn(*shape, generator=generator) for shape in ((3, 8, 8, 8), (3, 8))
    )
    model.represent = lambda *inputs: (pixels, center)
    with torch.autocast("cpu", dtype=kind):
        output = model(**batch)
        pixels, center = (each.double() for each in model.project(pixels, center))
    similarity = F.cosine_similarity(pixels, center[:, None, None], dim=-1)
    torch.testing.assert_close(output.similarity.double(), similarity, rtol=0, atol=1e-6)
    inputs = (output.logits.double(), pixels, center, similarity, batch["masks"].double(), batch["image_ids"])
    for found, expected in zip(
        (output.loss, output.mask_loss, output.contrastive_loss), model.losses(*inputs), strict=True
    ):
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS)
def test_words_and_pixels_both_decide(batch, variant):
    model = tiny(variant).eval()
    inputs = images_and_words(batch)
    logits = model(**inputs).logits
    inputs["input_ids"] = inputs["input_ids"].flip(0).clamp(min=4)
    inputs["attention_mask"] = torch.ones_like(inputs["attention_mask"])
    assert not torch.allclose(model(**inputs).logits, logits, atol=1e-4)
    assert logits.flatten(1).std(dim=1).min() > 1e-4


@torch.no_grad()
@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("size", [(32, 32), (64, 64), (48, 40)])
def test_shapes(batch, vision, size):
    model = tiny("alignformer", vision).eval()
    images = torch.randn(3, 3, *size)
    output = model(images, batch["input_ids"], batch["attention_mask"])
    assert output.logits.shape == (3, *size)
    assert (
        output.similarity.shape == (3, size[0] // 4, size[1] // 4)
        if vision != "dinov2"
        else (
            3,
            *(4 * (side // 8) for side in size),
        )
    )
    assert output.similarity.abs().max() <= 1 + 1e-6
    assert output.loss is output.mask_loss is output.contrastive_loss is None


@torch.no_grad()
@pytest.mark.parametrize(
    ("variant", "vision"), [*((variant, "swin") for variant in VARIANTS), ("vlba", "dinov2"), ("vlba", "resnet")]
)
def test_a_saved_model_predicts_the_same(batch, tmp_path, variant, vision):
    model = tiny(variant, vision, contrastive_weight=0.3, temperature=0.2, positive_weight=2.0).eval()
    model.save_pretrained(tmp_path)
    files = {path.name for path in tmp_path.iterdir()}
    assert {"config.json", "model.safetensors"} <= files
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pth", ".pkl", ".ckpt"))]

    torch.manual_seed(99)
    again = AlignFormer.from_pretrained(tmp_path)
    assert not again.training
    assert again.state_dict().keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    for name in ("vlba", "contrastive", "contrastive_weight", "temperature", "pixel_dim", "positive_weight"):
        assert getattr(again.config, name) == getattr(model.config, name)
    before, after = model.to(memory_format=torch.channels_last)(**batch), again(**batch)
    for name in ("logits", "similarity", "loss"):
        assert torch.equal(before[name], after[name]), name


NO_EFFECT = (
    # A bias that a softmax or an instance norm takes away again: its gradient is zero up to rounding.
    *("attention.k_proj.bias", "attention.self.key.bias"),
    *("query.bias", "key.bias", "word_value.bias", "pixel_out.bias", "pixel_value.bias"),
)


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_gets_a_gradient(batch, variant, vision):
    """The exceptions are biases without effect."""
    model = tiny(variant, vision).double()
    batch = {name: value.double() if value.is_floating_point() else value for name, value in batch.items()}
    model(**batch).loss.backward()
    dead = [
        name
        for name, parameter in model.named_parameters()
        if (parameter.grad is None or parameter.grad.abs().max() < 1e-13) and not name.endswith(NO_EFFECT)
    ]
    assert dead == []


def differing(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[str]:
    """The common tensors, by name and shape, that do not have the same bytes."""
    common = [name for name in one if name in other and one[name].shape == other[name].shape]
    return [name for name in common if not torch.equal(one[name], other[name])]


@pytest.mark.parametrize("vision", VISION)
def test_variants_start_from_the_same_weights(vision):
    weights = {variant: tiny(variant, vision).state_dict() for variant in VARIANTS}
    for one, other in combinations(VARIANTS, 2):
        assert differing(weights[one], weights[other]) == [], (one, other)


def test_initial_weights_follow_from_names_alone():
    """Another depth of an encoder, or another number of levels with VLBA, changes no other part."""
    models = [tiny("vlba", "dinov2"), tiny("alignformer", "dinov2", vlba_levels=2), tiny("vlba", "swin")]
    deeper = AlignFormerConfig(
        vision_config=VISION["dinov2"], text_config=BertConfig(**TEXT | {"num_hidden_layers": 3})
    )
    torch.manual_seed(0)
    models.append(AlignFormer(deeper))
    for one, other in combinations([model.state_dict() for model in models], 2):
        assert differing(one, other) == []
    assert not torch.equal(models[0].vlba["0"].query.weight, models[0].vlba["1"].query.weight)


@torch.no_grad()
@pytest.mark.parametrize("frozen", [0, 2])
@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("variant", VARIANTS)
def test_shared_images_and_expressions_are_encoded_once_and_give_the_same_masks(batch, variant, vision, frozen):
    model = tiny(variant, vision, frozen_levels=frozen).double().eval()
    batch["pixel_values"] = batch["pixel_values"].double()
    images, expressions = torch.tensor([2, 0, 0, 1, 2]), torch.tensor([0, 0, 2, 1, 1])
    own = {name: value for name, value in batch.items() if name not in ("masks", "image_ids")}
    repeated = model(
        own["pixel_values"][images], own["input_ids"][expressions], own["attention_mask"][expressions]
    ).logits
    encoded = []
    hooks = [
        model.vision.parts(stage)[-1].register_forward_hook(
            lambda module, arguments, output: encoded.append(len(output if torch.is_tensor(output) else output[0]))
        )
        for stage in range(len(model.vision.dims))
        if vision != "swin"  # its blocks are called one by one
    ]
    shared = model(**own, image_index=images, text_index=expressions).logits
    torch.testing.assert_close(shared, repeated, rtol=1e-9, atol=1e-9)
    if hooks:
        once = model.levels_without_words
        assert encoded == [3] * once + [5] * (len(model.vision.dims) - once)


@pytest.mark.parametrize(("variant", "levels", "frozen", "once"), [
    ("baseline", None, 0, 4), ("pixel_to_text", None, 0, 4), ("text_to_pixel", None, 0, 1), ("vlba", None, 0, 1),
    ("vlba", 4, 0, 1), ("vlba", 2, 0, 3), ("alignformer", 1, 0, 4),
    ("vlba", None, 1, 1), ("vlba", None, 2, 2), ("vlba", 2, 2, 3), ("vlba", None, 4, 4),
])  # fmt: skip
def test_vlba_stands_after_the_last_levels_and_changes_what_trained_levels_read(variant, levels, frozen, once):
    model = tiny(variant, "dinov2", vlba_levels=levels, frozen_levels=frozen)
    assert list(model.vlba) == ([] if variant == "baseline" else ["0", "1", "2", "3"][-(levels or 4) :])
    assert model.levels_without_words == once


@torch.no_grad()
@pytest.mark.parametrize("frozen", [0, 2, 4])
def test_frozen_levels_compute_as_the_encoder_does_whatever_the_words(batch, frozen):
    """And so does the first trained level behind them where no VLBA stands between."""
    model = tiny("vlba", "dinov2", frozen_levels=frozen).eval()
    seen = {}
    for level in range(4):
        model.vision.parts(level)[-1].register_forward_hook(
            lambda module, arguments, output, level=level: seen.update({level: output})
        )
    plain = model.encode_images(batch["pixel_values"], model.levels_without_words)
    model(**images_and_words(batch))
    same = [torch.equal(seen[level][:, 1:], grid.tokens) for level, grid in enumerate(plain.grids)]
    assert same == [True] * max(frozen, 1)
    if frozen < 4:
        assert model.levels_without_words == max(frozen, 1)


@torch.no_grad()
def test_words_are_berts(batch):
    model = tiny("baseline").eval()
    seen = {}
    model.center.register_forward_pre_hook(lambda module, arguments: seen.update(words=arguments[0]))
    model(**images_and_words(batch))
    bert = BertModel(BertConfig(**TEXT), add_pooling_layer=False).eval()
    bert.load_state_dict(model.text.state_dict())
    expected = bert(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    there = batch["attention_mask"].bool()
    torch.testing.assert_close(seen["words"][there], expected[there])


def test_another_seed_gives_other_weights():
    one, other = tiny("alignformer").state_dict(), tiny("alignformer", seed=1).state_dict()
    assert not torch.equal(
        one["vision.encoder.encoder.layers.0.blocks.0.mlp.fc1.weight"],
        other["vision.encoder.encoder.layers.0.blocks.0.mlp.fc1.weight"],
    )
    assert not torch.equal(one["vlba.0.query.weight"], other["vlba.0.query.weight"])
    assert not torch.equal(one["projection.weight"], other["projection.weight"])


def test_variants_have_only_the_parts_they_use():
    parts = {variant: {name.split(".")[0] for name, _ in tiny(variant).named_parameters()} for variant in VARIANTS}
    shared = {"vision", "text", "stage_norms", "pixel_decoder", "center", "grouping"}
    assert parts["baseline"] == shared
    assert parts["text_to_pixel"] == parts["pixel_to_text"] == parts["vlba"] == shared | {"vlba"}
    assert parts["vlba_pixel"] == parts["alignformer"] == shared | {"vlba", "projection"}


@torch.no_grad()
def test_without_vlba_the_encoders_are_left_alone(batch):
    model = tiny("baseline").eval()
    bert = BertModel(BertConfig(**TEXT), add_pooling_layer=False).eval()
    bert.load_state_dict(model.text.state_dict())
    ids, attention = batch["input_ids"], batch["attention_mask"]
    expected = bert(input_ids=ids, attention_mask=attention).last_hidden_state
    found = model.text(input_ids=ids, attention_mask=attention).last_hidden_state
    torch.testing.assert_close(found, expected)

    features, words = model.encode(batch["pixel_values"], found, attention.bool())
    assert words is found
    grid = model.vision.embed(batch["pixel_values"])
    for stage, feature in enumerate(features):
        grid = model.vision.level(stage, grid)
        expected = F.layer_norm(grid.tokens, grid.tokens.shape[-1:]).reshape(3, *grid.size, -1)
        assert feature.image_index is None
        torch.testing.assert_close(feature.maps, expected)


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_loss_is_the_weighted_sum(batch, variant):
    weights = {"contrastive_weight": 0.3, "bce_weight": 0.7, "dice_weight": 1.9, "positive_weight": 1.4}
    output = tiny(variant, **weights).eval()(**batch)
    torch.testing.assert_close(output.loss, output.mask_loss + 0.3 * output.contrastive_loss)

    masks, logits = batch["masks"].double(), output.logits.double()
    bce = -(1.4 * masks * logits.sigmoid().log() + (1 - masks) * (-logits).sigmoid().log()).mean()
    shared, total = (logits.sigmoid() * masks).sum((1, 2)), (logits.sigmoid() + masks).sum((1, 2))
    expected = 0.7 * bce + 1.9 * (1 - (2 * shared + 1) / (total + 1)).mean()
    torch.testing.assert_close(output.mask_loss.double(), expected, rtol=1e-5, atol=1e-6)
    if VARIANTS[variant][1] == "none":
        assert output.contrastive_loss == 0
    else:
        assert output.contrastive_loss > 0


@torch.no_grad()
@pytest.mark.parametrize("temperature", [0.05, 0.7])
def test_pixel_contrast_is_that_of_the_similarity_map(batch, temperature):
    output = tiny("vlba_pixel", temperature=temperature).eval()(**batch)
    inside = batch["masks"].reshape(3, 8, 4, 8, 4).mean(dim=(2, 4)) >= 0.5
    signed = torch.where(inside, output.similarity, -output.similarity).double() / temperature
    expected = -signed.sigmoid().log().mean()
    torch.testing.assert_close(output.contrastive_loss.double(), expected, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_instance_contrast_knows_which_samples_share_an_image(batch):
    model = tiny("alignformer").eval()
    batch["masks"] = batch["masks"][:1].expand(3, -1, -1)
    apart = model(**batch).contrastive_loss
    batch["image_ids"] = torch.zeros(3, dtype=torch.int64)
    assert model(**batch).contrastive_loss < apart


def test_masks_may_be_bool_or_integers(batch):
    model = tiny("alignformer").eval()
    expected = model(**batch).loss
    for kind in (torch.bool, torch.uint8, torch.int64):
        torch.testing.assert_close(model(**{**batch, "masks": batch["masks"].to(kind)}).loss, expected)


def test_an_unknown_kind_of_vision_encoder_is_an_error():
    config = AlignFormerConfig(vision_config=ConvNextConfig(), text_config=BertConfig(**TEXT))
    with pytest.raises(ValueError, match="'convnext'"):
        AlignFormer(config)


@pytest.mark.parametrize(("key", "value"), [("vlba", "both"), ("contrastive", "instances")])
def test_an_unknown_variant_is_an_error(key, value):
    with pytest.raises(Exception, match=value):
        AlignFormerConfig(**{key: value})


@pytest.mark.parametrize("variant", ["vlba", "alignformer"])
def test_the_cosine_of_the_projections_draws_the_mask(batch, variant):
    """With and without contrast; every weight has a gradient."""
    model = tiny(variant, grouping="cosine")
    output = model(**batch)
    pixels, center = model.represent(batch["pixel_values"], batch["input_ids"], batch["attention_mask"])
    alike = F.cosine_similarity(model.projection(pixels), model.projection(center)[:, None, None], dim=-1)
    expected = F.interpolate(10 * alike[:, None], size=(32, 32), mode="bilinear")[:, 0]
    torch.testing.assert_close(output.logits, expected, rtol=1e-4, atol=1e-5)
    output.loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("shared", [True, False])
def test_samples_with_the_same_words_need_not_be_negatives(batch, shared):
    """Sample 2 says what 0 says: the two words are held once, or twice."""
    index = torch.tensor([0, 1, 0])
    if not shared:
        batch |= {name: batch[name][index] for name in ("input_ids", "attention_mask")}
    batch |= {"text_index": index if shared else None}
    found = tiny("alignformer", contrastive_same_words=False)(**batch).contrastive_loss
    same = {"image_ids": torch.tensor([0, 1, 0]), "masks": batch["masks"][[0, 1, 0]]}
    plain, other = tiny("alignformer"), tiny("alignformer", contrastive_same_words=False)
    assert found < plain(**batch).contrastive_loss
    torch.testing.assert_close(other(**batch | same).contrastive_loss, plain(**batch | same).contrastive_loss)


@pytest.mark.parametrize("grouping", ["projected", "cosine"])
def test_a_memory_counts_in_training_alone_and_is_in_no_file(batch, grouping, tmp_path):
    model = tiny("alignformer", contrastive_memory=4, grouping=grouping)
    first, second = (model(**batch | {"image_ids": torch.arange(3) + 3 * n}).contrastive_loss for n in range(2))
    assert first < second
    held = {name: values.clone() for name, values in model.losses.memory.rows.items()}
    assert {len(values) for values in held.values()} == {4}
    model.eval()
    torch.testing.assert_close(model(**batch).contrastive_loss, first)
    assert all(torch.equal(values, held[name]) for name, values in model.losses.memory.rows.items())

    assert model.state_dict().keys() == tiny("alignformer", grouping=grouping).state_dict().keys()
    model.save_pretrained(tmp_path)
    loaded = AlignFormer.from_pretrained(tmp_path)
    assert loaded.losses.memory.rows == {}
    torch.testing.assert_close(loaded(**images_and_words(batch)).logits, model(**images_and_words(batch)).logits)


@pytest.mark.parametrize("vision", VISION)
def test_the_plain_head_reads_the_last_level_and_the_words(batch, vision):
    model = tiny("baseline", vision, head="plain")
    maps = [torch.randn(2, 8 // 2**level, 8 // 2**level, dim) for level, dim in enumerate(model.vision.dims)]
    features = [Feature(each) for each in maps]
    sentences = torch.randn(2, 16)
    expected = model.pixel_decoder(features, sentences)
    height, width = maps[-1].shape[1:3]
    assert expected.shape == (2, 2 * height, 2 * width, 8)
    assert torch.equal(
        model.pixel_decoder([*(Feature(0 * each) for each in maps[:-1]), features[-1]], sentences), expected
    )
    assert not torch.allclose(model.pixel_decoder(features, sentences.flip(0)), expected)
    model(**batch).loss.backward()
    assert [name for name, each in model.named_parameters() if each.requires_grad and each.grad is None] == []


def test_the_plain_head_on_two_small_encoders_has_2_1_million_parameters():
    """Those that the recipe `photographs` has: four levels of 384 channels, words of 384, pixel_dim 128."""
    parts = PlainDecoder([384] * 4, 128, 384), CenterEmbedding(384, 128), Grouping(128)
    assert sum(each.numel() for part in parts for each in part.parameters()) == pytest.approx(2.1e6, abs=0.1e6)
