"""The processor: tensors in, masks at the original size out."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from models.alignformer import AlignFormerOutput
from models.frames import Letterbox, Stretch
from models.processing import AlignFormerProcessor

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)


@pytest.fixture
def processor() -> AlignFormerProcessor:
    words = Tokenizer(WordLevel({"[PAD]": 0, "[UNK]": 1, "the": 2, "red": 3, "cup": 4}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    return AlignFormerProcessor(
        image_processor=ViTImageProcessorPil(size={"height": 16, "width": 16}, image_mean=MEAN, image_std=STD),
        tokenizer=PreTrainedTokenizerFast(
            tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", model_max_length=4
        ),
    )


@pytest.fixture
def images() -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in ((20, 30), (9, 7))]


def bilinear(logits: np.ndarray, height: int, width: int) -> np.ndarray:
    """Between pixel centers, edges repeated, in float64."""
    resized = np.empty((height, width))
    for row in range(height):
        for column in range(width):
            y = max((row + 0.5) * logits.shape[0] / height - 0.5, 0)
            x = max((column + 0.5) * logits.shape[1] / width - 0.5, 0)
            top, left = min(int(y), logits.shape[0] - 1), min(int(x), logits.shape[1] - 1)
            bottom, right = min(top + 1, logits.shape[0] - 1), min(left + 1, logits.shape[1] - 1)
            upper = logits[top, left] * (1 - (x - left)) + logits[top, right] * (x - left)
            lower = logits[bottom, left] * (1 - (x - left)) + logits[bottom, right] * (x - left)
            resized[row, column] = upper * (1 - (y - top)) + lower * (y - top)
    return resized


def test_images_are_stretched_and_normalised(processor, images):
    found = processor.image_processor(images, return_tensors="pt")["pixel_values"]
    assert found.shape == (2, 3, 16, 16)
    for values, image in zip(found, images, strict=True):
        stretched = np.asarray(image.resize((16, 16), Image.Resampling.BILINEAR), dtype=np.float64) / 255
        expected = ((stretched - MEAN) / STD).transpose(2, 0, 1)
        np.testing.assert_allclose(values.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("size", [16, 33])
def test_a_stretched_image_equals_the_image_processors(images, size):
    processor = ViTImageProcessorPil(size={"height": size, "width": size}, image_mean=MEAN, image_std=STD)
    square = Image.new("RGB", (size, size), (255, 0, 7))
    for image in (*images, square):
        found = Stretch(size).pixels(image, MEAN, STD)
        expected = processor(image, return_tensors="pt")["pixel_values"][0]
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def added_up(side: int, size: int) -> list[int]:
    """The input pixel of each output pixel, as Pillow finds it: positions are added up, so ties fall by rounding."""
    positions = itertools.accumulate(itertools.repeat(side / size, size - 1), initial=side / size / 2)
    return [int(position) for position in positions]


@pytest.mark.parametrize("size", [12, 480, 448])
@pytest.mark.parametrize("shape", [(12, 12), (12, 8), (21, 64), (480, 640), (640, 427), (1, 3)])
def test_a_stretched_mask_takes_the_pixel_under_each_center(shape, size):
    """That of LAVT's and CARIS's readers, which is the nearest one, and at a tie the one that Pillow takes."""
    mask = np.random.default_rng(0).random(shape) < 0.5
    rows, columns = (added_up(side, size) for side in shape)
    for side, places in zip(shape, (rows, columns), strict=True):
        for place, found in enumerate(places):
            center = Fraction(2 * place + 1, 2 * size) * side
            assert found == math.floor(center) or found == center - 1
    for of_any_order in (mask, np.asfortranarray(mask)):
        found = Stretch(size).mask(of_any_order)
        assert found.dtype == bool
        np.testing.assert_array_equal(found, mask[rows][:, columns])


def test_ties_are_as_many_as_were_counted_from_640_to_480():
    exact = [math.floor(Fraction(2 * place + 1, 2 * 480) * 640) for place in range(480)]
    assert sum(a != b for a, b in zip(added_up(640, 480), exact, strict=True)) == 99


def cubic(distance: float) -> float:
    """Keys' kernel with a = -0.75, which OpenCV has."""
    a, d = -0.75, abs(distance)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * (d**3 - 5 * d**2 + 8 * d - 4) if d < 2 else 0.0


def linear(distance: float) -> float:
    return max(0.0, 1 - abs(distance))


