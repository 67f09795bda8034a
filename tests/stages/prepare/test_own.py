"""One's own data: what a newcomer's files hold, right and wrong, and how images are dealt out."""

import json
import unicodedata
import warnings

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from stages.data import prepared
from stages.prepare import own
from stages.prepare.problems import DatasetError
from stages.statistics.evidence import FEWEST_IMAGES

HEIGHT, WIDTH = 12, 16
LINES = ["ann_id,expression,split", "11,red cup,train", '12,"cup, the left one",train', "21,cup,val", "31,Café,test"]


class Folder:
    """Three images, five annotations, changed by a test and then written."""

    def __init__(self, root):
        self.root = root
        self.lines = list(LINES)
        boxes = {11: [1, 2, 6, 7], 12: [4, 5, 10, 9], 21: [0, 0, 16, 12], 31: [3, 3, 5, 5]}
        self.masks = {ann_id: self.mask(*box) for ann_id, box in boxes.items()}
        self.instances = {
            "images": [self.image(image_id, f"{image_id}.png") for image_id in (1, 2, 3)],
            "annotations": [
                {"id": ann_id, "image_id": ann_id // 10, "category_id": 5, "segmentation": self.polygons(*box)}
                for ann_id, box in boxes.items()
            ]
            + [{"id": 22, "image_id": 2, "category_id": 5, "bbox": [1, 2, 3, 4]}],  # nothing refers to it
            "categories": [{"id": 5, "name": "cup"}],
        }

    @staticmethod
    def image(image_id, name):
        return {"id": image_id, "file_name": name, "height": HEIGHT, "width": WIDTH}

    @staticmethod
    def mask(left, top, right, bottom):
        mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
        mask[top:bottom, left:right] = 1
        return mask

    @staticmethod
    def polygons(left, top, right, bottom):
        return [[left, top, right, top, right, bottom, left, bottom]]

    def annotation(self, ann_id):
        return next(entry for entry in self.instances["annotations"] if entry["id"] == ann_id)

    def write(self, content: bytes | None = None) -> None:
        (self.root / "instances.json").write_text(json.dumps(self.instances))
        (self.root / "expressions.csv").write_bytes("\n".join(self.lines).encode() if content is None else content)
        for image in self.instances["images"]:
            path = self.root / "images" / image["file_name"]
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (image["width"], image["height"])).save(path)

    def read(self, content: bytes | None = None, seed: int = 0):
        self.write(content)
        return own.read(self.root / "instances.json", self.root / "expressions.csv", self.root / "images", seed)

    def error(self, content: bytes | None = None) -> str:
        with pytest.raises(DatasetError) as caught:
            self.read(content)
        return str(caught.value).replace(str(self.root), "own")


@pytest.fixture
def folder(tmp_path) -> Folder:
    return Folder(tmp_path)


def test_tables_and_masks(folder):
    tables = folder.read()
    assert list(tables.expressions.itertuples(index=False, name=None)) == [
        (2, 11, 11, 1, "train", "red cup"),
        (3, 12, 12, 1, "train", "cup, the left one"),
        (4, 21, 21, 2, "val", "cup"),
        (5, 31, 31, 3, "test", "Café"),
    ]
    assert list(tables.expressions.columns) == prepared.EXPRESSION_COLUMNS
    for row in tables.instances.itertuples():
        assert row.image == f"{folder.root}/images/{row.image_id}.png"
        np.testing.assert_array_equal(prepared.decode_mask(row.mask, HEIGHT, WIDTH), folder.masks[row.ann_id])
    assert tables.warnings == tables.notes == []
    assert [path.name for path in tables.files] == ["instances.json", "expressions.csv"]
    assert len(tables.sizes) == 3


def test_every_annotation_of_the_images_has_its_box(folder):
    boxes = folder.read().boxes
    expected = [
        (ann_id, *coco_mask.toBbox(coco_mask.encode(np.asfortranarray(m)))) for ann_id, m in folder.masks.items()
    ]
    expected.append((22, 1, 2, 3, 4))
    assert boxes[["ann_id", "x", "y", "width", "height"]].to_numpy().tolist() == [list(row) for row in expected]
    assert boxes["image_id"].tolist() == [1, 1, 2, 3, 2]
    assert set(boxes["category"]) == {"cup"}


