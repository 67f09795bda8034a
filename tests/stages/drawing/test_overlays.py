"""Masks and maps over images."""

import numpy as np
import pytest
from PIL import Image

from stages.drawing import overlays

BOUNDS = 320, 420


def test_the_outline_is_what_touches_the_outside_or_the_edge():
    mask = np.zeros((6, 7), dtype=bool)
    mask[1:6, 2:6] = True
    expected = mask.copy()
    expected[2:5, 3:5] = False
    np.testing.assert_array_equal(overlays.outline(mask), expected)


def test_inside_the_line_colours_stay_and_outside_is_grey():
    mask = np.zeros((40, 60), dtype=bool)
    mask[10:30, 10:30] = True
    shown = np.asarray(overlays.overlay(Image.new("RGB", (60, 40), "#80a040"), mask))
    line = overlays.outline(mask)
    assert (shown[mask & ~line] == [0x80, 0xA0, 0x40]).all() and (shown[line] == 255).all()
    assert (shown[~mask] == shown[~mask][0, 0]).all()


@pytest.mark.parametrize("size", [(64, 48), (900, 700), (500, 2000), (3000, 20)])
def test_the_line_of_a_thumbnail_runs_around_the_mask(size):
    width, height = size
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[height // 4 : height // 2, width // 4 : width // 2] = 1
    shown = overlays.thumbnail(Image.new("RGB", size, "#80a040"), mask, BOUNDS)
    assert shown.width <= 320 and shown.height <= 420 and (shown.width == 320 or shown.height == 420)

    pixels = np.asarray(shown).astype(int)
    inside = (pixels == [0x80, 0xA0, 0x40]).all(axis=-1)
    dimmed = (abs(pixels - 0.6 * np.array([0x80, 0xA0, 0x40])) <= 1).all(axis=-1)
    assert inside.mean() == pytest.approx(1 / 16, rel=0.1, abs=1 / shown.height)
    assert not inside[0, 0] and inside[3 * shown.height // 8, 3 * shown.width // 8] and dimmed[-1, -1]
    line = (pixels == [0xE6, 0x00, 0x7E]).all(axis=-1)
    assert line.any() and not (line & inside).any()


def test_a_mask_thinner_than_a_pixel_is_still_seen():
    mask = np.zeros((2000, 2000), dtype=np.uint8)
    mask[1000, 1000] = 1
    shown = np.asarray(overlays.thumbnail(Image.new("RGB", (2000, 2000), "#80a040"), mask, BOUNDS))
    assert (shown == [0x80, 0xA0, 0x40]).all(axis=-1).sum() == 1


def grey(shares: np.ndarray) -> np.ndarray:
    return shares[..., None].repeat(3, axis=2)


def test_a_heat_map_goes_from_its_least_value_to_its_largest():
    values, black = np.array([[-1.0, 1.0], [3.0, 1.0]]), Image.new("RGB", (8, 8))
    shown = np.asarray(overlays.heat_map(black, values, grey)).astype(int)
    np.testing.assert_allclose(shown[[0, 0, 4], [0, 4, 0], 0], 0.65 * np.array([0, 127, 255]), atol=1)
    assert not np.asarray(overlays.heat_map(black, np.ones((2, 2)), grey)).any()