def at(values: np.ndarray, y: float, x: float, kernel) -> float:
    """The value between pixels, 0 outside, in float64."""
    total = 0.0
    for row in range(math.floor(y) - 1, math.floor(y) + 3):
        for column in range(math.floor(x) - 1, math.floor(x) + 3):
            if 0 <= row < values.shape[0] and 0 <= column < values.shape[1]:
                total += values[row, column] * kernel(y - row) * kernel(x - column)
    return total


def warp(height: int, width: int, size: int) -> tuple[float, float, float]:
    """CRIS: scale, and where the first row and column of the image lie."""
    scale = min(size / height, size / width)
    return scale, (size - scale * height) / 2, (size - scale * width) / 2


SHAPES = [(10, 14), (9, 5), (16, 16), (40, 23), (1, 4)]


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_a_letterboxed_image_equals_a_naive_warp(height, width):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    found = Letterbox(16).pixels(Image.fromarray(image), MEAN, STD)
    assert found.shape == (3, 16, 16)
    assert found.dtype == torch.float32
    scale, top, left = warp(height, width, 16)
    for channel in range(3):
        mean, std = MEAN[channel], STD[channel]
        values = image[:, :, channel] / 255 - mean
        for y in range(16):
            for x in range(16):
                value = at(values, (y - top) / scale, (x - left) / scale, cubic)
                expected = (min(max(value + mean, 0), 1) - mean) / std
                assert found[channel, y, x].item() == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_a_letterboxed_mask_equals_a_naive_warp(height, width):
    mask = np.random.default_rng(0).random((height, width)) < 0.5
    found = Letterbox(16).mask(mask)
    assert found.shape == (16, 16)
    assert found.dtype == bool
    scale, top, left = warp(height, width, 16)
    for y in range(16):
        for x in range(16):
            row, column = math.floor((y - top) / scale + 0.5), math.floor((x - left) / scale + 0.5)
            inside = 0 <= row < height and 0 <= column < width
            assert found[y, x] == (inside and mask[row, column])


@pytest.mark.parametrize(("mode", "kernel"), [("bilinear", linear), ("bicubic", cubic)])
@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_a_map_over_a_letterbox_comes_back_as_by_a_naive_warp(height, width, mode, kernel):
    maps = torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
    found = Letterbox(16).restore(maps, (height, width), mode)
    assert found.shape == (height, width)
    scale, top, left = warp(height, width, 16)
    for y in range(height):
        for x in range(width):
            expected = at(maps.double().numpy(), y * scale + top, x * scale + left, kernel)
            assert found[y, x].item() == pytest.approx(expected, abs=1e-4)


def test_a_letterbox_of_an_image_that_only_needs_a_border():
    image = np.random.default_rng(0).integers(0, 256, (10, 20, 3), dtype=np.uint8)
    found = Letterbox(20).pixels(Image.fromarray(image), MEAN, STD)
    expected = ((image / 255 - MEAN) / STD).transpose(2, 0, 1)
    np.testing.assert_allclose(found[:, 5:15].numpy(), expected, atol=1e-4)
    assert found[:, :5].abs().max() < 1e-5
    assert found[:, 15:].abs().max() < 1e-5
    mask = image[:, :, 0] > 128
    np.testing.assert_array_equal(Letterbox(20).mask(mask)[5:15], mask)
    torch.testing.assert_close(Letterbox(20).restore(found[0], (10, 20)), found[0, 5:15], rtol=0, atol=1e-4)


def test_a_stretched_map_comes_back_bicubically():
    """Between pixel centers, edges repeated."""
    maps = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    found = Stretch(8).restore(maps, (11, 5), "bicubic")
    padded = np.pad(maps.double().numpy(), 3, mode="edge")
    for y in range(11):
        for x in range(5):
            expected = at(padded, (y + 0.5) * 8 / 11 + 2.5, (x + 0.5) * 8 / 5 + 2.5, cubic)
            assert found[y, x].item() == pytest.approx(expected, abs=1e-5)
    assert Stretch(8).restore(maps, (8, 8), "bicubic") is maps