def test_boxes_written_as_two_corners_are_noted(folder):
    for ann_id, corners in ((11, [1, 2, 6, 7]), (12, [4, 5, 10, 9]), (31, [3, 3, 5, 5])):
        folder.annotation(ann_id)["bbox"] = corners
    assert folder.read().notes == [
        "1 boxes do not fit their images, and were taken from the segmentation, such as that of annotation 12",
        "1 of 4 boxes overlap the box of their mask by less than half, such as that of annotation 31",
    ]


@pytest.mark.parametrize(
    "content",
    [
        "\ufeff" + "\n".join(LINES),
        "\r\n".join(LINES) + "\r\n",
        "\n".join(LINES) + "\n  \n,,\n",
        "\n".join([LINES[0].replace(",", ", "), " 11 , red cup , train ", *LINES[2:]]),
    ],
    ids=["byte order mark", "Windows line ends", "blank lines", "spaces around values"],
)
def test_harmless_differences_change_nothing(folder, content):
    expected = folder.read().expressions
    pd.testing.assert_frame_equal(folder.read(content.encode()).expressions, expected)


def test_columns_in_any_order_and_quotes_within_an_expression(folder):
    folder.lines = ["split,expression,ann_id", 'train,"the ""best"" cup",11', 'val,3" cup,21']
    assert folder.read().expressions["text"].tolist() == ['the "best" cup', '3" cup']


def test_blank_lines_keep_the_numbers_of_the_others(folder):
    folder.lines = ["", LINES[0], "", LINES[1], "", LINES[3]]
    assert folder.read().expressions["sent_id"].tolist() == [4, 6]


def test_images_in_sub_folders(folder):
    folder.instances["images"][0]["file_name"] = "kitchen/day 1/1.png"
    assert folder.read().instances["image"][0] == f"{folder.root}/images/kitchen/day 1/1.png"


@pytest.mark.parametrize("as_list", [True, False])
def test_run_lengths(folder, as_list):
    mask = np.random.default_rng(0).random((HEIGHT, WIDTH)) < 0.4
    counts = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode()
    if as_list:
        pixels = mask.T.reshape(-1)
        changes = np.flatnonzero(np.diff(pixels, prepend=False))
        counts = np.diff([0, *changes, mask.size]).tolist()
    folder.annotation(11).update(segmentation={"size": [HEIGHT, WIDTH], "counts": counts}, iscrowd=1)
    tables = folder.read()
    np.testing.assert_array_equal(prepared.decode_mask(tables.instances["mask"][0], HEIGHT, WIDTH), mask)
    assert tables.warnings == ["1 masks are marked iscrowd, and may cover several objects, such as annotation 11"]


def test_words_that_mean_two_objects_of_an_image_are_a_warning(folder):
    folder.lines[1:3] = ["11,cup,train", "11,red cup,train", "12,cup,train"]
    assert folder.read().warnings == ["2 expressions mean several objects of their image, such as lines 2 and 4"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "\n".join(LINES).replace(",", ";"),
            "line 1: found 'ann_id;expression;split', expected the names of the colum",
        ),
        (
            "\n".join(LINES[1:]),
            "line 1: found '11,red cup,train', expected the names of the columns, separated by commas",
        ),
        ("ann_id,expression,expression\n", "line 1: found 'ann_id,expression,expression', expected"),
        (",ann_id,expression\n0,11,cup", "line 1: found ',ann_id,expression', expected"),
        ("", "line 1: found '', expected"),
        ("ann_id,expression\n", "no expression (1): no line below the first can be used"),
    ],
)
def test_another_header_is_named(folder, content, message):
    assert f"own/expressions.csv: {message}" in folder.error(content.encode())


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_another_encoding_is_named(folder, encoding):
    line = {"latin-1": 5, "utf-16": 1}[encoding]
    message = f"own/expressions.csv: line {line}: not UTF-8; save the file as CSV in UTF-8"
    assert folder.error("\n".join(LINES).encode(encoding)) == message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "11,cup, the red one,train",
            "an expression with a comma stands in quotes (1): line 3: ['11', 'cup', 'the red",
        ),
        (
            "11,cup",
            "the number of values in the line is not 3; an expression with a comma stands in quotes (1): line 3",
        ),
        ('11,"red cup,train', 'quotes that do not match; commas and quotes are written "a, b" and "a ""b"""'),
        ('11,"red" cup,train', 'quotes that do not match; commas and quotes are written "a, b" and "a ""b"""'),
        ("cup.png,red cup,train", "ann_id is not a whole number (1): line 3: 'cup.png'"),
        ("11.0,red cup,train", "ann_id is not a whole number (1): line 3: '11.0'"),
        ("-11,red cup,train", "ann_id is not a whole number (1): line 3: '-11'"),
        ("11111111111111111111,red cup,train", "ann_id is not a whole number (1): line 3"),
        ("13,red cup,train", "ann_id is the id of no annotation in instances.json (1): line 3: 13"),
        ("11,,train", "empty expression (1): line 3"),
        ('11,"  ",train', "empty expression (1): line 3"),
        ("11,red mug,validation", "unknown split, known are train, val, testA, testB, test (1): line 3: 'validation'"),
        ("11,red mug,", "unknown split, known are train, val, testA, testB, test (1): line 3: ''"),
        (" 11,red cup ,train", "line repeats an earlier one, delete it (1): line 3 repeats line 2"),
        ("11,red mug,val", "image in two splits, give all its lines one (1): image 1: train in line 2, val in line 3"),
    ],
)
def test_a_wrong_line_is_named(folder, line, message):
    folder.lines.insert(2, line)
    error = folder.error()
    assert f"own/expressions.csv: {message}" in error or f"; {message}" in error
    assert "line 3" in error and len(error.splitlines()) == 1


