"""The report: numbers that agree everywhere, a page that needs no network, the same bytes again."""

import io
import json
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from stages.data import prepared
from stages.report import assemble, dataset_results, writing
from stages.report.__main__ import main as report
from stages.report.figures import gallery
from stages.report.tables import formats, latex
from stages.runtime import experiments, layout
from stages.runtime.params import read as read_params
from stages.scoring.protocols import PROTOCOLS
from tests.browser import chromium
from tests.stages.diagnose import diagnosis_inputs
from tests.stages.report import report_inputs

PARAMS = Path(__file__).parents[2] / "params.yaml"
VARIANTS = ["baseline", "text_to_pixel", "alignformer"]
TABLES = (
    *(
        "main",
        "ablation-val",
        "ablation-testA",
        "contrasts",
        "controls",
        "differences",
        "full",
        "slices",
        "learning",
        "plan",
        "costs",
    ),
)
COMMON = ("wide-mIoU", "wide-oIoU", "pooled")
FORMATS = (".tex", "-column.tex", ".md", ".csv", ".html")
FIGURES = [
    "differences",
    "profile",
    "slice-differences",
    "slices",
    "alignment",
    "calibration",
    "embeddings",
    "attention",
    "curves",
]
HOSTILE = 'the <script>alert("1")</script> & 100% of $x_1$ on the "left" | right'
SOURCE = {"kind": "refer", "name": "refcoco+", "split_by": "unc"}


def build(
    folder: Path,
    datasets: dict[str, tuple[int, int]],
    seeds: list[int],
    variants: list[str] = VARIANTS,
    quality: dict[str, float] | None = None,
    per_split: int = 4,
    protocol: str = "original",
    splits: tuple[str, ...] = ("val", "testA"),
    summary: dict | None = None,
    added: dict | None = None,
    highlight: str = "alignformer",
) -> None:
    """Everything that the report reads, for datasets of the given image size (width, height)."""
    content = yaml.safe_load(PARAMS.read_text())
    content["evaluation"]["protocol"] = protocol
    content["datasets"] |= dict.fromkeys(datasets, content["datasets"]["scenes"])
    content["variants"] |= added or {}
    content["experiment"] |= {"datasets": list(datasets), "variants": variants, "seeds": seeds}
    content["experiment"]["highlight"] = highlight
    (folder / "params.yaml").write_text(yaml.safe_dump(content))
    quality = quality or {"baseline": 0.3, "text_to_pixel": 0.2, "alignformer": 0.8}
    for name, (width, height) in datasets.items():
        build_dataset(name, width, height, per_split, ("train", *splits), summary or {})
        for variant in variants:
            for seed in seeds:
                build_run(name, variant, seed, quality[variant], protocol)
        report_inputs.write_results(read_params(), name)
        diagnosis_inputs.write(name, variants, seeds)
    layout.LINKS.write_text(experiments.links())


