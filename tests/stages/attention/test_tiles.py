"""The tiles of VLBA's attention: their numbers, and where shares lie over the image."""

import numpy as np
from PIL import Image

from stages.attention.tiles import TIMES, tiles
from tests.stages.diagnose import diagnosis_inputs


def test_the_numbers_say_how_uneven_shares_are():
    even = diagnosis_inputs.attention(7, np.random.default_rng(0))
    side = np.where(even["level"] == 0, diagnosis_inputs.GRID, diagnosis_inputs.GRID // 2)
    even["share"] = np.where(even["direction"] == "pixel_to_text", 1 / side**2, 1 / len(diagnosis_inputs.WORDS))
    image, mask = Image.new("RGB", (40, 40)), np.zeros((40, 40), bool)
    gathered, read = tiles(even, "text", 7, image, mask, None)
    assert (gathered.direction, read.direction) == ("pixel_to_text", "text_to_pixel")
    assert gathered.words == diagnosis_inputs.WORDS and gathered.levels == [1, 2]
    assert {tile.number for row in gathered.tiles for tile in row} == {f"{TIMES}1.0"}
    assert {tile.number for row in read.tiles for tile in row} == {"25 %"}


def test_the_border_of_a_letterbox_is_not_laid_over_the_image():
    """Shares in the border of the model's input leave the image dark; without a border they are its upper half."""
    table = diagnosis_inputs.attention(7, np.random.default_rng(0))
    table["share"] = (table["row"] == 0).astype(float)
    image, mask = Image.new("RGB", (80, 40), (100, 100, 100)), np.zeros((40, 80), bool)
    of_input = tiles(table, "text", 7, image, mask, "letterbox")[0].tiles[0][0]
    stretched = tiles(table, "text", 7, image, mask, None)[0].tiles[0][0]
    assert np.ptp(np.asarray(of_input.image).reshape(-1, 3), axis=0).tolist() == [0, 0, 0]
    assert np.asarray(stretched.image)[0, 0].tolist() != np.asarray(stretched.image)[-1, 0].tolist()


def test_a_variant_without_attention_has_no_tiles():
    table = diagnosis_inputs.attention(7, np.random.default_rng(0)).head(0)
    assert tiles(table, "text", 7, Image.new("RGB", (40, 40)), np.zeros((40, 40), bool), None) == []