def test_a_cell_of_several_lines_is_one_expression(folder):
    folder.lines[1:3] = ['11,"red', "", '  cup",train', '12,"cup, the', 'left ""one""",train']
    expressions = folder.read().expressions
    assert expressions["text"].tolist() == ["red cup", 'cup, the left "one"', "cup", "Café"]
    assert expressions["sent_id"].tolist() == [2, 5, 7, 8]
    folder.lines = ["expression,ann_id,split", '"red', 'cup",11,train', '"blue', 'cup",21,val']
    assert folder.read().expressions["text"].tolist() == ["red cup", "blue cup"]


def test_quotes_that_do_not_match_swallow_no_line(folder):
    folder.lines = [LINES[0], '11,"red cup,train', *LINES[2:4], '31,Café",test']
    kind = 'quotes that do not match; commas and quotes are written "a, b" and "a ""b"""'
    assert folder.error() == f"own/expressions.csv: {kind} (1): line 2: unexpected end of data"
    folder.lines[1] = '13,"red cup,train'
    folder.lines.insert(2, "14,cup,train")
    assert f"{kind} (1): line 2" in folder.error() and "line 3: 14" in folder.error()


INVISIBLE = ["\u200b", "\u2060\u200d", "\u00ad", "\ufeff\ufeff", "\u202e", "\u0301", "\u00a0"]


@pytest.mark.parametrize("text", INVISIBLE)
def test_an_expression_that_nobody_sees_is_empty(folder, text):
    folder.lines.insert(2, f"11,{text},train")
    assert "expressions.csv: empty expression (1): line 3" in folder.error()


def test_accents_are_composed(folder):
    composed, decomposed = (unicodedata.normalize(form, "Café") for form in ("NFC", "NFD"))
    folder.lines.append(f"31,{decomposed},test")
    assert "line repeats an earlier one, delete it (1): line 6 repeats line 5" in folder.error()
    folder.lines.pop()
    folder.instances["categories"] = [{"id": 5, "name": composed}, {"id": 6, "name": decomposed}]
    folder.annotation(22)["category_id"] = folder.annotation(12)["category_id"] = 6
    tables = folder.read()
    assert set(tables.instances["category"]) == set(tables.boxes["category"]) == {composed}


def test_an_image_is_counted_once_however_many_annotations_it_has(folder):
    folder.annotation(21).pop("image_id")
    folder.lines.append("21,blue cup,val")
    folder.write()
    folder.instances["images"][0]["height"] = float(HEIGHT)
    (folder.root / "instances.json").write_text(json.dumps(folder.instances))
    with pytest.raises(DatasetError) as caught:
        own.read(folder.root / "instances.json", folder.root / "expressions.csv", folder.root / "images", 0)
    assert "malformed image (1): image 1: height is 12.0, expected int" in str(caught.value)
    assert "annotation without a sound image_id (1): annotation 21: no image_id" in str(caught.value)