def build_dataset(name: str, width: int, height: int, per_split: int, splits: tuple[str, ...], summary: dict) -> None:
    generator = np.random.default_rng(0)
    folder = layout.prepared(name)
    (folder / "images").mkdir(parents=True)
    expressions, instances = [], []
    for number in range(per_split * len(splits)):
        pixels = np.linspace(generator.integers(0, 256, (width, 3)), generator.integers(0, 256, (width, 3)), height)
        path = folder / "images" / f"{number}.png"
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        mask = np.zeros((height, width), np.uint8)
        mask[height // 4 : height // 2, width // 4 : width // 2] = 1
        instances.append((number, number, path.as_posix(), width, height, "thing", prepared.encode_mask(mask)))
        expressions.append((100 + number, number, number, number, splits[number % len(splits)], HOSTILE))
    prepared.write(
        folder,
        pd.DataFrame(expressions, columns=prepared.EXPRESSION_COLUMNS),
        pd.DataFrame(instances, columns=prepared.INSTANCE_COLUMNS),
        {
            "name": name,
            "source": {**SOURCE, "root": "/somewhere/on/this/host", "images": "/somewhere"},
            "checks": ["ids_unique"],
            "fingerprint": "f00d" * 16,
            **summary,
        },
    )


def build_run(name: str, variant: str, seed: int, quality: float, protocol: str) -> None:
    dataset = prepared.read(layout.prepared(name))
    generator = np.random.default_rng([len(variant), seed])
    rows = []
    for expression in dataset.expressions[dataset.expressions["split"] != "train"].itertuples():
        instance = dataset.instances.loc[expression.ann_id]
        truth = prepared.decode_mask(instance["mask"], instance["height"], instance["width"])
        if PROTOCOLS[protocol].grid == "input":
            size = (PROTOCOLS[protocol].size,) * 2
            truth = np.asarray(Image.fromarray(truth).resize(size, Image.Resampling.NEAREST))
        away = 0 if generator.random() < quality else int(generator.integers(1, truth.shape[1] // 2))
        predicted = np.roll(truth, away, axis=1)
        intersection, union = int((truth & predicted).sum()), int((truth | predicted).sum())
        ids = (expression.sent_id, expression.ref_id, expression.ann_id, expression.image_id, expression.split)
        counted = (intersection, union, intersection / union, *predicted.shape, prepared.encode_mask(predicted))
        rows.append((*ids, protocol, *counted))
    names = ["sent_id", "ref_id", "ann_id", "image_id", "split", "protocol"]
    names += ["intersection", "union", "iou", "height", "width", "prediction"]
    write_table(pd.DataFrame(rows, columns=names), layout.scores(name, variant, seed))
    epochs = np.arange(1, 4)
    history = {"epoch": epochs, "loss": 2.0 / epochs, "mask_loss": 1.5 / epochs, "val_mIoU": quality * epochs / 3}
    write_table(pd.DataFrame(history).assign(protocol=protocol), layout.history(name, variant, seed))


def write_table(table: pd.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path, index=False)


def read_report() -> dict[str, bytes]:
    files = (path for path in layout.REPORTS.rglob("*") if path.is_file())
    return {path.relative_to(layout.REPORTS).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        build(folder, {"scenes": (40, 40)}, [0, 1], per_split=2)
    return folder


@pytest.fixture
def small(built, project):
    """Everything that a report on two expressions a split and two seeds reads, for one test."""
    shutil.copytree(built, project, dirs_exist_ok=True)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict[str, bytes]:
    """The report on two datasets, one with a name that LaTeX minds and images that are not square: its files."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        build(folder, {"scenes": (40, 40), "refcoco+": (90, 60)}, [0, 1], per_split=6)
        with report_inputs.unrendered(but=("scenes-", "refcoco+-curves")):
            report([])
        return read_report()


class Page(HTMLParser):
    """Collects what a page refers to, its text, and whether its elements are nested well."""

    VOID = ("meta", "img", "br", "link")

    def __init__(self, text: str):
        super().__init__()
        self.addresses, self.words, self.tags, self.ids, self.open = [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for key, value in attributes:
            if key in ("src", "href", "srcset", "data", "action", "poster", "xlink:href"):
                self.addresses.append(value)
            if key == "id":
                self.ids.append(value)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["script"]:
            self.words.append(data)


def test_the_metrics_for_dvc_are_those_of_the_comparison(written):
    content = json.loads(written["headline.json"])
    for name in ("scenes", "refcoco+"):
        table = pd.read_csv(io.BytesIO(written[f"data/{name}/comparison.csv"])).query(
            f"metric == '{content['metric']}'"
        )
        kept = pd.DataFrame([row for row in content["all"] if row["dataset"] == name])
        both = table.merge(kept, on=["split", "variant"], suffixes=("", "_kept"))
        assert len(both) == len(table) == len(kept)
        for key in ("mean", "difference"):
            assert np.allclose(both[f"{key}_kept"].astype(float), 100 * both[key], atol=0.0051, equal_nan=True)
        ends = np.array(both["interval"].tolist(), float)
        assert np.allclose(ends, 100 * both[["low", "high"]], atol=0.0051, equal_nan=True)
        supported = both["verdict_kept"].dropna().isin(["supported", "better", "worse"])
        assert supported.any() and (both["supported"][supported.index] == supported).all()
        assert both.loc[both["variant"] == "baseline", "verdict_kept"].isna().all()
        of_highlight = both[both["variant"] == content["variant"]].set_index("split")
        assert content[name] and "val" not in content[name]
        for shown, value in content[name].items():
            split, _, key = shown.partition("_")
            assert value == of_highlight.loc[split, f"{'difference' if key else 'mean'}_kept"]


def test_the_files_of_the_report(written):
    common = {f"tables/{table}{end}" for table in COMMON for end in FORMATS}
    assert set(written) == {"index.html", "headline.json", "provenance.json"} | common | {
        name.format(dataset)
        for dataset in ("scenes", "refcoco+")
        for name in (
            "tables/{}.md",
            "tables/{}.csv",
            *(f"tables/{{}}/{table}{end}" for table in TABLES for end in FORMATS),
            *(f"figures/{{}}-{figure}.{kind}" for figure in FIGURES for kind in ("svg", "pdf")),
            "figures/{}-gallery.png",
            "data/{}/averages.csv",
            "data/{}/comparison.csv",
            "data/{}/contrasts.csv",
            "data/{}/language.csv",
            "data/{}/slices.csv",
            "data/{}/diagnosis.csv",
            "data/{}/learning.csv",
            "data/{}/dataset.json",
            "data/{}/result.json",
        )
    }
    assert len(written["index.html"]) < 1_500_000 and sum(map(len, written.values())) < 5_000_000
    assert all(len(content) < 400_000 for name, content in written.items() if name.endswith(".png"))


def test_the_page_needs_no_network(written):
    page = written["index.html"].decode()
    parsed = Page(page)
    assert parsed.open == []
    assert parsed.addresses
    for address in parsed.addresses:
        assert address.startswith(("data:image/webp;base64,", "data:image/png;base64,", "#"))
    assert {address[1:] for address in parsed.addresses if address.startswith("#")} <= set(parsed.ids)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert not {"link", "iframe"} & set(parsed.tags) and parsed.tags.count("script") == 2  # its code, and texts to copy
    assert not re.search(r"https?:|@import|url\((?!#)", page)


def test_a_click_copies_a_table_as_its_file_has_it(written, tmp_path):
    (tmp_path / "index.html").write_bytes(written["index.html"])
    with chromium() as browser:
        context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
        context.set_offline(True)
        tab = context.new_page()
        tab.goto((tmp_path / "index.html").as_uri())

        def click(buttons, title: str) -> str:
            buttons.get_by_role("button", name=title, exact=True).click()
            assert buttons.get_by_role("status").inner_text() == f"{title} copied"
            return tab.evaluate("navigator.clipboard.readText()")

        of_wide = tab.locator("section:has(> h2#tables) .copy").first
        for end, title in formats.TITLES.items():
            assert click(of_wide, title).splitlines() == written[f"tables/wide-mIoU{end}"].decode().splitlines()
        of_main = tab.locator("div.scroll:has(table.sortable) ~ .copy").nth(0)
        for buttons, file in ((of_wide, "wide-mIoU"), (of_main, "scenes/main")):
            text = click(buttons, "HTML")
            assert Rows(text).rows == Rows(written[f"tables/{file}.html"].decode()).rows
            assert set(re.findall(r" (\w+)=", text)) <= {"colspan", "scope"} and "<button" not in text
        types = tab.evaluate("navigator.clipboard.read().then(items => items[0].types)")
        assert types == ["text/plain", "text/html"]  # HTML pastes as a table too


class Rows(HTMLParser):
    """What a table's HTML shows: the caption, each cell with its mark-up, and the notes."""

    def __init__(self, text: str):
        super().__init__()
        self.rows: list[list[str]] = [[]]
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag in ("tr", "p", "br"):
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append(dict(attrs).get("colspan", "1"))
        elif tag in ("b", "u", "small"):
            self.rows[-1].append(tag)

    def handle_data(self, data):
        if words := " ".join(data.split()):
            self.rows[-1].append(words)


def test_expressions_are_escaped(written):
    page = written["index.html"].decode()
    assert page.count("<script") == 2 and "<script>\n//" in page
    assert HOSTILE in "".join(Page(page).words)


def test_nothing_of_the_machine_is_written(written):
    for name, content in written.items():
        assert b"/somewhere" not in content, name
        assert b"<dc:date>" not in content and b"CreationDate" not in content, name


def test_curves_name_axes_and_variants(written):
    svg = written["figures/scenes-curves.svg"].decode()
    for text in ("epoch", "mIoU on val (%)", "training mask loss", *VARIANTS):
        assert text in svg


def test_every_figure_of_the_page_says_what_to_see(written):
    page = written["index.html"].decode()
    captions = re.findall(r"<figcaption>(.*?)</figcaption>\n</figure>", page)
    assert len(captions) == 2 * (len(FIGURES) - 1)  # attention stands in tables
    assert all("Look for" in caption and "Protocol original." in caption for caption in captions)
    images = re.findall(r"<svg role=\"img\" aria-label=\"([^\"]+)\"", page)
    assert len(images) == page.count("<svg") > 2 * len(FIGURES)


def test_the_page_reads_without_its_script(written):
    """Headings are text, buttons come with the script; every part that is folded has a line that says what it is."""
    page = Page(written["index.html"].decode())
    assert "button" not in page.tags
    assert page.tags.count("details") == page.tags.count("summary") > 0


def test_contents_lead_to_every_section(written):
    page = written["index.html"].decode()
    links = re.findall(r'href="#([^"]+)"', page[page.index("<nav") : page.index("</nav>")])
    headings = re.findall(r'<h[23] id="([^"]+)"', page)
    assert sorted(links) == sorted(headings)


def test_the_page_tells_where_it_comes_from(written):
    page = written["index.html"].decode()
    shown = page[page.index('<h2 id="provenance">') :]
    for text in ("dvc repro report", "ablate@scenes", "prepare@refcoco+", "mlflow", "torch"):
        assert text in shown


def test_every_abbreviation_is_expanded_before_the_first_table(written):
    page = written["index.html"].decode()
    start = re.sub(r"\s+", " ", page[page.index("<h1") : page.index("<nav")])
    for text in (
        "vision-language bidirectional attention (VLBA)",
        "IoU is the intersection over union",
        "mIoU is its mean",
        "oIoU the overall IoU",
        "Pr@X the precision at X",
    ):
        assert text in start


def test_the_result_stands_once_and_on_the_first_screen(written):
    """Before the contents: the best variant, each part, and the meaning of the words; nothing of it again below."""
    page = written["index.html"].decode()
    start = page[: page.index("<nav")]
    assert page.count('<section class="result"') == start.count('<section class="result"') == 2
    assert page.count(" has the highest mean: ") == start.count(" has the highest mean: ") == 2
    assert page.count("<dt>Supported</dt>") == start.count("<dt>Supported</dt>") <= 1
    for name in ("scenes", "refcoco+"):
        text = written[f"tables/{name}.md"].decode()
        headline = next(line for line in text.splitlines() if line.startswith("alignformer: "))
        sentence = headline.partition(". ")[0]
        assert sentence not in "".join(Page(page).words), "only the files of tables have it as sentences"


def test_the_result_as_data_says_what_the_page_says_first(written):
    """Word for word, but that the page has the metric above."""
    blocks = written["index.html"].decode().split('<section class="result"')[1:]
    for name, block in zip(("scenes", "refcoco+"), blocks, strict=True):
        said = json.loads(written[f"data/{name}/result.json"])
        parts = re.findall(r'<p class="answer">(.*?)</p>|<li>(.*?)</li>', block[: block.index("</section>")], re.DOTALL)
        words = [" ".join("".join(Page("".join(part)).words).split()).rstrip(".") for part in parts]
        assert [sentence.replace("highest mIoU", "highest mean").rstrip(".") for sentence in said] == words
        assert said[0].startswith("baseline has the highest") and said[0].endswith("It is the reference.") and said[1:]


def test_what_the_variants_are_stands_beside_their_predictions(written):
    page = written["index.html"].decode()
    for part in page.split('<div class="predictions">')[1:]:
        beside = "".join(Page(part[: part.index("</aside>")]).words) if "</aside>" in part else ""
        for name in VARIANTS:
            assert f"{name}" in beside
        assert "words inform every pixel" in beside and "reference" in beside and "highlighted" in beside
        assert part.index("</aside>") < part.index('class="gallery"')


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (1920, 1080), (390, 844)])
def test_the_first_screen_has_the_result_and_no_page_is_too_wide(written, tmp_path, width, height):
    (tmp_path / "index.html").write_bytes(written["index.html"])
    with chromium() as browser:
        tab = browser.new_page(viewport={"width": width, "height": height})
        tab.goto((tmp_path / "index.html").as_uri())
        for seen in (".answer", ".leads", *([".steps caption"] if width > 1000 else [])):
            box = tab.locator(seen).first.bounding_box()
            assert box["y"] + box["height"] < height and box["x"] >= 0 and box["x"] + box["width"] <= width
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        aside, gallery = (tab.locator(of).first.bounding_box() for of in (".made-of", ".predictions > div"))
        assert (aside["x"] + aside["width"] <= gallery["x"]) == (width > 1000), "beside, or on a phone above"
        assert tab.locator(".panel img").first.bounding_box()["width"] >= 60


def test_without_scores_of_highlight_and_reference_there_is_no_report(project):
    build(project, {"scenes": (40, 40)}, [0], per_split=2)
    table = pd.read_csv(layout.comparison("scenes"))
    gone = table["variant"].isin(["baseline", "alignformer"])
    table.loc[gone, ["seeds", "missing"]] = 0
    table["missing"] = table["missing"].map(lambda seed: "" if pd.isna(seed) else "0")
    table.to_csv(layout.comparison("scenes"), index=False)
    message = r"no run of alignformer or baseline on scenes has scores.*dvc repro ablate@scenes"
    with pytest.raises(SystemExit, match=message):
        report([])


def test_galleries_show_ends_and_disagreements(project):
    build(project, {"scenes": (40, 40)}, [0], per_split=30)
    results = dataset_results.read("scenes", read_params())
    highlight, reference = results.scores["alignformer"]["iou"], results.scores["baseline"]["iou"]
    shown = {found.key: [example.sent_id for example in found.examples] for found in gallery.galleries(results)}
    assert set(shown) == {"even", "gains", "losses", "worst", "best"}
    assert highlight[shown["worst"]].tolist() == sorted(highlight)[: gallery.EXTREMES]
    assert highlight[shown["best"]].tolist() == sorted(highlight, reverse=True)[: gallery.EXTREMES]
    apart = highlight - reference
    assert apart[shown["gains"]].tolist() == sorted(apart, reverse=True)[: gallery.EXTREMES]
    assert (apart[shown["losses"]] < -gallery.APART).all()
    gains, losses = (apart > gallery.APART).sum(), (apart < -gallery.APART).sum()
    rule = next(found.rule for found in gallery.galleries(results) if found.key == "gains")
    assert f"on {gains} and below by as much on {losses}." in rule


def test_the_reference_alone_disagrees_with_nothing(project):
    build(project, {"scenes": (40, 40)}, [0], variants=["baseline"], per_split=3, highlight="baseline")
    with report_inputs.unrendered():
        report([])
    results = dataset_results.read("scenes", read_params())
    assert [found.key for found in gallery.galleries(results)] == ["even", "worst", "best"]
    assert not (layout.REPORTS / "figures" / "scenes-differences.svg").exists()
    assert not (layout.REPORTS / "figures" / "scenes-attention.svg").exists()


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> dict[str, bytes]:
    """The report on a sweep over the temperature and a factorial, about a variant of neither: its files."""
    folder = tmp_path_factory.mktemp("swept")
    variant = yaml.safe_load(PARAMS.read_text())["variants"]["alignformer"]
    added = {f"warm{place}": {**variant, "temperature": value} for place, value in enumerate((0.02, 0.1))}
    added["baseline_instance"] = {**variant, "vlba": "none"}
    variants = [*VARIANTS, "vlba", *added]
    quality = dict.fromkeys(variants, 0.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        build(folder, {"scenes": (40, 40)}, [0], variants, quality, per_split=3, added=added, highlight="text_to_pixel")
        with report_inputs.unrendered(but=("scenes-sweep", "scenes-factorial")):
            report([])
        return read_report()


def test_a_sweep_is_drawn_and_tabulated(swept):
    svg, page = swept["figures/scenes-sweep-1.svg"].decode(), swept["index.html"].decode()
    for text in ("temperature of the contrast", "0.02", "0.05", "0.1", "mIoU on val (%)"):
        assert text in svg
    caption = "mIoU in percent over temperature"
    table = page[page.index(caption) :]
    assert re.findall(r'<th scope="row"[^>]*>(0\.\d+)</th>', table)[:3] == ["0.02", "0.05", "0.1"]


def test_a_factorial_is_drawn_tabulated_and_kept(swept):
    svg, page = swept["figures/scenes-factorial.svg"].decode(), swept["index.html"].decode()
    for text in ("contrast: none", "contrast: instance", "both", "mIoU on testA (%)"):
        assert f">{text}</text>" in svg
    section = page[page.index('<h3 id="scenes-factorial">') : page.index('<h3 id="scenes-sweeps">')]
    assert '<a href="#scenes-factorial">' in page and "bidirectional VLBA and instance contrast: " in section
    for text in ("tables/scenes.md", "tables/scenes/factorial.tex"):
        assert "Effects of VLBA and contrast in a factorial on scenes." in swept[text].decode()
    assert "data/scenes/factorial.csv" in swept


def test_the_page_is_about_the_variant_that_params_choose(swept):
    page = swept["index.html"].decode()
    said = "".join(Page(page).words)
    assert re.search(r"about the variant text_to_pixel, which params.yaml chooses\s+under experiment.highlight", said)
    assert "text-to-pixel VLBA" in page[: page.index("<nav")] and "Attention of text_to_pixel between words" in said
    assert "the IoU of text_to_pixel" in said and "text_to_pixel is above baseline" in said
    assert "the IoU of alignformer" not in said and "alignformer is above baseline" not in said


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("file", ["alignment.parquet", "samples.csv", "summary.json"])
def test_a_missing_diagnosis_names_the_command_that_makes_it(file):
    (layout.diagnosis("scenes", "alignformer", 0) / file).unlink()
    with pytest.raises(SystemExit, match="dvc repro diagnose@scenes-alignformer-0"):
        report([])


def test_files_of_datasets_that_are_no_longer_listed_go(project, monkeypatch):
    made = {f"{folder}/scenes.new": b"new" for folder in assemble.FOLDERS}
    monkeypatch.setattr(assemble, "of_results", lambda settings: {Path(name): made[name] for name in made})
    stale = [layout.REPORTS / name for name in ("tables/old.md", "figures/old-curves.svg", "data/old/comparison.csv")]
    for path in (*stale, layout.REPORTS / "notes.md"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("old")
    writing.write(report_inputs.params(project))
    assert read_report() == {**made, "notes.md": b"old"}


def test_tracked_reports_on_other_datasets_do_not_go_without_a_word(project, monkeypatch, capsys):
    """DVC removes what the stage makes before it runs it."""

    def write(*datasets: str) -> str:
        files = {
            Path(path.format(name)): name.encode()
            for name in datasets
            for path in ("data/{}/comparison.csv", "tables/{}.md", "figures/{}-curves.svg")
        }
        monkeypatch.setattr(assemble, "of_results", lambda settings: files)
        shutil.rmtree(layout.REPORTS, ignore_errors=True)
        writing.write(report_inputs.params(project, datasets=list(datasets)))
        return capsys.readouterr().out

    said = (
        "reports is about scenes alone now; its tracked files about refcoco, refcocog are removed. Git keeps them. To "
        "have them back, list refcoco, refcocog in experiment.datasets again and run: git restore reports dvc.lock\n"
    )
    assert write("scenes", "refcoco", "refcocog") == write("scenes") == ""  # no repository
    write("scenes", "refcoco", "refcocog")
    before = read_report()
    for command in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *command], check=True)
    assert write("scenes", "refcoco", "refcocog") == ""
    assert write("scenes") == said
    subprocess.run(["git", "restore", "reports"], check=True)
    assert read_report() == before
    monkeypatch.setenv("PATH", "")
    assert write("scenes") == ""  # no git


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("path", "column", "value"),
    [
        (layout.history("scenes", "alignformer", 0), "val_mIoU", math.nan),
        (layout.history("scenes", "baseline", 0), "mask_loss", math.inf),
        (layout.scores("scenes", "alignformer", 0), "iou", math.nan),
        (layout.diagnosis("scenes", "baseline", 0) / "thresholds.csv", "mIoU", math.nan),
        (layout.diagnosis("scenes", "alignformer", 0) / "attention.parquet", "share", math.nan),
        (layout.diagnosis("scenes", "alignformer", 0) / "embedding.parquet", "x", -math.inf),
    ],
)
def test_what_is_no_number_is_refused_where_it_is_read(path, column, value):
    table = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    table.loc[table.index[1], column] = value
    write_table(table, path)
    where = rf"{path}: {column} is no finite number in 1 of {len(table)} rows, the first of them row 2\."
    with pytest.raises(SystemExit, match=rf"{where} .*dvc repro -f -s \w+@scenes-\w+-0"):
        report([])
    assert not layout.REPORTS.exists()


@pytest.mark.usefixtures("small")
def test_a_summary_with_nan_is_refused():
    path = layout.diagnosis("scenes", "alignformer", 0) / "summary.json"
    path.write_text(path.read_text().replace('"brier": 0.05', '"brier": NaN'))
    with pytest.raises(SystemExit, match=r"summary.json holds NaN.*dvc repro -f -s diagnose@scenes-alignformer-0"):
        report([])


def test_images_keep_the_image_s_proportions(project):
    build(project, {"scenes": (90, 60)}, [0])
    for example in gallery.examples(dataset_results.read("scenes", read_params())):
        sizes = {example.image.size, *(prediction.image.size for prediction in example.predictions)}
        assert sizes == {(gallery.PANEL_WIDTH, round(gallery.PANEL_WIDTH * 60 / 90))}


def test_the_gallery_is_chosen_by_quantiles_of_the_highlighted_variant(project):
    build(project, {"scenes": (40, 40)}, [0], per_split=30)
    results = dataset_results.read("scenes", read_params())
    chosen = gallery.choose(results, 6)
    scores = results.scores["alignformer"].sort_values("iou")
    assert len(set(chosen)) == 6
    for split, part in (("val", chosen[:3]), ("testA", chosen[3:])):
        ious = scores.loc[scores["split"] == split, "iou"].to_numpy()
        assert scores.loc[part, "iou"].tolist() == [ious[5], ious[15], ious[25]]


@pytest.mark.usefixtures("small")
def test_small_splits_are_shown_whole():
    assert sorted(gallery.choose(dataset_results.read("scenes", read_params()))) == [101, 102, 104, 105]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("path", "command"),
    [
        (layout.comparison("scenes"), "dvc repro ablate@scenes"),
        (layout.history("scenes", "alignformer", 1), "dvc repro train@scenes-alignformer-1"),
        (layout.scores("scenes", "alignformer", 0), "dvc repro evaluate@scenes-alignformer-0"),
        (layout.prepared("scenes") / "dataset.json", "dvc repro prepare@scenes"),
    ],
)
def test_a_missing_input_names_the_command_that_makes_it(path, command):
    path.unlink()
    with pytest.raises(SystemExit, match=command):
        report([])
    assert not layout.REPORTS.exists()


