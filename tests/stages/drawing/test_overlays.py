"""Masks over images: colours say what they mean, an outline is the border of its mask."""

import numpy as np
from PIL import Image
from scipy import ndimage

from stages.drawing import overlays


def test_colours_say_correct_wrong_and_missed():
    image = Image.new("RGB", (64, 64), (128, 128, 128))
    truth, predicted = np.zeros((64, 64), bool), np.zeros((64, 64), bool)
    truth[:, :32], predicted[:32] = True, True
    image = np.asarray(overlays.comparison(image, truth, predicted)).astype(int)
    red, green, blue = np.moveaxis(image, -1, 0)
    assert (green[:32, :32] > np.maximum(red, blue)[:32, :32]).all()
    assert (red[:32, 32:] > np.maximum(green, blue)[:32, 32:]).all()
    assert (blue[32:, :32] > np.maximum(red, green)[32:, :32]).all()
    assert (np.ptp(image[32:, 32:], axis=-1) == 0).all()


def test_an_outline_is_what_erosion_takes_away():
    mask = np.random.default_rng(0).random((40, 30)) < 0.7
    mask[10:20, 5:15] = True
    np.testing.assert_array_equal(overlays.outline(mask), mask & ~ndimage.binary_erosion(mask))


def test_inside_keeps_its_colours_and_outside_is_grey():
    image, mask = Image.new("RGB", (20, 20), (10, 200, 30)), np.zeros((20, 20), bool)
    mask[5:15, 5:15] = True
    shown = np.asarray(overlays.overlay(image, mask))
    assert (shown[6:14, 6:14] == (10, 200, 30)).all()
    assert (shown[overlays.outline(mask)] == 255).all()
    assert (np.ptp(shown[~mask].astype(int), axis=-1) == 0).all()
