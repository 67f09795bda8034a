"""What a prepared dataset holds: the numbers against counts made another way, and the page."""

import io
import re
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages.data import prepared
from stages.data.prepared import EXPRESSION_COLUMNS, INSTANCE_COLUMNS, PreparedDataset
from stages.prepare import inspection, sources
from stages.prepare.problems import DatasetError
from stages.runtime.params import ReferSource

NASTY = '<b>left</b> & "right" </title><script>alert(1)</script>'
HEIGHT, WIDTH = 30, 40


@pytest.fixture
def dataset(tmp_path) -> PreparedDataset:
    return things(tmp_path)


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    """The page of `dataset`, made once for all tests."""
    return inspection.page(things(tmp_path_factory.mktemp("things")))


@pytest.fixture
def few_samples(monkeypatch) -> None:
    monkeypatch.setattr(inspection, "SAMPLES", 2)


def things(folder: Path) -> PreparedDataset:
    """40 images of one to three objects of 13 categories, in three splits; a shown expression of val is nasty."""
    generator = np.random.default_rng(0)
    expressions, instances = [], []
    for image_id in range(40):
        path = folder / f"{image_id}.png"
        Image.new("RGB", (WIDTH, HEIGHT), tuple(generator.integers(0, 255, 3).tolist())).save(path)
        split = ("val" if image_id < 8 else "testA") if image_id < 12 else "train"
        for ann_id in range(10 * image_id, 10 * image_id + int(generator.integers(1, 4))):
            mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
            top, left = generator.integers(0, 25, 2)
            mask[top : top + generator.integers(1, 20), left : left + generator.integers(1, 30)] = 1
            category = f"thing {generator.integers(0, 18) ** 2 // 20}"
            counts = prepared.encode_mask(mask)
            instances.append((ann_id, image_id, path.as_posix(), WIDTH, HEIGHT, category, counts))
            for _ in range(generator.integers(1, 4)):
                text = " ".join(["word"] * int(generator.integers(1, 33)))
                expressions.append((1000 + len(expressions), 5000 + ann_id, ann_id, image_id, split, text))
    dataset = PreparedDataset(
        pd.DataFrame(expressions, columns=EXPRESSION_COLUMNS),
        pd.DataFrame(instances, columns=INSTANCE_COLUMNS).set_index("ann_id"),
        {
            "name": "things",
            "source": {"root": "things", "kind": "refer", "images": None, "allow_partial": True},
            "warnings": ["less than the whole"],
            "notes": ["a note"],
            "checks": ["ids unique", "masks valid"],
            "fingerprint": "0123abcd",
        },
    )
    shown = dataset.expressions["ref_id"] == inspection.choose(dataset, "val")[0]
    dataset.expressions.loc[shown, "text"] = NASTY
    return dataset


class Page(HTMLParser):
    """Elements, texts and attributes of a page; every element must be closed."""

    VOID = ("meta", "img", "line", "rect", "br")

    def __init__(self, content: str):
        super().__init__()
        self.tags, self.attributes, self.texts, self._open = [], [], [], []
        self.feed(content)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID or (self._open and self._open[-1] == tag):
            assert self._open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_data(self, data):
        self.texts.append(data)


def by_loops(dataset, split):
    """refs, expressions, images, instances; words; mask areas in percent: counted row by row."""
    rows = [row for row in dataset.expressions.to_dict("records") if split in (row["split"], "all")]
    sizes = [len({row[key] for row in rows}) for key in ("ref_id", "sent_id", "image_id", "ann_id")]
    masks = [dataset.instances.loc[ann_id, "mask"] for ann_id in sorted({row["ann_id"] for row in rows})]
    areas = [100 * prepared.decode_mask(counts, HEIGHT, WIDTH).sum() / (HEIGHT * WIDTH) for counts in masks]
    return sizes, [len(row["text"].split()) for row in rows], areas


@pytest.mark.parametrize("split", ["train", "val", "testA", "all"])
def test_numbers_of_a_split(dataset, split):
    sizes, words, areas = by_loops(dataset, split)
    facts = inspection.facts(dataset)
    quantiles = [0, 5, 25, 50, 75, 95, 100]
    assert list(facts.words.columns) == ["min", "5%", "25%", "median", "75%", "95%", "max"]
    assert facts.sizes.loc[split].tolist() == sizes
    np.testing.assert_allclose(facts.words.loc[split], np.percentile(words, quantiles))
    np.testing.assert_allclose(facts.shares.loc[split], np.percentile(areas, quantiles))


def test_categories_and_objects(dataset):
    facts = inspection.facts(dataset)
    names, counts = np.unique(dataset.instances["category"], return_counts=True)
    expected = sorted(zip(names, counts, strict=True), key=lambda pair: (-pair[1], pair[0]))
    assert list(facts.categories.items()) == expected and len(expected) > inspection.CATEGORIES

    objects = [len(set(rows["ann_id"])) for _, rows in dataset.expressions.groupby("image_id")]
    assert facts.objects.to_dict() == {number: objects.count(number) for number in sorted(set(objects))}


def test_charts_count_everything_once(dataset):
    words, masks, objects = inspection.charts(dataset)
    _, lengths, areas = by_loops(dataset, "all")
    expected = np.histogram(lengths, [*range(1, 25), 1000])[0]
    assert [count for _, count in words.bars] == expected.tolist() and words.bars[-1][0] == "24+"
    assert [count for _, count in masks.bars] == np.histogram(areas, np.arange(0, 101, 5))[0].tolist()
    assert sum(count for _, count in objects.bars) == 40
    for chart in (words, masks, objects):
        highest = max(count for _, count in chart.bars)
        assert chart.steps[-2] < highest <= chart.steps[-1] and len(chart.steps) <= 5


