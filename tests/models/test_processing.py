"""The processor: tensors in, masks at the original size out."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

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
def pictures() -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in ((20, 30), (9, 7))]


def bilinear(logits: np.ndarray, height: int, width: int) -> np.ndarray:
    """Between pixel centres, edges repeated, in float64."""
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


def test_images_are_stretched_and_normalised(processor, pictures):
    found = processor.image_processor(pictures, return_tensors="pt")["pixel_values"]
    assert found.shape == (2, 3, 16, 16)
    for values, picture in zip(found, pictures, strict=True):
        stretched = np.asarray(picture.resize((16, 16), Image.Resampling.BILINEAR), dtype=np.float64) / 255
        expected = ((stretched - MEAN) / STD).transpose(2, 0, 1)
        np.testing.assert_allclose(values.numpy(), expected, atol=1e-5)


def test_a_saved_processor_gives_the_same_tensors(processor, pictures, tmp_path):
    processor.save_pretrained(tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".bin", ".pkl", ".pt")]
    again = AlignFormerProcessor.from_pretrained(tmp_path)
    arguments = {"images": pictures, "text": ["the red cup", "cup"], "padding": True, "return_tensors": "pt"}
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
    masks = processor.post_process_referring_segmentation(logits, sizes, threshold)
    for mask, size, sample in zip(masks, sizes, logits.double().numpy(), strict=True):
        assert mask.shape == size
        assert mask.dtype == bool
        probability = 1 / (1 + np.exp(-bilinear(sample, *size)))
        clear = np.abs(probability - threshold) > 1e-5
        assert clear.mean() > 0.95
        np.testing.assert_array_equal(mask[clear], probability[clear] > threshold)


def test_a_pixel_exactly_at_the_threshold_is_outside(processor):
    logits = torch.tensor([[[0.0, 1e-6], [-1e-6, 5.0]]])
    (mask,) = processor.post_process_referring_segmentation(logits, [(2, 2)])
    assert mask.tolist() == [[False, True], [False, True]]
    cut = math.log(0.35 / 0.65)
    logits = torch.tensor([[[cut + 1e-4, cut - 1e-4]]])
    (mask,) = processor.post_process_referring_segmentation(logits, [(1, 2)], threshold=0.35)
    assert mask.tolist() == [[True, False]]


def test_half_precision_logits_and_a_size_too_few(processor):
    logits = torch.ones(2, 4, 4, dtype=torch.bfloat16)
    masks = processor.post_process_referring_segmentation(logits, [(8, 8), (4, 4)])
    assert all(mask.all() for mask in masks)
    with pytest.raises(ValueError):
        processor.post_process_referring_segmentation(logits, [(8, 8)])
