"""VLBA against loops over samples, pixels and words in float64."""

import copy
import math

import numpy as np
import pytest
import torch

from models.vlba import VLBA, VLBA_KINDS

DIRECTIONS = ("text_to_pixel", "pixel_to_text", "bidirectional")
PIXEL_DIM, WORD_DIM = 4, 6


@pytest.fixture
def exchange():
    """direction -> VLBA with random weights and biases in float64."""

    def make(direction: str, **go_on: bool) -> VLBA:
        torch.manual_seed(0)
        vlba = VLBA_KINDS[direction](PIXEL_DIM, WORD_DIM, **go_on).double()
        for parameter in vlba.parameters():
            torch.nn.init.normal_(parameter, std=0.7)
        return vlba

    return make


@pytest.fixture
def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Three samples of 5 pixels with 4, 1 and 2 words; padded positions hold arbitrary values."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(3, 5, PIXEL_DIM, dtype=torch.float64, generator=generator)
    words = torch.randn(3, 4, WORD_DIM, dtype=torch.float64, generator=generator)
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0]], dtype=torch.bool)
    return pixels, words, mask


def linear(layer: torch.nn.Linear, x: np.ndarray) -> np.ndarray:
    weight = layer.weight.detach().numpy()
    bias = np.zeros(len(weight)) if layer.bias is None else layer.bias.detach().numpy()
    return np.array([sum(w * v for w, v in zip(row, x, strict=True)) + b for row, b in zip(weight, bias, strict=True)])


def gelu(x: np.ndarray) -> np.ndarray:
    return np.array([v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x])


def softmax(values: list[float]) -> list[float]:
    return [math.exp(value) / sum(math.exp(other) for other in values) for value in values]


def instance_norm(rows: list[np.ndarray]) -> list[np.ndarray]:
    mean = sum(rows) / len(rows)
    variance = sum((row - mean) ** 2 for row in rows) / len(rows)
    return [(row - mean) / np.sqrt(variance + 1e-5) for row in rows]


