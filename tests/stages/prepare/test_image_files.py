"""Image files as they come: cut off, renamed, turned, of every kind; against Pillow's own decoding."""

import os
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import ExifTags, Image, ImageOps

from models import images
from stages.prepare import image_files
from stages.prepare.problems import DatasetError, Problems

WIDTH, HEIGHT = 40, 24
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))


def check(folder: Path, name: str = "1.jpg", width: int = WIDTH, height: int = HEIGHT) -> image_files.Checked:
    instances = pd.DataFrame({"image": [name] * 2, "image_id": 1, "width": width, "height": height})
    problems = Problems()
    found = image_files.check(instances, folder, problems)
    problems.stop()
    return found


def error(folder: Path, name: str = "1.jpg", **size: int) -> str:
    with pytest.raises(DatasetError) as caught:
        check(folder, name, **size)
    message = str(caught.value)
    assert message.startswith(f"{folder}: ") and "\n" not in message
    return message.removeprefix(f"{folder}: ")


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 100, "subsampling": 0}])
@pytest.mark.parametrize("trailing", [b"", b"\0", b"\0" * 5000, b"comment"])
def test_whole_jpegs_of_every_kind_are_sound(tmp_path, mode, options, trailing):
    path = tmp_path / "1.jpg"
    NOISE.convert(mode).save(path, **options)
    path.write_bytes(path.read_bytes() + trailing)
    assert check(tmp_path) == image_files.Checked({"1.jpg": path.stat().st_size}, [], [])


@pytest.mark.parametrize("format", images.FORMATS)
def test_the_name_does_not_matter(tmp_path, format):
    NOISE.save(tmp_path / "1.jpg", format=format)
    assert len(check(tmp_path).sizes) == 1


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_an_image_cut_off_anywhere_is_broken(tmp_path, format, share):
    path = tmp_path / "1.jpg"
    NOISE.save(path, format=format)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert error(tmp_path).startswith("image cannot be read (1): image 1, 1.jpg: ")


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("thumbnail", [False, True])
def test_a_jpeg_that_ends_in_zeros_is_broken(tmp_path, progressive, thumbnail):
    """As a download leaves it that reserves the file first; decoders take the zeros for pixels."""
    path = tmp_path / "1.jpg"
    NOISE.save(tmp_path / "small.jpg")
    small = (tmp_path / "small.jpg").read_bytes()
    NOISE.save(path, progressive=progressive, **({"exif": b"Exif\0\0" + small} if thumbnail else {}))
    content = path.read_bytes()
    assert check(tmp_path)
    cut = len(content) - 300
    path.write_bytes(content[:cut] + bytes(300))
    assert error(tmp_path).startswith("image cannot be read (1): image 1, 1.jpg: image file ")


def oriented(path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    NOISE.save(path, exif=exif, format="JPEG")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_sizes_are_those_of_the_upright_image_and_turned_images_are_a_warning(tmp_path, orientation):
    oriented(tmp_path / "1.jpg", orientation)
    with Image.open(tmp_path / "1.jpg") as image:
        width, height = ImageOps.exif_transpose(image).size
    found = check(tmp_path, width=width, height=height)
    turned = (
        "images that are turned by their EXIF orientation: 1, such as 1.jpg. Masks that were drawn on the pixels as "
        "stored"
    )
    assert found.warnings == (
        [] if orientation == 1 else [f"{turned} lie elsewhere, until the orientation is removed from the files"]
    )
    if orientation >= 5:
        message = error(tmp_path, width=WIDTH, height=HEIGHT)
        assert message.startswith("size as stored, but the image is turned by its EXIF orientation; if the masks are")
        assert message.endswith(f": image 1, 1.jpg: {HEIGHT} x {WIDTH}, stated {WIDTH} x {HEIGHT}")
    assert error(tmp_path, width=width + 1, height=height) == (
        f"image of another size than stated (1): image 1, 1.jpg: {width} x {height}, stated {width + 1} x {height}"
    )


@pytest.mark.parametrize("behind", [False, True])
def test_exif_data_before_or_behind_the_pixels_of_a_png_turn_it(tmp_path, behind):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    path = tmp_path / "1.png"
    NOISE.save(path, exif=exif)
    if behind:
        content = path.read_bytes()
        start = content.index(b"eXIf") - 4
        length = int.from_bytes(content[start : start + 4]) + 12
        chunk = content[start : start + length]
        path.write_bytes(content[:start] + content[start + length : -12] + chunk + content[-12:])
    found = check(tmp_path, "1.png", width=HEIGHT, height=WIDTH)
    assert "1.png" in found.warnings[0] and images.read(path).size == (HEIGHT, WIDTH)


def test_what_reading_changes_is_noted_once_an_image(tmp_path):
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint16)).save(tmp_path / "1.png")
    assert check(tmp_path, "1.png").notes == ["images that have more than 8 bits and are scaled to 8: 1, such as 1.png"]
    NOISE.convert("RGBA").save(tmp_path / "2.png")
    assert check(tmp_path, "2.png").notes == ["images that may be transparent and are put on white: 1, such as 2.png"]
    Image.new("F", (WIDTH, HEIGHT)).save(tmp_path / "3.tif")
    assert "its values have 32 bits (mode F)" in error(tmp_path, "3.tif")