def test_a_saved_processor_gives_the_same_tensors(processor, images, tmp_path):
    processor.save_pretrained(tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".bin", ".pkl", ".pt")]
    again = AlignFormerProcessor.from_pretrained(tmp_path)
    arguments = {"images": images, "text": ["the red cup", "cup"], "padding": True, "return_tensors": "pt"}
    before, after = processor(**arguments), again(**arguments)
    assert before.keys() == after.keys() >= {"pixel_values", "input_ids", "attention_mask"}
    for name in before:
        assert torch.equal(before[name], after[name]), name
    assert before["input_ids"].tolist() == [[2, 3, 4], [4, 0, 0]]
    assert before["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    long = again.tokenizer("the red cup the red cup", truncation=True)["input_ids"]
    assert long == [2, 3, 4, 2]


@pytest.mark.parametrize("threshold", [0.5, 0.35, 0.9])
def test_masks_at_the_original_size_equal_an_independent_resize(processor, threshold):
    sizes = [(16, 16), (23, 31), (5, 40), (7, 3), (1, 1)]
    logits = 3 * torch.randn(len(sizes), 16, 16, generator=torch.Generator().manual_seed(0))
    masks = processor.post_process_referring_segmentation(AlignFormerOutput(logits=logits), sizes, threshold)
    for mask, size, sample in zip(masks, sizes, logits.double().numpy(), strict=True):
        assert mask.shape == size
        assert mask.dtype == torch.bool
        probability = 1 / (1 + np.exp(-bilinear(sample, *size)))
        clear = np.abs(probability - threshold) > 1e-5
        assert clear.mean() > 0.95
        np.testing.assert_array_equal(mask.numpy()[clear], probability[clear] > threshold)


def test_a_pixel_exactly_at_the_threshold_is_outside(processor):
    logits = torch.tensor([[[0.0, 1e-6], [-1e-6, 5.0]]])
    (mask,) = processor.post_process_referring_segmentation(AlignFormerOutput(logits=logits), [(2, 2)])
    assert mask.tolist() == [[False, True], [False, True]]
    cut = math.log(0.35 / 0.65)
    logits = torch.tensor([[[cut + 1e-4, cut - 1e-4]]])
    (mask,) = processor.post_process_referring_segmentation(AlignFormerOutput(logits=logits), [(1, 2)], threshold=0.35)
    assert mask.tolist() == [[True, False]]


def test_half_precision_logits_and_a_size_too_few(processor):
    logits = torch.ones(2, 4, 4, dtype=torch.bfloat16)
    masks = processor.post_process_referring_segmentation(AlignFormerOutput(logits=logits), [(8, 8), (4, 4)])
    assert all(mask.all() for mask in masks)
    with pytest.raises(ValueError):
        processor.post_process_referring_segmentation(AlignFormerOutput(logits=logits), [(8, 8)])
    masks = processor.post_process_referring_segmentation(AlignFormerOutput(logits=logits))
    assert [tuple(mask.shape) for mask in masks] == [(4, 4), (4, 4)]


def test_a_batch_is_images_and_words_side_by_side(processor, images):
    found = processor(images=images, text=["the red cup", "cup"], padding=True, return_tensors="pt")
    assert list(found) == ["pixel_values", "input_ids", "attention_mask"]
    expected = processor.image_processor(images, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(found["pixel_values"], expected, rtol=0, atol=1e-5)
    assert found["input_ids"].tolist() == [[2, 3, 4], [4, 0, 0]]
    grey = images[0].convert("L")
    assert torch.equal(processor(grey, "cup")["pixel_values"], processor(grey.convert("RGB"), "cup")["pixel_values"])


def test_one_image_of_several_expressions_is_there_once(processor, images):
    found = processor(images[0], ["the red cup", "cup", "red"])
    assert found["pixel_values"].shape == (1, 3, 16, 16)
    assert found["image_index"].tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="2 images and 3 expressions"):
        processor(images, ["a", "b", "c"])


def test_an_expression_that_cannot_be_read_is_an_error(processor, images):
    for nothing in ("", " \n", "\u00a0"):
        with pytest.raises(ValueError, match="is empty"):
            processor(images[0], nothing)
    processor.tokenizer.backend_tokenizer.normalizer = BertNormalizer()  # drops what nobody sees
    for invisible in ("\u200b", "\u00ad \ufeff\u2060", "\u0007"):
        with pytest.raises(ValueError, match="is empty: the tokenizer drops all of") as error:
            processor(images[0], ["cup", invisible])
        assert str(error.value).isprintable()
    assert processor(images[0], "\u200bcup")["input_ids"].tolist() == [[4]]
    long = "the red cup the red"
    with pytest.raises(ValueError, match=f"has 5 tokens and the model reads 4.*{long}"):
        processor(images[0], ["cup", long])
    assert processor(images[0], long, truncation=True)["input_ids"].tolist() == [[2, 3, 4, 2]]


def test_words_that_the_vocabulary_lacks_are_named(processor):
    assert processor.unknown_words("the red giraffe") == ["giraffe"]
    assert processor.unknown_words("the red cup") == []