def test_fragments_of_polygons_are_left_out_and_noted(folder):
    whole = folder.annotation(11)["segmentation"]
    folder.annotation(11)["segmentation"] = [[3, 3], *whole, [1, 1, 5, 5]]
    folder.annotation(12)["segmentation"] = [*folder.annotation(12)["segmentation"], []]
    tables = folder.read()
    np.testing.assert_array_equal(prepared.decode_mask(tables.instances["mask"][0], HEIGHT, WIDTH), folder.masks[11])
    assert tables.notes == [
        "polygons left out, as fewer than 6 numbers are no area: 3; masks that had them: 2, such as that of annotation "
        "11"
    ]


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (
            [{"size": [HEIGHT, WIDTH], "counts": [0, HEIGHT * WIDTH]}],
            "RLE in a list, take it out of the list (1): annot",
        ),
        (
            [1, 1, 5, 1, 5, 5],
            "number where a polygon is expected, put the numbers of a polygon into a list of their own",
        ),
        ([[[1, 1], [5, 1], [5, 5]]], "polygon of lists, write x, y, x, y, ... in one list (1): annotation 11"),
        ([[[1, 1, 5, 1, 5, 5]]], "polygon of lists, write x, y, x, y, ... in one list (1): annotation 11"),
        ([], "no segmentation, a box is not enough (1): annotation 11"),
        ([[]], "polygon with fewer than 6 numbers, or an odd number (1): annotation 11: []"),
        ("1 1 5 1 5 5", "segmentation is neither a list of polygons nor an RLE (1): annotation 11: '1 1 5 1 5 5'"),
    ],
)
def test_the_shape_of_a_segmentation_is_named_with_the_way_out(folder, segmentation, message):
    folder.annotation(11)["segmentation"] = segmentation
    assert f"own/instances.json: {message}" in folder.error()


def test_everything_wrong_is_named_at_once(folder):
    folder.lines += ["13,cup,train", "11,,train", *(f"{number},cup,train" for number in range(100, 120))]
    folder.annotation(21)["segmentation"] = [[1, 1, 5, 5]]
    assert folder.error().splitlines() == [
        "own/expressions.csv: empty expression (1): line 7",
        "own/expressions.csv: ann_id is the id of no annotation in instances.json (21): line 6: 13; "
        + "; ".join(f"line {number}: {number + 92}" for number in range(8, 17))
        + " and 11 more",
        "own/instances.json: polygon with fewer than 6 numbers, or an odd number (1): annotation 21: [1, 1, 5, 5]",
    ]


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_that_training_needs_is_missed(folder, split):
    folder.lines = [line for line in folder.lines if not line.endswith(split)]
    assert f"expressions.csv: no line of a split that is needed, train and val are (1): {split}" in folder.error()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda folder: folder.annotation(11).pop("image_id"),
            "annotation without a sound image_id (1): annotation 11",
        ),
        (
            lambda folder: folder.annotation(11).update(image_id="1"),
            "annotation without a sound image_id (1): annotati",
        ),
        (lambda folder: folder.annotation(11).update(image_id=9), "image not listed (1): image 9 of annotation 11"),
        (
            lambda folder: folder.annotation(11).update(category_id=6),
            "no sound category (1): annotation 11, category_id 6: no name",
        ),
        (
            lambda folder: folder.instances["images"][1].update(file_name="1.png"),
            "one file_name for several images (1): 1.png: images 1, 2",
        ),
        (lambda folder: folder.instances.pop("categories"), "top level: no categories"),
    ],
)
def test_a_wrong_coco_file_is_named(folder, change, message):
    change(folder)
    assert f"own/instances.json: {message}" in folder.error()


def test_missing_files_and_images_are_named(folder):
    folder.write()
    arguments = [folder.root / name for name in ("instances.json", "expressions.csv", "images")]
    (folder.root / "images" / "2.png").unlink()
    with pytest.raises(DatasetError, match=r"images: image missing \(1\): image 2, 2\.png"):
        own.read(*arguments, 0)
    with pytest.raises(DatasetError, match=r"absent: no such folder; datasets\.NAME\.images"):
        own.read(*arguments[:2], folder.root / "absent", 0)
    for name in ("instances.json", "expressions.csv"):
        (folder.root / name).unlink()
        with pytest.raises(DatasetError, match=rf"{name}: No such file"):
            own.read(*arguments, 0)


