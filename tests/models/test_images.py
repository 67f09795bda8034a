"""Image files of every mode, orientation and format, against values written by hand and Pillow's own turning."""

import io
import warnings

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageDraw, ImageOps, TiffImagePlugin

from models import images

HEIGHT, WIDTH = 24, 40
NOISE = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
SIXTEEN = np.linspace(0, 65535, HEIGHT * WIDTH).astype(np.uint16).reshape(HEIGHT, WIDTH)


def stored(image: Image.Image, format: str = "PNG", **options) -> io.BytesIO:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream


def pixels(image: Image.Image, format: str = "PNG", **options) -> np.ndarray:
    found = images.read(stored(image, format, **options))
    assert found.mode == "RGB"
    return np.asarray(found)


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, axis=2)


@pytest.mark.parametrize("format", images.FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright(format, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    image = Image.fromarray(NOISE)
    options = {} if format == "BMP" else {"exif": exif}
    stream = stored(image, format, **options, **({"lossless": True} if format == "WEBP" else {}))
    with Image.open(stream) as plain:
        turn = (lambda image: image) if format == "TIFF" else ImageOps.exif_transpose  # Pillow turns a TIFF by itself
        expected = turn(plain).convert("RGB")
    with images.opened(stream) as file:
        header = images.header(file)
    found = images.read(stream)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))
    turned = orientation if options else 1
    assert found.size == header.size == ((HEIGHT, WIDTH) if turned >= 5 else (WIDTH, HEIGHT))
    assert header.orientation == turned
    assert images.read(stored(found)).tobytes() == found.tobytes()  # it is not turned twice


def test_broken_exif_data_turn_nothing():
    assert pixels(Image.fromarray(NOISE), exif=b"Exif\0\0no TIFF").tobytes() == NOISE.tobytes()


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bits_are_scaled_to_8(format):
    expected = np.round(SIXTEEN / 257).astype(np.uint8)
    np.testing.assert_array_equal(pixels(Image.fromarray(SIXTEEN), format), grey(expected))


def test_16_bits_of_either_byte_order_in_memory():
    swapped = Image.frombytes("I;16B", (WIDTH, HEIGHT), SIXTEEN.astype(">u2").tobytes())
    expected = grey(np.round(SIXTEEN / 257).astype(np.uint8))
    np.testing.assert_array_equal(np.asarray(images.rgb(swapped)), expected)


def test_the_tags_of_a_tiff_say_how_many_bits_and_which_is_white():
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[images.MEANING] = images.WHITE_IS_ZERO
    image = Image.fromarray(SIXTEEN)
    expected = grey(np.round((65535 - SIXTEEN.astype(int)) / 257).astype(np.uint8))
    content = bytearray(stored(image, "TIFF").getvalue())
    entry = content.index((images.MEANING).to_bytes(2, "little") + b"\x03\x00")
    assert content[entry + 8] == 1
    content[entry + 8] = images.WHITE_IS_ZERO
    np.testing.assert_array_equal(np.asarray(images.read(io.BytesIO(content))), expected)

    packed = np.unpackbits((SIXTEEN >> 4).astype(">u2").view(np.uint8).reshape(HEIGHT, WIDTH, 2), axis=2)
    rows = np.packbits(packed[..., 4:].reshape(HEIGHT, -1), axis=1).tobytes()  # 12 bits a pixel
    content = bytearray(stored(image, "TIFF").getvalue())
    start = content.index(image.tobytes())
    content[start : start + len(rows)] = rows
    entry = content.index((images.BITS).to_bytes(2, "little") + b"\x03\x00")
    content[entry + 8] = 12
    expected = grey(np.round((SIXTEEN >> 4) * (255 / 4095)).astype(np.uint8))
    np.testing.assert_array_equal(np.asarray(images.read(io.BytesIO(content))), expected)