def fuse(fusion, x: np.ndarray, attended: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    own = gelu(linear(fusion.own[0], x))
    fused = gelu(linear(fusion.own[2], own) + linear(fusion.read, attended))
    fused = gelu(linear(fusion.mlp[1], fused))
    if fusion.gate is None:
        return x, fused
    gate = np.tanh(linear(fusion.gate[2], np.maximum(linear(fusion.gate[0], fused), 0)))
    return x + gate * fused, fused


def loop(vlba: VLBA, direction: str, pixels: np.ndarray, words: np.ndarray) -> tuple[np.ndarray, ...]:
    """One sample without padding: (N, C), (L, T) -> new pixels, new words, features."""
    queries = instance_norm([linear(vlba.query, pixel) for pixel in pixels])
    keys = [linear(vlba.key, word) for word in words]
    scores = [[float(query @ key) / math.sqrt(PIXEL_DIM) for key in keys] for query in queries]
    new_pixels, features, new_words = list(pixels), list(pixels), list(words)
    if direction != "pixel_to_text":
        values = [linear(vlba.word_value, word) for word in words]
        read = [sum(w * v for w, v in zip(softmax(row), values, strict=True)) for row in scores]
        read = instance_norm([linear(vlba.pixel_out, row) for row in read])
        pairs = [fuse(vlba.pixel_fusion, pixel, row) for pixel, row in zip(pixels, read, strict=True)]
        new_pixels, features = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    if direction != "text_to_pixel":
        values = instance_norm([linear(vlba.pixel_value, pixel) for pixel in pixels])
        for place, word in enumerate(words):
            weights = softmax([row[place] for row in scores])
            gathered = sum(w * v for w, v in zip(weights, values, strict=True))
            updated, fused = fuse(vlba.word_fusion, word, linear(vlba.word_out, gathered))
            new_words[place] = updated if vlba.words_go_on else fused
    return np.array(new_pixels), np.array(new_words), np.array(features)


@pytest.mark.parametrize(("pixels_go_on", "words_go_on"), [(True, True), (False, True), (False, False)])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_equals_a_loop_over_samples_pixels_and_words(exchange, inputs, direction, pixels_go_on, words_go_on):
    vlba = exchange(direction, pixels_go_on=pixels_go_on, words_go_on=words_go_on)
    pixels, words, mask = inputs
    with torch.no_grad():
        output = vlba(pixels, words, mask)
    for sample in range(len(pixels)):
        present = mask[sample]
        expected = loop(vlba, direction, pixels[sample].numpy(), words[sample][present].numpy())
        found = output.pixels[sample], output.words[sample][present], output.features[sample]
        for name, one, other in zip(("pixels", "words", "features"), found, expected, strict=True):
            np.testing.assert_allclose(one.numpy(), other, rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_attention_shows_the_shares_that_a_loop_computes(exchange, inputs, direction):
    vlba = exchange(direction)
    pixels, words, mask = inputs
    with torch.no_grad():
        read, gathered = vlba.attention(pixels, words, mask)
    assert (read is None) == (direction == "pixel_to_text")
    assert (gathered is None) == (direction == "text_to_pixel")
    for sample in range(len(pixels)):
        present = mask[sample]
        queries = instance_norm([linear(vlba.query, pixel) for pixel in pixels[sample].numpy()])
        keys = [linear(vlba.key, word) for word in words[sample][present].numpy()]
        scores = np.array([[float(query @ key) / math.sqrt(PIXEL_DIM) for key in keys] for query in queries])
        if read is not None:
            expected = np.array([softmax(list(row)) for row in scores])
            np.testing.assert_allclose(read[sample][:, present].numpy(), expected, rtol=1e-9, atol=1e-12)
            assert (read[sample][:, ~present] == 0).all()
        if gathered is not None:
            expected = np.array([softmax(list(column)) for column in scores.T])
            np.testing.assert_allclose(gathered[sample][present].numpy(), expected, rtol=1e-9, atol=1e-12)
            assert (gathered[sample][~present] == 0).all()


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_padded_words_contribute_nothing(exchange, inputs, direction):
    vlba = exchange(direction)
    pixels, words, mask = inputs
    with torch.no_grad():
        output = vlba(pixels, words, mask)
        changed = vlba(pixels, torch.where(mask.unsqueeze(-1), words, 100.0), mask)
    torch.testing.assert_close(changed.pixels, output.pixels, rtol=0, atol=0)
    torch.testing.assert_close(changed.features, output.features, rtol=0, atol=0)
    torch.testing.assert_close(changed.words[mask], output.words[mask], rtol=0, atol=0)
    if direction != "text_to_pixel":
        assert (output.words[~mask] == 0).all()


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_row_of_padding_alone_reads_zeros_and_has_words_of_zero(exchange, inputs, direction):
    vlba = exchange(direction)
    pixels, words, mask = inputs
    mask[1] = False
    with torch.no_grad():
        output = vlba(pixels, words, mask)
    if direction == "pixel_to_text":
        assert output.pixels is pixels
    else:
        updated, features = (
            np.array(rows)
            for rows in zip(*(fuse(vlba.pixel_fusion, x, np.zeros(PIXEL_DIM)) for x in pixels[1].numpy()), strict=True)
        )
        np.testing.assert_allclose(output.pixels[1].numpy(), updated, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(output.features[1].numpy(), features, rtol=1e-9, atol=1e-12)
    if direction != "text_to_pixel":
        assert (output.words[1] == 0).all()


@torch.no_grad()
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("whole", [False, True], ids=["autocast", "weights too"])
def test_alike_words_are_told_apart_in_half_precision(kind, whole):
    """The cosine of two words is .95, as in trained models. Errors are in units of the precision."""
    torch.manual_seed(0)
    vlba = VLBA_KINDS["text_to_pixel"](64, 64)
    for parameter in vlba.parameters():
        torch.nn.init.xavier_uniform_(parameter) if parameter.ndim > 1 else torch.nn.init.zeros_(parameter)
    pixels, mask = torch.randn(8, 256, 64), torch.arange(12) < torch.randint(4, 13, (8, 1))
    words = 0.95**0.5 * torch.randn(8, 1, 64) + 0.05**0.5 * torch.randn(8, 12, 64)
    expected = copy.deepcopy(vlba).double()(pixels.double(), words.double(), mask).features
    if whole:
        found = vlba.to(kind)(pixels.to(kind), words.to(kind), mask).features
    else:
        with torch.autocast("cpu", dtype=kind):
            found = vlba(pixels, words, mask).features
    errors = (found.double() - expected).norm(dim=2) / expected.norm(dim=2) / torch.finfo(kind).eps  # (8, 256)
    assert errors.median() < 3
    assert errors.max() < 20


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_more_padding_changes_nothing(exchange, inputs, direction):
    vlba = exchange(direction)
    pixels, words, mask = inputs
    longer = torch.cat([words, torch.randn(3, 3, WORD_DIM, dtype=torch.float64)], dim=1)
    longer_mask = torch.cat([mask, torch.zeros(3, 3, dtype=torch.bool)], dim=1)
    with torch.no_grad():
        short, long = vlba(pixels, words, mask), vlba(pixels, longer, longer_mask)
    torch.testing.assert_close(long.pixels, short.pixels)
    torch.testing.assert_close(long.features, short.features)
    torch.testing.assert_close(long.words[:, :4][mask], short.words[mask])


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_padded_words_get_no_gradient(exchange, inputs, direction):
    vlba = exchange(direction)
    pixels, words, mask = inputs
    words.requires_grad_()
    output = vlba(pixels, words, mask)
    (output.pixels.square().sum() + output.words[mask].square().sum() + output.features.square().sum()).backward()
    assert (words.grad[~mask] == 0).all()
    assert (words.grad[mask] != 0).any()


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_gradients_equal_finite_differences(exchange, inputs, direction):
    vlba = exchange(direction)
    pixels, words, mask = inputs
    pixels, words = pixels[1:].requires_grad_(), words[1:].requires_grad_()
    assert torch.autograd.gradcheck(
        lambda p, w: tuple(vlba(p, w, mask[1:])), (pixels, words), eps=1e-6, atol=1e-5, fast_mode=True
    )


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_gates_learn_from_the_first_step(inputs, direction):
    torch.manual_seed(0)
    vlba = VLBA_KINDS[direction](PIXEL_DIM, WORD_DIM).double()
    output = vlba(*inputs)
    (output.pixels.square().sum() + output.words.square().sum()).backward()
    gates = {name: parameter for name, parameter in vlba.named_parameters() if "gate" in name and "weight" in name}
    assert len(gates) == (4 if direction == "bidirectional" else 2)
    for name, parameter in gates.items():
        assert parameter.grad.abs().max() > 0, name


def test_a_direction_that_is_off_has_no_parameters_and_passes_through(exchange, inputs):
    pixels, words, mask = inputs
    to_pixel, to_text, both = (
        {name for name, _ in exchange(direction).named_parameters()}
        for direction in ("text_to_pixel", "pixel_to_text", "bidirectional")
    )
    shared = {"query.weight", "query.bias", "key.weight", "key.bias"} & both
    assert to_pixel & to_text == shared
    assert to_pixel | to_text == both

    assert exchange("text_to_pixel")(pixels, words, mask).words is words
    untouched = exchange("pixel_to_text")(pixels, words, mask)
    assert untouched.pixels is pixels
    assert untouched.features is pixels


def test_global_words_give_every_pixel_the_normed_mean_of_the_words(exchange, inputs):
    vlba, (pixels, words, mask) = exchange("global_words"), inputs
    output = vlba(*inputs)
    for sample in range(3):
        mean = words[sample][mask[sample]].mean(dim=0).numpy()
        values = linear(vlba.pixel_out, linear(vlba.word_value, mean))
        normed = (values - values.mean()) / np.sqrt(values.var() + 1e-5)
        for pixel in range(5):
            expected, fused = fuse(vlba.pixel_fusion, pixels[sample, pixel].numpy(), normed)
            np.testing.assert_allclose(output.pixels[sample, pixel].detach(), expected, rtol=1e-9)
            np.testing.assert_allclose(output.features[sample, pixel].detach(), fused, rtol=1e-9)
    assert output.words is words


def test_without_exchange_neither_side_depends_on_the_other(exchange, inputs):
    """And both depend on themselves: pixels on the other pixels by the norm alone, words on no other word."""
    vlba, (pixels, words, mask) = exchange("no_exchange"), inputs
    output = vlba(*inputs)
    for sample in range(3):
        rows = [linear(vlba.query, x) for x in pixels[sample].numpy()]
        attended = instance_norm([linear(vlba.pixel_out, row) for row in rows])
        for pixel in range(5):
            expected, fused = fuse(vlba.pixel_fusion, pixels[sample, pixel].numpy(), attended[pixel])
            np.testing.assert_allclose(output.pixels[sample, pixel].detach(), expected, rtol=1e-9)
            np.testing.assert_allclose(output.features[sample, pixel].detach(), fused, rtol=1e-9)
        for place in range(4):
            word = words[sample, place].numpy()
            own = linear(vlba.pixel_value, linear(vlba.key, word) + linear(vlba.word_value, word))
            expected = fuse(vlba.word_fusion, word, linear(vlba.word_out, own))[0] * mask[sample, place].item()
            np.testing.assert_allclose(output.words[sample, place].detach(), expected, rtol=1e-9)


@pytest.mark.parametrize("control, of", [("global_words", "text_to_pixel"), ("no_exchange", "bidirectional")])
def test_a_control_has_the_parameters_of_what_it_controls_and_learns_all_of_them(exchange, inputs, control, of):
    vlba = exchange(control)
    shapes, expected = (
        {name: tuple(p.shape) for name, p in exchange(kind).named_parameters()} for kind in (control, of)
    )
    attention = {"query.weight", "key.weight", "key.bias"} if control == "global_words" else set()
    assert shapes == {name: shape for name, shape in expected.items() if name not in attention}
    output = vlba(*inputs)
    (output.pixels.square().sum() + output.words.square().sum()).backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in vlba.parameters())
    assert vlba.attention(*inputs) == (None, None)


def test_both_directions_read_one_score_map(exchange, inputs):
    """With the same weights, each single direction is one side of the bidirectional exchange."""
    both = exchange("bidirectional")
    full = both(*inputs)
    for direction in ("text_to_pixel", "pixel_to_text"):
        single = VLBA_KINDS[direction](PIXEL_DIM, WORD_DIM).double()
        single.load_state_dict({name: both.state_dict()[name] for name in single.state_dict()})
        output = single(*inputs)
        if direction == "text_to_pixel":
            torch.testing.assert_close(output.pixels, full.pixels)
            torch.testing.assert_close(output.features, full.features)
        else:
            torch.testing.assert_close(output.words, full.words)


def test_the_instance_norm_of_the_queries_equals_torchs(exchange, inputs):
    vlba = exchange("bidirectional")
    pixels, words, _ = inputs
    query = torch.nn.functional.instance_norm(vlba.query(pixels).transpose(1, 2)).transpose(1, 2)
    expected = query @ vlba.key(words).transpose(1, 2) / math.sqrt(PIXEL_DIM)
    torch.testing.assert_close(vlba.scores(pixels - pixels.mean(dim=1, keepdim=True), words), expected)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_constant_pixels_are_normed_to_zero_not_to_noise(direction):
    torch.manual_seed(0)
    vlba = VLBA_KINDS[direction](PIXEL_DIM, WORD_DIM)
    pixels = torch.full((1, 9, PIXEL_DIM), 3.7).requires_grad_()
    words, mask = torch.randn(1, 3, WORD_DIM), torch.ones(1, 3, dtype=torch.bool)
    with torch.no_grad():
        assert vlba.scores(pixels - pixels.mean(dim=1, keepdim=True), words).abs().max() < 1e-3
    output = vlba(pixels, words, mask)
    (output.pixels.square().sum() + output.words.square().sum()).backward()
    assert pixels.grad.isfinite().all()
    spread = output.pixels.std(dim=1).max()
    assert spread < 1e-3