@pytest.mark.usefixtures("small")
def test_a_comparison_of_another_experiment_is_refused():
    content = yaml.safe_load(Path("params.yaml").read_text())
    content["experiment"]["seeds"] = [0]
    Path("params.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(SystemExit, match="numbers of seeds"):
        report([])


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("path", "command"),
    [
        (layout.scores("scenes", "alignformer", 0), "dvc repro evaluate@scenes-alignformer-0"),
        (layout.history("scenes", "alignformer", 1), "dvc repro train@scenes-alignformer-1"),
        (layout.comparison("scenes"), "dvc repro ablate@scenes"),
    ],
)
def test_numbers_of_another_protocol_are_refused(path, command):
    read, write = (
        (pd.read_csv, pd.DataFrame.to_csv) if path.suffix == ".csv" else (pd.read_parquet, pd.DataFrame.to_parquet)
    )
    table = read(path)
    table["protocol"] = "lavt"
    write(table, path, index=False)
    with pytest.raises(SystemExit, match=rf"{path} is of another experiment: its protocols are \['lavt'\].*{command}"):
        report([])


@pytest.mark.usefixtures("small")
def test_a_report_without_images_of_the_dataset_says_how_to_see_them():
    content = yaml.safe_load(Path("params.yaml").read_text())
    content["report"]["images"] = False
    Path("params.yaml").write_text(yaml.safe_dump(content))
    with report_inputs.unrendered():
        report([])
    page = (layout.REPORTS / "index.html").read_text()
    assert "<img" not in page and "<code>dvc repro report</code>" in page
    found = {path.name for path in (layout.REPORTS / "figures").iterdir()}
    assert {"scenes-curves.svg", "scenes-embeddings.svg"} <= found
    assert not {"scenes-gallery.png", "scenes-attention.svg", "scenes-attention.pdf"} & found


