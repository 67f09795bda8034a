"""The page of `make demo` in a browser: samples, a dropped image, words, two models; nobody else is asked."""

import base64
import io
import os
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from benchmarks import servers
from models.prediction import segment
from stages.data import prepared
from stages.demo import __main__ as command
from stages.demo import answers
from stages.demo import page as demo_page
from stages.drawing import overlays
from stages.runtime import layout
from stages.scoring import trained
from tests.browser import chromium
from tests.project import Watched
from tests.stages.conftest import squares_in, teach

pytestmark = pytest.mark.programs

PARAMS = Path(__file__).parents[2] / "params.yaml"
MODELS = ("squares/baseline/0", "squares/alignformer/0")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A folder with a prepared dataset and two trained models: one with VLBA, one without."""
    folder = tmp_path_factory.mktemp("project")
    squares = squares_in(folder)
    instances = squares.prepared.instances.reset_index()
    prepared.write(folder / layout.prepared("squares"), squares.prepared.expressions, instances, {"name": "squares"})
    for name, variant in zip(MODELS, ({"vlba": "none", "contrastive": "none"}, {}), strict=True):
        teach(squares, folder / layout.RESULTS / "models" / name, **variant)
    return folder


@pytest.fixture(scope="module")
def served(project, root):
    """A browser and the address of the page, which asks this machine alone, as does who serves it."""
    port, asked = servers.free_port(), set()
    watched, url = Watched(project, project / "calls"), f"http://127.0.0.1:{port}"
    watched.environment["PYTHONPATH"] += f"{os.pathsep}{root}"
    started = [sys.executable, "-m", "stages.demo", *MODELS, "--port", str(port)]
    with (
        chromium() as browser,
        servers.running(url, started, watched.environment, project / "log", cwd=project),
    ):
        yield browser, url, asked
    assert asked - {None} == {"127.0.0.1"}
    assert watched.tried("stages.demo") == []


@pytest.fixture
def page(served):
    """The page, just opened: both models have answered."""
    browser, url, asked = served
    opened = browser.new_page()
    opened.set_default_timeout(300_000)
    opened.context.on("request", lambda request: asked.add(urlsplit(request.url).hostname))
    opened.on("websocket", lambda socket: asked.add(urlsplit(socket.url).hostname))
    opened.goto(url, wait_until="networkidle")  # an answer on its way would come after the others are gone
    for side in ("left", "right"):
        opened.locator(f"#{side} img.mask").wait_for()
    yield opened
    opened.close()


def say(page, text: str) -> None:
    page.locator("#text").fill(text)
    page.locator("#text").press("Enter")


def image_of(page, selector: str) -> np.ndarray:
    source = page.locator(selector).get_attribute("src")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).convert("RGB"))


def expected(project: Path, model: str, image: Image.Image, text: str) -> tuple[np.ndarray, float]:
    """The overlay as wide as the page shows it, and the score."""
    loaded, processor = trained.load(project / layout.RESULTS / "models" / model)
    (found,) = segment(loaded.eval(), processor, [image], [text])
    overlay = overlays.overlay(image, found.mask)
    size = (640, round(640 * image.height / image.width))
    return np.asarray(overlay.resize(size, Image.Resampling.NEAREST)), found.score


def squares_of(project: Path, image_id: int) -> dict[str, np.ndarray]:
    """Expression of val -> its true mask."""
    table = prepared.read(project / layout.prepared("squares"))
    rows = table.expressions[(table.expressions["image_id"] == image_id) & (table.expressions["split"] == "val")]
    instances = table.instances.loc[rows["ann_id"]]
    masks = [prepared.decode_mask(*of) for of in instances[["mask", "height", "width"]].itertuples(index=False)]
    return dict(zip(rows["text"], np.asarray(masks, bool), strict=True))


def expected_truth(image: Image.Image, mask: np.ndarray) -> np.ndarray:
    size = (640, round(640 * image.height / image.width))
    return np.asarray(overlays.overlay(image, mask).resize(size, Image.Resampling.NEAREST))


@pytest.fixture
def begun(tmp_path, monkeypatch) -> list[tuple[str, str]]:
    """A folder with the parameters of the project; collects what the page would begin with."""
    begun, served = [], SimpleNamespace(run=lambda **options: None)
    monkeypatch.chdir(tmp_path)
    shutil.copy(PARAMS, tmp_path / "params.yaml")
    monkeypatch.setattr("stages.demo.page.app", lambda models, shown, datasets: begun.append(shown) or served)
    return begun


def trained_as(*names: str) -> None:
    for name in names:
        place = layout.RESULTS / "models" / name / "model.safetensors"
        place.parent.mkdir(parents=True)
        place.touch()


def test_it_begins_with_the_reference_beside_the_highlighted_variant(begun):
    trained_as("scenes/alignformer/1", "scenes/baseline/0", "scenes/baseline/1", "scenes/vlba_pixel/1")
    command.main(["--port", str(servers.free_port())])
    command.main(["scenes/vlba_pixel/1", "--port", str(servers.free_port())])
    assert begun == [("scenes/baseline/1", "scenes/alignformer/1"), ("scenes/vlba_pixel/1", "scenes/vlba_pixel/1")]


def test_where_one_of_them_is_not_trained_it_begins_with_what_there_is(begun):
    trained_as("scenes/baseline/0", "scenes/vlba/0", "scenes/vlba/1")
    command.main(["--port", str(servers.free_port())])
    assert begun == [("scenes/baseline/0", "scenes/vlba/1")]


def uploaded(path: Path) -> tuple[dict, str]:
    return demo_page._uploaded(f"data:image/x;base64,{base64.b64encode(path.read_bytes()).decode()}")


def thirty_megapixels(path: Path) -> Path:
    """A JPEG of 6000 x 5000 pixels, as a camera makes it: with detail and noise, some MiB."""
    Image.effect_noise((1500, 1250), 60).resize((6000, 5000)).convert("RGB").save(path, quality=90)
    assert 2**20 < path.stat().st_size < demo_page.LARGEST_UPLOAD
    return path


def test_what_is_kept_of_a_large_picture_is_bounded(tmp_path):
    found, note = uploaded(thirty_megapixels(tmp_path / "photo.jpg"))
    assert answers.kept(found["upload"]).size == (1024, 853)
    assert note == "The image of 6000 x 5000 pixels is made smaller: 1024 x 853."


def test_a_small_file_with_too_many_pixels_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    Image.new("1", (9000, 8000)).save(tmp_path / "bomb.png")
    monkeypatch.setattr("models.images.read", lambda file: pytest.fail("it is decoded"))
    found, note = uploaded(tmp_path / "bomb.png")
    refused = "the image has 9,000 x 8,000 pixels, and the page takes 64,000,000: make it smaller"
    assert (found, note) == ({"refused": refused}, "")


def test_two_models_answer_side_by_side(page, project):
    with Image.open(project / "2.png") as file:
        image = file.convert("RGB")
    page.locator("#samples button").nth(1).click()
    page.get_by_role("button", name="the yellow square").click()
    for side, model in zip(("left", "right"), MODELS, strict=True):
        page.locator(f"#{side}").get_by_text("IoU").wait_for()
        page.wait_for_function("document.querySelector('#text').value == 'the yellow square'")
        overlay, score = expected(project, model, image, "the yellow square")
        page.locator(f"#{side}").get_by_text(f"probability of {score:.3f}").wait_for()
        assert np.array_equal(image_of(page, f"#{side} img.mask"), overlay)
        assert image_of(page, f"#{side} img.similarity").shape == overlay.shape
        truth = expected_truth(image, squares_of(project, 2)["the yellow square"])
        assert np.array_equal(image_of(page, f"#{side} img.truth"), truth)
    assert page.locator("#left .words").count() == 0
    assert "This variant has no vision-language bidirectional attention (VLBA)" in page.locator("#left").inner_text()
    assert page.locator("#right .words").count() == 2
    header = page.locator("#right .pixel_to_text th").all_inner_texts()
    assert header == ["level", "[CLS]", "the", "yellow", "square", "[SEP]", "1", "2"]
    assert page.locator("#right .text_to_pixel td img").count() == 2 * 5


def test_a_typed_expression_is_asked_of_the_same_image(page, project):
    page.locator("#samples button").first.click()
    page.get_by_role("button", name="the red square").wait_for()
    say(page, "blue zebra")
    page.locator("#right").get_by_text("Not in the model's vocabulary, read as unknown words: zebra.").wait_for()
    assert "IoU" not in page.locator("#right").inner_text()  # there is no true mask
    assert page.locator("img.truth").count() == 0


def test_a_dropped_image_is_segmented(page, project, tmp_path):
    image = Image.effect_mandelbrot((90, 60), (-2, -1.5, 1, 1.5), 100).convert("RGB")
    image.save(tmp_path / "dropped.png")
    page.locator("#upload input").set_input_files(tmp_path / "dropped.png")
    say(page, "the green one")
    overlay, score = expected(project, MODELS[1], image, "the green one")
    page.locator("#right").get_by_text(f"probability of {score:.3f}").wait_for()
    assert np.array_equal(image_of(page, "#right img.mask"), overlay)
    assert page.locator("#expressions button").count() == 0


def test_no_old_answer_stands_beside_a_picture_that_is_being_read(page, tmp_path):
    Image.effect_noise((1500, 600), 50).convert("RGB").save(tmp_path / "large.png")
    held = []
    page.route("**/_dash-update-component", lambda route: held.append(route))
    page.locator("#upload input").set_input_files(tmp_path / "large.png")
    page.get_by_text("Reading large.png …").wait_for()
    page.locator(".sides img").first.wait_for(state="detached")
    page.unroute("**/_dash-update-component")
    for route in held:
        route.continue_()
    page.get_by_text("The image of 1500 x 600 pixels is made smaller: 1024 x 410.").wait_for()
    page.locator("#right img.mask").wait_for()
    assert image_of(page, "#right img.mask").shape == (256, 640, 3)
    page.locator("#samples button").first.click()
    page.locator("#right").get_by_text("IoU").wait_for()
    assert page.locator("#note").inner_text() == ""


def test_the_same_picture_can_be_dropped_again(page, project, tmp_path):
    (tmp_path / "again.png").write_bytes((project / "1.png").read_bytes())
    for _ in range(2):
        with page.expect_file_chooser() as chooser:
            page.locator("#upload").click()
        chooser.value.set_files(tmp_path / "again.png")
        page.locator("#expressions button").first.wait_for(state="detached")
        page.locator("#right img.mask").wait_for()
        assert "IoU" not in page.locator("#right").inner_text() and page.locator("#note").inner_text() == ""
        page.locator("#samples button").first.click()
        page.locator("#right").get_by_text("IoU").wait_for()


def test_a_picture_that_is_too_large_is_refused_at_once(page, tmp_path):
    (tmp_path / "huge.png").write_bytes(bytes(33 * 2**20))
    page.locator("#upload input").set_input_files(tmp_path / "huge.png")
    page.get_by_text("huge.png is too large: 33 MiB, the most is 32 MiB.").wait_for()
    page.locator("#samples button").first.click()
    page.wait_for_function("document.querySelector('#note').innerText == ''")


@pytest.mark.parametrize("size", [(1, 3000), (3000, 1)])
def test_the_answer_for_a_thin_picture_is_small(page, tmp_path, size):
    Image.effect_noise(size, 50).save(tmp_path / "thin.png")
    page.locator("#upload input").set_input_files(tmp_path / "thin.png")
    page.get_by_text("made smaller").wait_for()
    page.locator("#right .words img").first.wait_for()
    shown = page.locator(".sides img").evaluate_all("all => all.map(one => [one.naturalWidth, one.naturalHeight])")
    assert len(shown) > 4 and max(width for width, _ in shown) <= 640 and max(height for _, height in shown) <= 960
    assert len(page.locator(".sides").inner_html()) < 200_000


def test_another_model_on_one_side(page):
    page.locator("#left-model").click()
    page.locator(".dash-dropdown-option", has_text=MODELS[1]).click()
    page.locator("#left .words").first.wait_for()
    assert image_of(page, "#left img.mask").tolist() == image_of(page, "#right img.mask").tolist()


def test_what_cannot_be_read_is_said(page, tmp_path):
    say(page, "")
    page.locator("#right").get_by_text("the expression is empty").wait_for()
    say(page, "the red square and the blue one and the green one")
    page.locator("#right").get_by_text("has 13 tokens and the model reads 8").wait_for()
    (tmp_path / "no.png").write_bytes(b"no image")
    page.locator("#upload input").set_input_files(tmp_path / "no.png")
    page.locator("#right").get_by_text("it is not an image").wait_for()
    assert page.locator("#note").inner_text() == ""
    page.locator("#samples button").first.click()
    page.locator("#right img.mask").wait_for()
    say(page, "\u200b")
    page.locator("#right").get_by_text("the expression is empty: the tokenizer drops all of").wait_for()


def test_a_photograph_of_30_megapixels_is_answered(page, tmp_path):
    photo, held = thirty_megapixels(tmp_path / "photo.jpg"), []
    page.route("**/_dash-update-component", lambda route: held.append(route))
    page.locator("#upload input").set_input_files(photo)
    page.locator("#note.busy", has_text="Reading photo.jpg …").wait_for()
    page.unroute("**/_dash-update-component")
    for route in held:
        route.continue_()
    page.get_by_text("The image of 6000 x 5000 pixels is made smaller: 1024 x 853.").wait_for(timeout=120_000)
    for side in ("left", "right"):
        page.locator(f"#{side} img.mask").wait_for(timeout=120_000)
        assert image_of(page, f"#{side} img.mask").shape == (533, 640, 3)
    assert page.locator(".busy:visible").count() == 0
    page.locator("#samples button").first.click()
    page.locator("#right img.truth").wait_for()


@pytest.mark.parametrize("width", [390, 1280, 1440, 1920, 2560])
def test_it_uses_the_width_of_the_screen(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    page.locator("#right img.mask").wait_for()
    left, right = (page.locator(f"section:has(#{side})").bounding_box() for side in ("left", "right"))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert right["x"] + right["width"] > width - 40, "up to the right edge"
    assert (left["y"] == right["y"] and left["x"] < right["x"]) == (width > 1000), "side by side, or on a phone stacked"
    pictures = [page.locator(f"#left img.{name}").bounding_box() for name in ("mask", "truth", "similarity")]
    assert pictures[0]["y"] == pictures[1]["y"] or width < 1000, "the true mask is beside the prediction"
    assert pictures[0]["y"] == pictures[2]["y"] or width < 1400, "and so is the similarity"
    assert all(box["width"] >= 130 for box in pictures)


@pytest.mark.parametrize(("scheme", "is_dark"), [("light", False), ("dark", True)])
def test_it_follows_the_scheme_of_the_system(page, scheme, is_dark):
    page.emulate_media(color_scheme=scheme)
    read = "element => [getComputedStyle(element).backgroundColor, getComputedStyle(element).color]"
    for selector in ("body", "section", "#text", "#samples button", "#left-model"):
        ground, ink = (luminance(colour) for colour in page.locator(selector).first.evaluate(read))
        assert (max(ground, ink) + 0.05) / (min(ground, ink) + 0.05) >= 4.5, selector  # WCAG 2.2, 1.4.3
        assert (ground < 0.2) == is_dark, selector


def luminance(colour: str) -> float:
    """The relative luminance of `rgb(...)`, by WCAG 2.2."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
