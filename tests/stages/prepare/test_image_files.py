"""Image files as they come: cut off, renamed, turned, of every kind; against Pillow's own decoding."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import ExifTags, Image

from stages.prepare import image_files
from stages.prepare.problems import DatasetError, Problems

WIDTH, HEIGHT = 40, 24
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))


def check(folder: Path, name: str = "1.jpg", width: int = WIDTH, height: int = HEIGHT) -> dict[str, int]:
    instances = pd.DataFrame({"image": [name] * 2, "image_id": 1, "width": width, "height": height})
    problems = Problems()
    sizes = image_files.check(instances, folder, problems)
    problems.stop()
    return sizes


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
    assert check(tmp_path) == {path.as_posix(): path.stat().st_size}


@pytest.mark.parametrize("format", image_files.FORMATS)
def test_the_name_does_not_matter(tmp_path, format):
    NOISE.save(tmp_path / "1.jpg", format=format)
    assert len(check(tmp_path)) == 1


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_an_image_cut_off_anywhere_is_broken(tmp_path, format, share):
    path = tmp_path / "1.jpg"
    NOISE.save(path, format=format)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert error(tmp_path).startswith("image broken (1): image 1, 1.jpg: ")


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
    assert error(tmp_path).startswith("image broken (1): image 1, 1.jpg: image file ")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_sizes_are_those_of_the_pixels_as_stored(tmp_path, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    NOISE.save(tmp_path / "1.jpg", exif=exif)
    assert check(tmp_path)
    assert error(tmp_path, width=HEIGHT, height=WIDTH) == (
        f"image of another size than stated (1): image 1, 1.jpg: {WIDTH} x {HEIGHT}, stated {HEIGHT} x {WIDTH}"
    )


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", b"<html>not found</html>", b"\xff\xd8\xff", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 24\n"],
)
def test_what_is_no_image_is_named(tmp_path, content):
    (tmp_path / "1.jpg").write_bytes(content)
    assert error(tmp_path) == "image broken (1): image 1, 1.jpg: not an image"


def test_missing_files_and_what_lies_in_their_place_are_named(tmp_path):
    assert error(tmp_path) == "image missing (1): image 1, 1.jpg"
    (tmp_path / "1.jpg").mkdir()
    assert error(tmp_path) == "image broken (1): image 1, 1.jpg: Is a directory"
    assert error(tmp_path, "1.jpg/2.jpg") == "image missing (1): image 1, 1.jpg/2.jpg"
    (tmp_path / "3.jpg").symlink_to(tmp_path / "4.jpg")
    assert error(tmp_path, "3.jpg") == "image missing (1): image 1, 3.jpg"
    (tmp_path / "5.jpg").symlink_to(tmp_path / "5.jpg")
    assert "image broken (1): image 1, 5.jpg: Too many" in error(tmp_path, "5.jpg")
    assert error(tmp_path, 300 * "a").endswith("a: File name too long")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(tmp_path):
    NOISE.save(tmp_path / "1.jpg")
    (tmp_path / "1.jpg").chmod(0)
    assert error(tmp_path) == "image broken (1): image 1, 1.jpg: Permission denied"


def test_a_header_that_claims_a_huge_image_is_refused_before_it_is_decoded(tmp_path):
    NOISE.save(tmp_path / "1.jpg", format="PNG")
    content = bytearray((tmp_path / "1.jpg").read_bytes())
    content[16:24] = (2**30).to_bytes(4, "big") * 2
    (tmp_path / "1.jpg").write_bytes(content)
    assert error(tmp_path).startswith("image broken (1): image 1, 1.jpg: ")


@pytest.mark.parametrize("format", image_files.FORMATS)
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


def test_listing_and_the_folder_that_holds_images(tmp_path):
    (tmp_path / "b" / "c").mkdir(parents=True)
    assert image_files.find_folder(tmp_path, ("a", "b")) == tmp_path / "a"
    NOISE.save(tmp_path / "b" / "1.JPG")
    NOISE.save(tmp_path / "b" / "c" / "2.png")
    (tmp_path / "b" / "notes.txt").write_text("no image")
    assert image_files.find_folder(tmp_path, ("a", "b")) == tmp_path / "b"
    found = image_files.listing(tmp_path / "b")
    assert found == [(name, (tmp_path / "b" / name).stat().st_size) for name in ("1.JPG", "c/2.png")]