def test_a_prediction_on_the_input_s_grid_lies_over_an_image_of_another_size(project):
    """A perfect prediction leaves nothing wrong and nothing missed, but for pixels at the edge."""
    build(project, {"scenes": (90, 60)}, [0], protocol="lavt", quality=dict.fromkeys(VARIANTS, 1.0))
    for example in gallery.examples(dataset_results.read("scenes", read_params())):
        for prediction in example.predictions:
            assert prediction.image.size == (gallery.PANEL_WIDTH, 128)
            red, green, blue = np.moveaxis(np.asarray(prediction.image).astype(int), -1, 0)
            correct = green - np.maximum(red, blue) > 20
            rows, columns = np.nonzero(correct)
            assert (rows.min(), rows.max(), columns.min(), columns.max()) == pytest.approx((32, 63, 47, 95), abs=2)


WARNINGS = ["not the whole refcoco (unc): train 2,488 of 42,404 refs", "no 100% of testB_x <here>"]


def test_warnings_of_the_data_stand_everywhere(project):
    build(project, {"scenes": (40, 40)}, [0, 1], per_split=2, summary={"partial": True, "warnings": WARNINGS})
    with report_inputs.unrendered():
        report([])
    files = read_report()
    lead = "Partial data, not comparable with published results"
    short = "not the whole refcoco (unc): train 2,488 of 42,404 refs; no 100% of testB_x <here>"
    words = "".join(Page(files["index.html"].decode()).words)
    assert words.count(f"on scenes. {lead}: {short}.") == 6, "main table, differences, parts, controls, slices, metrics"
    assert all(f"\n{warning}\n" in words for warning in WARNINGS)
    assert words.index(f"\n{WARNINGS[0]}\n") < words.index("Variants compared on scenes")
    markdown, tex = files["tables/scenes.md"].decode(), files["tables/scenes/main.tex"].decode()
    assert markdown.startswith(f"> **{lead}.**\n> - {WARNINGS[0]}\n> - {WARNINGS[1]}\n")
    assert "\n\nalignformer: +" in markdown
    captions = markdown.count(" on scenes. ")
    assert markdown.count(f"on scenes. {lead}: {short}.") == captions == 6
    assert markdown.count(f"at the size of the original image. {lead}.") == captions + 2  # check marks, on two splits
    assert tex.count(f"on scenes. {lead}: {latex.escape(short)}.") == tex.count(" on scenes. ") > 0
    assert set(pd.read_csv(io.BytesIO(files["tables/scenes.csv"]))["partial"]) == {True}


def test_data_without_warnings_are_not_warned_of(written):
    page = written["index.html"]
    assert b'class="lead"' not in page
    assert b"artial data" not in page
    assert set(pd.read_csv(io.BytesIO(written["tables/scenes.csv"]))["partial"]) == {False}


@pytest.mark.usefixtures("small")
def test_scores_of_other_expressions_are_refused():
    path = layout.scores("scenes", "alignformer", 0)
    pd.read_parquet(path).iloc[1:].to_parquet(path, index=False)
    with pytest.raises(SystemExit, match=r"scores 3 expressions, scenes has 4 to score \(val, testA\)"):
        report([])


@pytest.mark.usefixtures("small")
def test_an_image_of_another_size_is_refused():
    for path in Path("data/scenes/images").iterdir():
        Image.new("RGB", (30, 40)).save(path)
    with pytest.raises(SystemExit, match="it is 30 x 40 pixels, prepared as 40 x 40"):
        report([])
