"""transformers' Auto classes load a saved model, and it predicts what the model before saving predicted."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoConfig, AutoModel, AutoProcessor

from models.alignformer import AlignFormer
from models.configuration import AlignFormerConfig
from models.prediction import segment
from models.processing import AlignFormerProcessor
from tests.stages.conftest import squares_in

TEXTS = ["the red square", "the blue one", "yellow square"]


@pytest.fixture
def saved(tmp_path):
    """Model, processor, and the folder in which both are saved."""
    squares = squares_in(tmp_path)
    model = squares.model().eval()
    model.save_pretrained(tmp_path / "model")
    squares.processor.save_pretrained(tmp_path / "model")
    return model, squares.processor, tmp_path / "model"


@pytest.fixture
def image() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))


def test_the_auto_classes_load_it(saved):
    model, _, folder = saved
    assert type(AutoConfig.from_pretrained(folder)) is AlignFormerConfig
    assert type(AutoProcessor.from_pretrained(folder)) is AlignFormerProcessor
    again = AutoModel.from_pretrained(folder)
    assert type(again) is AlignFormer
    assert not again.training
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_it_predicts_the_same_as_before_saving(saved, image):
    model, processor, folder = saved
    again, loaded = AlignFormer.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    for before, after in zip(
        segment(model, processor, [image], TEXTS), segment(again, loaded, [image], TEXTS), strict=True
    ):
        assert np.array_equal(before.mask, after.mask)
        assert before.score == pytest.approx(after.score, abs=1e-6)


def test_masks_and_scores_are_those_of_the_forward_pass(saved, image):
    model, processor, _ = saved
    found = segment(model, processor, [image], TEXTS, threshold=0.4)
    for text, prediction in zip(TEXTS, found, strict=True):
        with torch.no_grad():
            logits = model(**processor(image, text)).logits[0].double()
        probability = 1 / (1 + np.exp(-logits.numpy()))
        assert prediction.mask.shape == (40, 60)
        inside = probability[probability > 0.4]
        assert prediction.score == pytest.approx(inside.mean() if len(inside) else 0, abs=1e-5)
    nothing = segment(model, processor, [image], ["red"], threshold=1 - 1e-9)[0]
    assert (nothing.mask.any(), nothing.score) == (False, 0.0)


def test_pairs_and_one_image_for_all_are_the_same(saved, image):
    model, processor, _ = saved
    together = segment(model, processor, [image], TEXTS)
    pairs = segment(model, processor, [image] * 3, TEXTS)
    for one, other in zip(together, pairs, strict=True):
        assert np.array_equal(one.mask, other.mask)
        assert one.score == pytest.approx(other.score, abs=1e-6)