FILM = b"\0\0\0\x18ftypmp42" + bytes(range(200)) * 20


@pytest.mark.parametrize("film", [FILM, FILM + b"\xff\xda" + FILM, FILM + b"\xff\xd9" + FILM + b"\xff\xda" + FILM])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_film_behind_the_pixels_does_not_matter(tmp_path, film, progressive):
    path = tmp_path / "1.jpg"
    NOISE.save(path, progressive=progressive)
    content = path.read_bytes()
    path.write_bytes(content + film)
    assert check(tmp_path)
    if image_files.JPEG_END not in film:
        path.write_bytes(content[:-300] + bytes(300) + film)
        assert error(tmp_path).startswith("image cannot be read (1): image 1, 1.jpg: ")


def test_a_name_that_looks_the_same_is_told(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "Café.png") for form in ("NFC", "NFD"))
    for there, named in ((composed, decomposed), (decomposed, composed)):
        NOISE.save(tmp_path / there)
        assert "a file is there whose name looks the same, but its accents are other" in error(tmp_path, named)
        (tmp_path / there).unlink()
        assert error(tmp_path, named) == f"image missing (1): image 1, {named}"


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", b"<html>not found</html>", b"\xff\xd8\xff"],
)
def test_what_is_no_image_is_named(tmp_path, content):
    (tmp_path / "1.jpg").write_bytes(content)
    assert error(tmp_path) == "image cannot be read (1): image 1, 1.jpg: it is not an image"


def test_missing_files_and_what_lies_in_their_place_are_named(tmp_path):
    assert error(tmp_path) == "image missing (1): image 1, 1.jpg"
    (tmp_path / "1.jpg").mkdir()
    assert error(tmp_path) == "image cannot be read (1): image 1, 1.jpg: Is a directory"
    assert error(tmp_path, "1.jpg/2.jpg") == "image missing (1): image 1, 1.jpg/2.jpg"
    (tmp_path / "3.jpg").symlink_to(tmp_path / "4.jpg")
    assert error(tmp_path, "3.jpg") == "image missing (1): image 1, 3.jpg"
    (tmp_path / "5.jpg").symlink_to(tmp_path / "5.jpg")
    assert "image cannot be read (1): image 1, 5.jpg: Too many" in error(tmp_path, "5.jpg")
    assert error(tmp_path, 300 * "a").endswith("a: File name too long")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(tmp_path):
    NOISE.save(tmp_path / "1.jpg")
    (tmp_path / "1.jpg").chmod(0)
    assert error(tmp_path) == "image cannot be read (1): image 1, 1.jpg: Permission denied"


def test_a_header_that_claims_a_huge_image_is_refused_before_it_is_decoded(tmp_path):
    NOISE.save(tmp_path / "1.jpg", format="PNG")
    content = bytearray((tmp_path / "1.jpg").read_bytes())
    content[16:24] = (2**30).to_bytes(4, "big") * 2
    (tmp_path / "1.jpg").write_bytes(content)
    assert error(tmp_path).startswith("image cannot be read (1): image 1, 1.jpg: ")


@pytest.mark.parametrize("format", images.FORMATS)
def test_any_damage_is_survived(tmp_path, format, recwarn, capfd):
    path = tmp_path / "1.jpg"
    NOISE.save(path, format=format)
    content = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    generator = np.random.default_rng(0)
    for _ in range(60):
        damaged = content.copy()
        damaged[generator.integers(0, len(content), 4)] = generator.integers(0, 256, 4)
        damaged[generator.integers(0, min(len(content), 200))] ^= 255
        path.write_bytes(damaged.tobytes())
        problems = Problems()
        instances = pd.DataFrame({"image": ["1.jpg"], "image_id": 1, "width": WIDTH, "height": HEIGHT})
        image_files.check(instances, tmp_path, problems)


@pytest.mark.parametrize(
    ("folder", "name", "joined"),
    [
        ("images", "1.jpg", "images/1.jpg"),
        (".", "1.jpg", "1.jpg"),
        ("../images/", "train/1.jpg", "../images/train/1.jpg"),
        ("/images", "./1.jpg", "/images/1.jpg"),
    ],
)
def test_paths_of_a_prepared_dataset(folder, name, joined):
    assert image_files.join(Path(folder), name) == joined


def test_the_first_folder_that_holds_images(tmp_path):
    (tmp_path / "b").mkdir()
    assert image_files.find_folder(tmp_path, ("a", "b")) == tmp_path / "a"
    NOISE.save(tmp_path / "b" / "1.JPG")
    assert image_files.find_folder(tmp_path, ("a", "b")) == tmp_path / "b"


def test_listing_follows_links_and_takes_any_name(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "kitchen").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(tmp_path / "images")
    names = ["kitchen/1.jfif", "kitchen/2", "3.jpe"]
    for size, name in enumerate(names, start=5):
        (tmp_path / "images" / name).write_bytes(bytes(size))
    found = image_files.listing(tmp_path / "images", [*names, *names, "absent.png", "null\0"])
    assert found == [("3.jpe", 7), ("kitchen/1.jfif", 5), ("kitchen/2", 6)]
