"""Colours over an image say what is correct, wrong and missed."""

import numpy as np
from PIL import Image

from stages.drawing import mask_comparison


def test_colours_say_correct_wrong_and_missed():
    image = Image.new("RGB", (64, 64), (128, 128, 128))
    truth, predicted = np.zeros((64, 64), bool), np.zeros((64, 64), bool)
    truth[:, :32], predicted[:32] = True, True
    image = np.asarray(mask_comparison.draw(image, truth, predicted)).astype(int)
    red, green, blue = np.moveaxis(image, -1, 0)
    assert (green[:32, :32] > np.maximum(red, blue)[:32, :32]).all()
    assert (red[:32, 32:] > np.maximum(green, blue)[:32, 32:]).all()
    assert (blue[32:, :32] > np.maximum(red, green)[32:, :32]).all()
    assert (np.ptp(image[32:, 32:], axis=-1) == 0).all()