def test_the_summary_states_the_numbers(dataset):
    text = inspection.summary(dataset)
    sizes, words, areas = by_loops(dataset, "train")
    lines = [line.split() for line in text.splitlines()]
    trained = [line[1:] for line in lines if line[:1] == ["train"]]
    assert trained[0] == list(map(str, sizes))
    assert trained[1][3] == f"{np.median(words):g}" and trained[1][-1] == str(max(words))
    assert trained[2][3] == f"{np.median(areas):.2f}"
    counts = dataset.instances["category"].value_counts()
    others = counts.iloc[10:]
    assert ["and", str(len(others)), "more", str(others.sum()), f"{100 * others.sum() / counts.sum():.1f}%"] in lines
    assert text.startswith("things: kind refer, root things, allow_partial true\n")
    for line in ("warning: less than the whole", "note: a note", "checked: masks valid"):
        assert line in text.splitlines()


def test_the_page_is_whole_offline_and_escaped(page):
    parsed = Page(page)
    assert "script" not in parsed.tags and "b" not in parsed.tags and parsed.tags.count("title") >= 1
    assert any(NASTY in text for text in parsed.texts)
    addresses = [value for name, value in parsed.attributes if name in ("src", "href")]
    assert all(address.startswith(("data:image/webp;base64,", "#")) for address in addresses)
    assert not re.search(r"url\(|@import|//\w", re.sub(r"base64,[^\"]*", "", page))
    anchors = {value for name, value in parsed.attributes if name == "id"}
    assert {address[1:] for address in addresses if address[0] == "#"} <= anchors
    for said in ("less than the whole", "a note", "0123abcd"):
        assert said in page


def test_the_same_dataset_gives_the_same_bytes(dataset, page):
    assert inspection.page(dataset) == page


def test_samples_are_spread_over_mask_sizes_with_all_expressions_and_ids(dataset, page):
    shares = prepared.area_shares(dataset.instances)
    for split, number in (("train", 12), ("val", 12), ("testA", len(set(dataset.split("testA")["ref_id"])))):
        chosen = inspection.choose(dataset, split)
        assert len(set(chosen)) == len(chosen) == number
        assert shares[[ref_id - 5000 for ref_id in chosen]].is_monotonic_increasing
        for ref_id in chosen:
            rows = dataset.expressions[dataset.expressions["ref_id"] == ref_id]
            sample = inspection.sample(dataset, ref_id)
            assert set(rows["split"]) == {split}
            assert sample.expressions == list(zip(rows["sent_id"], rows["text"], strict=True))
            ids = f"ref_id {ref_id}, ann_id {sample.ann_id}, image_id {sample.ann_id // 10}, "
            assert f"mask {100 * shares[sample.ann_id]:.2f}% of the image; {ids}" in page


def test_images_of_the_page_are_small(dataset, page):
    sources = re.findall(r"data:image/webp;base64,([^\"]*)", page)
    sizes = [Image.open(io.BytesIO(b64decode(source))).size for source in sources]
    assert len(sizes) == 12 + 12 + len(set(dataset.split("testA")["ref_id"])) and set(sizes) == {(320, 240)}


@pytest.mark.parametrize("harm", ["missing", "cut off", "text", "another size"])
@pytest.mark.usefixtures("few_samples")
def test_a_bad_image_is_named(dataset, harm):
    instance = dataset.instances.loc[inspection.choose(dataset, "val")[1] - 5000]
    path = Path(instance["image"])
    content = path.read_bytes()
    if harm == "missing":
        path.unlink()
    elif harm == "another size":
        Image.new("RGB", (WIDTH, HEIGHT + 1)).save(path)
    else:
        path.write_bytes(content[: len(content) // 2] if harm == "cut off" else b"an image")
    with pytest.raises(DatasetError) as caught:
        inspection.page(dataset)
    message = str(caught.value)
    assert message.startswith(f"{path} (image {instance['image_id']}, annotation ")
    assert message.endswith("Make the dataset again with: dvc repro -f -s prepare@things")


@pytest.mark.usefixtures("few_samples")
def test_a_dataset_whose_images_were_not_checked_has_a_page_without_pictures(dataset):
    dataset.summary["source"]["check_images"] = False
    expected = Page(inspection.page(dataset))
    left = dataset.instances.loc[inspection.choose(dataset, "val")[0] - 5000, "image"]
    for path in set(dataset.instances["image"]) - {left}:
        Path(path).unlink()
    content = inspection.page(dataset)
    page = Page(content)
    assert page.tags.count("figure") == expected.tags.count("figure")
    pictures = content.count("data:image/webp")
    assert pictures + content.count("No picture: it does not exist.") == expected.tags.count("img") > pictures > 0


def test_photographs(shared_data, tmp_path):
    """A page of photographs stays small enough to send; its numbers are those of the facts about the data."""
    source = ReferSource(
        kind="refer",
        root=str(shared_data / "refer_mini"),
        name="refcoco",
        split_by="unc",
        sentence="sent",
        allow_partial=True,
    )
    tables = sources.read(source, tmp_path)
    summary = {
        "name": "refer_mini",
        "source": source.model_dump(),
        "warnings": tables.warnings,
        "notes": tables.notes,
        "checks": tables.checks,
        "fingerprint": "",
    }
    prepared.write(tmp_path, tables.expressions, tables.instances, summary)
    dataset = prepared.read(tmp_path)
    assert inspection.facts(dataset).sizes["refs"].to_dict() == {
        "train": 2488,
        "val": 206,
        "testA": 116,
        "testB": 111,
        "all": 2921,
    }
    assert len(inspection.page(dataset).encode()) < 2_000_000