@pytest.mark.parametrize("mode", ["LA", "RGBA", "PA", "La", "RGBa"])
def test_alpha_is_put_on_white(mode):
    alpha = np.zeros((HEIGHT, WIDTH), np.uint8)
    alpha[:, 8:], alpha[:, 16:] = 128, 255
    layer = np.dstack([NOISE[..., :1].repeat(3, axis=2), alpha])
    image = Image.fromarray(layer)
    if mode in ("LA", "La"):
        image = image.convert("LA")
    found = np.asarray(images.rgb(image.convert("P").convert("PA") if mode == "PA" else image.convert(mode)))
    if mode == "PA":
        assert found.shape == NOISE.shape
        return
    expected = 255 + (layer[..., :3] - 255.0) * (alpha[..., None] / 255)
    assert np.abs(found - expected)[:, 8:].max() <= 2
    assert (found[:, :8] == 255).all() and (found[:, 16:] == layer[:, 16:, :3]).all()
    if mode in ("LA", "RGBA"):
        np.testing.assert_array_equal(pixels(image), found)


@pytest.mark.parametrize("mode", ["P", "L", "1", "RGB", "I;16"])
def test_a_transparent_value_of_a_png_is_white(mode):
    values = np.zeros((HEIGHT, WIDTH), np.uint8)
    values[4:9] = 255
    image = Image.fromarray(values).convert("RGB" if mode == "I;16" else mode)
    key = {"RGB": (0, 0, 0)}.get(mode, 0)
    if mode == "I;16":
        image = Image.fromarray(values.astype(np.uint16) * 257)
    elif mode == "P":
        key = image.getpixel((0, 0))
    found = pixels(image, transparency=key)
    assert (found == 255).all()


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV", "LAB", "RGBX"])
def test_modes_without_alpha_keep_their_colours(mode):
    if mode == "LAB":
        from PIL import ImageCms

        source = Image.new("RGB", (WIDTH, HEIGHT), (200, 40, 60))
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(source, *profiles, outputMode="LAB")
        assert np.abs(np.asarray(images.rgb(image)).astype(int) - np.asarray(source)).max() <= 3
        return
    source = Image.new("RGB", (WIDTH, HEIGHT), "black")
    ImageDraw.Draw(source).rectangle((5, 5, 20, 15), "white")
    np.testing.assert_array_equal(np.asarray(images.rgb(source.convert(mode))), np.asarray(source))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_values_of_32_bits_are_refused_with_their_mode(mode):
    stream = stored(Image.new(mode, (WIDTH, HEIGHT)), "TIFF")
    with pytest.raises(ValueError, match=rf"32 bits \(mode {mode}\).* save it with 8 or 16 bits"):
        images.read(stream)
    with pytest.raises(ValueError, match=rf"\(mode {mode}\)"), images.opened(stream) as file:
        images.header(file)


@pytest.mark.parametrize("format", ["TIFF", "PNG", "WEBP"])
def test_of_several_frames_the_first_is_read(format):
    frames = [Image.new("RGB", (WIDTH, HEIGHT), colour) for colour in ("red", "blue")]
    stream = stored(frames[0], format, save_all=True, append_images=frames[1:])
    with images.opened(stream) as file:
        assert images.header(file).changes == ["have several frames, of which the first is read"]
    assert np.abs(np.asarray(images.read(stream)).astype(int) - [255, 0, 0]).max() < 9


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is not an image"),
        (b"an image", "it is not an image"),
        (stored(Image.fromarray(NOISE), "GIF").getvalue(), "GIF is not read; convert it to JPEG or PNG"),
        (stored(Image.fromarray(NOISE), "PPM").getvalue(), "PPM is not read; convert it to JPEG or PNG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC is not read; convert it to JPEG or PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 24\n%%EndComments\n", "EPS is not read; convert"),
        (stored(Image.fromarray(NOISE)).getvalue()[:400], "truncated"),
    ],
)
def test_what_is_not_read_is_named(content, message, tmp_path):
    (tmp_path / "image").write_bytes(content)
    for file in (io.BytesIO(content), tmp_path / "image"):
        with pytest.raises(ValueError, match=message) as caught:
            images.read(file)
        assert "BytesIO" not in str(caught.value) and str(tmp_path) not in str(caught.value)


def test_a_huge_image_is_refused_with_the_limit_and_the_way_out(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", HEIGHT * WIDTH // 2)
    stream = stored(Image.fromarray(NOISE))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert images.read(stream).size == (WIDTH, HEIGHT)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", HEIGHT * WIDTH // 2 - 1)
        with pytest.raises(ValueError, match=r"more than 958 pixels, the most that are read: scale it down"):
            images.read(stream)