def instances_of(categories_by_image: list[list[str]]) -> pd.DataFrame:
    rows = [(image_id, name) for image_id, names in enumerate(categories_by_image) for name in names]
    return pd.DataFrame(rows, columns=["image_id", "category"])


def test_a_tenth_of_the_images_is_val_and_a_tenth_test_with_every_category_in_its_share():
    generator = np.random.default_rng(0)
    names = generator.choice(["cup", "dog", "tree"], (400, 3), p=[0.6, 0.3, 0.1])
    table = instances_of(names.tolist())
    splits, parts = own.split_by_image(table, 0)
    assert parts == 10
    table["split"] = table["image_id"].map(splits)
    counts = table.groupby(["split", "category"]).size().unstack()
    assert table.groupby("split")["image_id"].nunique().to_dict() == {"test": 40, "train": 320, "val": 40}
    assert ((counts.T / counts.sum(axis=1)).T - table["category"].value_counts(normalize=True)).abs().max().max() < 0.02


def test_the_split_follows_the_seed_and_not_the_order_or_number_of_lines(folder):
    ids = range(1, 31)
    folder.instances["images"] = [folder.image(image_id, f"{image_id}.png") for image_id in ids]
    folder.instances["annotations"] = [
        {"id": 100 + image_id, "image_id": image_id, "category_id": 5, "segmentation": folder.polygons(1, 1, 5, 5)}
        for image_id in ids
    ]
    lines = [f"{100 + image_id},cup {number}" for image_id in ids for number in range(2)]

    def splits(lines, seed=0):
        folder.lines = ["ann_id,expression", *lines]
        tables = folder.read(seed=seed)
        assert tables.notes == [
            "only what is referred to is annotated: other things of the same category are not counted",
            f"split by image into 10 parts, one of them val and one test, stratified by category, seed {seed}",
        ]
        assert (tables.expressions.groupby("image_id")["split"].nunique() == 1).all()
        return tables.expressions.set_index("image_id")["split"].to_dict()

    first = splits(lines)
    assert set(first.values()) == {"train", "val", "test"}
    assert splits(lines[::-1]) == first
    assert splits([*lines[::2], "101,another cup"]) == first
    assert splits(lines, seed=1) != first


def test_few_images_and_rare_categories_fill_every_split_without_a_word():
    generator = np.random.default_rng(0)
    for trial in range(48):
        images = int(generator.integers(10, 30))
        names = [generator.integers(0, 1 + trial % 12, generator.integers(1, 6)) for _ in range(images)]
        table = instances_of([[f"category {number}" for number in found] for found in names])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            splits, _ = own.split_by_image(table, seed=trial)
        assert set(splits.values()) == {"train", "val", "test"} and len(splits) == images


@pytest.mark.parametrize(
    ("images", "parts"),
    [
        (10, 10),
        (3 * FEWEST_IMAGES - 1, 10),
        (3 * FEWEST_IMAGES, 3),
        (5 * FEWEST_IMAGES - 1, 4),
        (10 * FEWEST_IMAGES, 10),
        (1000, 10),
    ],
)
def test_val_and_test_have_enough_images_for_an_interval_where_there_are_enough(images, parts):
    table = instances_of([["cup"]] * images)
    splits, found = own.split_by_image(table, 0)
    assert found == parts
    counts = pd.Series(splits).value_counts()
    assert (counts[["val", "test"]].min() >= FEWEST_IMAGES) == (images >= 3 * FEWEST_IMAGES)
    assert counts["train"] >= counts["val"]


def test_images_of_many_annotations_leave_enough_in_val_and_test():
    generator = np.random.default_rng(0)
    for trial in range(8):
        counts = generator.integers(1, 40, int(generator.integers(3 * FEWEST_IMAGES, 12 * FEWEST_IMAGES)))
        splits, _ = own.split_by_image(instances_of([["cup"] * count for count in counts]), trial)
        assert pd.Series(splits).value_counts()[["val", "test"]].min() >= FEWEST_IMAGES


def test_too_few_images_to_split_are_named(folder):
    folder.lines = [line.rsplit(",", 1)[0] for line in LINES]
    assert folder.error() == (
        "3 images are too few to be split by themselves, 10 are needed; add a column split to the CSV, or more images"
    )
