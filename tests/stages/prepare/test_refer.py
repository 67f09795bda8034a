"""The reader of the REFER layout, against folders and masks written by hand."""

import copy
import json
import pickle

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from stages.data import prepared
from stages.prepare import coco, sources
from stages.prepare.formats import release
from stages.prepare.formats.refer import ReferFiles
from stages.prepare.problems import DatasetError

HEIGHT, WIDTH = 12, 16


def rectangle(left: int, top: int, right: int, bottom: int) -> tuple[list, np.ndarray]:
    """Polygon of the pixels left..right-1, top..bottom-1, and their mask."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    mask[top:bottom, left:right] = 1
    return [left, top, right, top, right, bottom, left, bottom], mask


def run_lengths(mask: np.ndarray) -> list[int]:
    """Column-major run lengths, background first, counted one pixel at a time."""
    runs, value = [0], 0
    for pixel in mask.T.reshape(-1).tolist():
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return runs


class Folder:
    """A REFER folder of four refs, changed by a test and then written."""

    def __init__(self, root):
        self.files = ReferFiles(root, "refcoco", "unc")
        self.images = root / release.IMAGE_FOLDERS[0]
        one, one_mask = rectangle(1, 2, 6, 7)
        two, two_mask = rectangle(4, 5, 10, 9)
        three = np.random.default_rng(0).random((HEIGHT, WIDTH)) < 0.4
        four = np.random.default_rng(1).random((HEIGHT, WIDTH)) < 0.8
        four_counts = coco_mask.encode(np.asfortranarray(four, dtype=np.uint8))["counts"].decode()
        self.masks = {11: one_mask, 12: one_mask | two_mask, 13: three, 14: four}
        size = [HEIGHT, WIDTH]
        segmentations = {
            11: [one],
            12: [one, two],
            13: {"size": size, "counts": run_lengths(three)},
            14: {"size": size, "counts": four_counts},
            99: [[0, 0]],  # nobody refers to it
        }
        self.instances = {
            "images": [
                {"id": image_id, "file_name": f"{image_id}.jpg", "height": HEIGHT, "width": WIDTH}
                for image_id in (1, 2, 3)
            ],
            "annotations": [
                {
                    "id": ann_id,
                    "image_id": image_id,
                    "category_id": 5,
                    "segmentation": segmentations[ann_id],
                    "iscrowd": 0,
                }
                for ann_id, image_id in ((11, 1), (12, 1), (13, 2), (14, 3), (99, 1))
            ],
            "categories": [{"id": 5, "name": "cup"}],
        }
        self.refs = [
            self.ref(101, 11, 1, "train", ["Red cup!", "cup on left"]),
            self.ref(102, 12, 1, "train", ["both"]),
            self.ref(103, 13, 2, "val", ["Café cup"]),
            self.ref(104, 14, 3, "testA", ["rightmost"]),
            self.ref(105, 14, 3, "testA", ["not the left one"]),
        ]

    @staticmethod
    def ref(ref_id, ann_id, image_id, split, texts):
        sentences = [
            {"sent_id": 10 * ref_id + number, "raw": text, "sent": text.lower().strip("!"), "tokens": text.split()}
            for number, text in enumerate(texts)
        ]
        sent_ids = [sentence["sent_id"] for sentence in sentences]
        keys = {"ref_id": ref_id, "ann_id": ann_id, "image_id": image_id, "category_id": 5, "split": split}
        return {**keys, "file_name": f"{image_id}_{ann_id}.jpg", "sent_ids": sent_ids, "sentences": sentences}

    def annotation(self, ann_id: int) -> dict:
        return next(annotation for annotation in self.instances["annotations"] if annotation["id"] == ann_id)

    def write(self, protocol: int = 2, pickled: bytes | None = None) -> ReferFiles:
        self.files.refs.parent.mkdir(parents=True, exist_ok=True)
        self.images.mkdir(parents=True, exist_ok=True)
        self.files.refs.write_bytes(pickle.dumps(self.refs, protocol) if pickled is None else pickled)
        self.files.instances.write_text(json.dumps(self.instances))
        for image in self.instances["images"]:
            path = self.images / image.get("file_name", "1.jpg")
            if path.parent == self.images and not path.exists():
                Image.new("RGB", (WIDTH, HEIGHT)).save(path)
        return self.files

    def error(self, **options) -> str:
        with pytest.raises(DatasetError) as caught:
            release.read(self.write(**options), "sent")
        return str(caught.value)


@pytest.fixture
def folder(tmp_path) -> Folder:
    return Folder(tmp_path)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_tables_and_masks(folder, protocol):
    tables = release.read(folder.write(protocol), "sent")
    expressions, instances = tables.expressions, tables.instances

    assert list(expressions.columns) == prepared.EXPRESSION_COLUMNS
    expected = [
        (10 * ref["ref_id"] + n, ref["ref_id"], ref["ann_id"], ref["image_id"], ref["split"], sentence["sent"])
        for ref in folder.refs
        for n, sentence in enumerate(ref["sentences"])
    ]
    assert list(expressions.itertuples(index=False, name=None)) == expected

    assert list(instances.columns) == prepared.INSTANCE_COLUMNS
    assert list(instances["ann_id"]) == [11, 12, 13, 14]
    assert set(instances["category"]) == {"cup"}
    for row in instances.itertuples():
        assert row.image == (folder.images / f"{row.image_id}.jpg").as_posix()
        assert (row.height, row.width) == (HEIGHT, WIDTH)
        np.testing.assert_array_equal(prepared.decode_mask(row.mask, HEIGHT, WIDTH), folder.masks[row.ann_id])


def test_raw_or_sent(folder):
    files = folder.write()
    assert list(release.read(files, "raw").expressions["text"][[0, 3]]) == ["Red cup!", "Café cup"]
    assert list(release.read(files, "sent").expressions["text"][[0, 3]]) == ["red cup", "café cup"]


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_byte_strings_of_python_2(folder, encoding):
    folder.refs = [folder.ref(103, 13, 2, "val", ["cup"])]
    texts = {b"X\x03\x00\x00\x00cup": b"U" + bytes([len("café".encode(encoding))]) + "café".encode(encoding)}
    content = pickle.dumps(folder.refs, 2)
    for unicode_text, byte_text in texts.items():
        content = content.replace(unicode_text, byte_text)
    assert list(release.read(folder.write(pickled=content), "sent").expressions["text"]) == ["café"]


def test_overlapping_polygons_are_united_not_summed(folder):
    instances = release.read(folder.write(), "sent").instances
    mask = prepared.decode_mask(instances.set_index("ann_id")["mask"][12], HEIGHT, WIDTH)
    assert mask.max() == 1
    assert mask.sum() == 25 + 24 - 4


def test_a_pickle_that_names_a_class_is_refused_and_nothing_runs(folder, tmp_path):
    class Bomb:
        def __reduce__(self):
            return open, (str(tmp_path / "executed"), "w")

    for protocol in (0, 2, 4):
        message = folder.error(pickled=pickle.dumps([Bomb()], protocol))
        assert "refs(unc).p" in message and ".open" in message and "refused" in message
    assert not (tmp_path / "executed").exists()


def test_a_pickle_cut_off_anywhere_is_named(folder):
    for protocol in (0, 2, 4):
        content = pickle.dumps(folder.refs, protocol)
        for length in range(0, len(content), 61):
            assert "refs(unc).p: not a whole pickle" in folder.error(pickled=content[:length])


@pytest.mark.parametrize(
    "content", [{}, [], [3], "text", [{"ref_id": "1"}], [{"ref_id": -1}], [{"ref_id": 2**70}], None]
)
def test_a_pickle_of_something_else_is_named(folder, content):
    assert "refs(unc).p" in folder.error(pickled=pickle.dumps(content))


def change_ref(key, value):
    return lambda folder: folder.refs[0].update({key: value})


def change_annotation(key, value, ann_id=11):
    return lambda folder: folder.annotation(ann_id).update({key: value})


def remove(key, entry_id):
    return lambda folder: folder.instances.update({key: [e for e in folder.instances[key] if e["id"] != entry_id]})


def repeat(key):
    return lambda folder: folder.instances[key].append(copy.deepcopy(folder.instances[key][0]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove("annotations", 13), "instances.json: annotation missing (1): annotation 13 of ref 103"),
        (remove("images", 2), "instances.json: image not listed (1): image 2 of annotation 13"),
        (remove("categories", 5), "no sound category (4): annotation 11, category_id 5: no name; annotation 12"),
        (
            change_ref("image_id", 4),
            "annotation is of another image (1): annotation 11 is of image 1, but ref 101 says",
        ),
        (
            change_ref("split", "testC"),
            "refs(unc).p: unknown split, known are train, val, testA, testB, test (1): 'testC' of ref 101",
        ),
        (change_ref("split", "val"), "refs(unc).p: image in two splits (1): image 1 in val and train"),
        (change_ref("ref_id", 102), "refs(unc).p: ref_id not unique (1): 102"),
        (change_ref("ref_id", "102"), "refs(unc).p: malformed ref (1): ref number 0: ref_id is '102', expected int"),
        (change_ref("sentences", []), "refs(unc).p: ref without sentences (1): ref 101"),
        (change_ref("sentences", [{"sent_id": 7, "sent": " "}]), "refs(unc).p: empty sent (1): sentence 7 of ref 101"),
        (
            change_ref("sentences", [{"sent_id": 7, "sent": "\ud800"}]),
            "(1): number 0 of ref 101: sent is '\\ud800'",
        ),
        (change_ref("sentences", [{"sent_id": 1020, "sent": "cup"}]), "refs(unc).p: sent_id not unique (1): 1020"),
        (
            change_ref("sentences", [{"sent_id": 7, "raw": "cup"}]),
            "malformed sentence (1): number 0 of ref 101: no sent",
        ),
        (repeat("annotations"), "instances.json: annotations id not unique (1): 11"),
        (repeat("images"), "instances.json: images id not unique (1): 1"),
        (lambda folder: folder.instances["images"].append({"id": None}), "images without a sound id (1): number 3: id"),
        (lambda folder: folder.instances.pop("categories"), "instances.json: top level: no categories"),
        (
            lambda folder: folder.instances["images"][1].update(height=0),
            "not the size of an image (1): image 2: height",
        ),
        (
            lambda folder: folder.instances["images"][1].update(file_name="../2.jpg"),
            "file_name is not the name of a file (1): image 2: '../2.jpg'",
        ),
    ],
)
def test_wrong_tables_are_named(folder, change, message):
    change(folder)
    assert message in folder.error()


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (None, "no segmentation, a box is not enough (1): annotation 11"),
        ([], "no segmentation, a box is not enough"),
        ([[1, 1, 5, 5]], "fewer than 6 numbers, or an odd number (1): annotation 11: [1, 1, 5, 5]"),
        ([[1, 1, 5, 5], [1, 1]], "fewer than 6 numbers, or an odd number (1): annotation 11: [1, 1, 5, 5]"),
        ([[1, 1, 5, 5, 1, 5, 7]], "fewer than 6 numbers, or an odd number"),
        ([[1, 1, 5, 5, 1, "5"]], "a coordinate that is not a number"),
        ([[1, 1, 5, 5, 1, float("nan")]], "not JSON: "),
        ([[1, 1, 5, 5, 1, 14]], "outside its image (1): annotation 11: x 1 to 5, y 1 to 14, image 16 x 12"),
        ([[-2, 1, 5, 5, 1, 1]], "outside its image"),
        ([[1, 1, 1, 1, 1, 1]], "mask without a pixel (1): annotation 11"),
        (
            {"size": [WIDTH, HEIGHT], "counts": [0, WIDTH * HEIGHT]},
            "RLE of another size than its image (1): annotation 11: [16, 12], image [12, 16] (height, width)",
        ),
        ({"size": [HEIGHT, WIDTH], "counts": [WIDTH * HEIGHT]}, "mask without a pixel"),
        ({"size": [HEIGHT, WIDTH], "counts": [5, 5]}, "do not add up to the image (1): annotation 11: 12 x 16 pixels"),
        ({"size": [HEIGHT, WIDTH], "counts": [-5, WIDTH * HEIGHT + 5]}, "do not add up"),
        ({"size": [HEIGHT, WIDTH], "counts": [0, 2**40]}, "do not add up"),
        ({"size": [HEIGHT, WIDTH], "counts": []}, "do not add up"),
        ({"size": [HEIGHT, WIDTH], "counts": ""}, "do not add up"),
        ({"size": [HEIGHT, WIDTH], "counts": "0123"}, "do not add up"),
        ({"size": [HEIGHT, WIDTH], "counts": "é"}, "do not add up"),
        ({"size": [HEIGHT, WIDTH], "counts": "oooooooooooooooo"}, "do not add up"),
        ({"size": [HEIGHT, WIDTH]}, "do not add up"),
    ],
)
def test_a_wrong_mask_is_named(folder, segmentation, message):
    folder.annotation(11)["segmentation"] = segmentation
    error = folder.error()
    assert "instances.json" in error and message in error and ("11" in error or "line 1" in error)


def test_compressed_run_lengths_agree_with_the_library():
    generator = np.random.default_rng(2)
    for _ in range(200):
        height, width = generator.integers(1, 60, 2)
        mask = (generator.random((height, width)) < generator.random()).astype(np.uint8)
        counts = prepared.encode_mask(mask)
        assert coco._run_lengths(counts).tolist() == run_lengths(mask)


def test_images_that_are_not_what_the_source_says_are_named(folder):
    files = folder.write()
    (folder.images / "1.jpg").unlink()
    (folder.images / "2.jpg").write_bytes(b"an image")
    Image.new("RGB", (HEIGHT, WIDTH)).save(folder.images / "3.jpg")
    with pytest.raises(DatasetError) as caught:
        release.read(files, "sent")
    assert str(caught.value).splitlines() == [
        f"{folder.images}: image missing (1): image 1, 1.jpg",
        f"{folder.images}: image cannot be read (1): image 2, 2.jpg: it is not an image",
        f"{folder.images}: image of another size than stated (1): image 3, 3.jpg: 12 x 16, stated 16 x 12",
    ]
    tables = release.read(files, "sent", check_images=False)
    assert tables.warnings == ["images were not checked: neither that they exist nor their sizes"]
    assert len(tables.instances) == 4


def test_a_jpeg_cut_off_after_its_header_is_named(folder):
    files = folder.write()
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder.images / "2.jpg")
    whole = (folder.images / "2.jpg").read_bytes()
    (folder.images / "2.jpg").write_bytes(whole + b"trailing")
    assert len(release.read(files, "sent").sizes) == 3
    (folder.images / "2.jpg").write_bytes(whole[:-100])
    assert "image cannot be read (1): image 2, 2.jpg: " in folder.error()


@pytest.mark.parametrize("name", ["images/train2014", "train2014", "coco/train2014", "images"])
def test_images_lie_under_any_of_the_usual_names(folder, name):
    folder.images = folder.files.root / name
    tables = release.read(folder.write(), "sent")
    assert tables.instances["image"][0] == (folder.images / "1.jpg").as_posix()


@pytest.mark.parametrize("named", ["elsewhere", "elsewhere/train2014"])
def test_images_lie_where_the_parameter_says(folder, tmp_path, named):
    folder.images = tmp_path / "elsewhere" / "train2014"
    root = folder.write().root
    tables = release.read(ReferFiles(root, "refcoco", "unc", tmp_path / named), "sent")
    assert tables.instances["image"][0] == (folder.images / "1.jpg").as_posix()


def test_every_kind_is_told_at_once_with_its_first_ten_and_their_number(folder):
    folder.refs = [folder.ref(n, n, n // 2, ("train", "val")[n % 2], ["cup"]) for n in range(1000, 1030)]
    folder.annotation(11)["segmentation"] = None
    folder.refs.append(folder.ref(101, 11, 1, "trian", ["cup", " "]))
    missing, *others = folder.error().splitlines()
    first = "; ".join(f"annotation {n} of ref {n}" for n in range(1000, 1010))
    assert missing.endswith("refs(unc).p: empty sent (1): sentence 1011 of ref 101")
    assert any(line.endswith(f"instances.json: annotation missing (30): {first} and 20 more") for line in others)
    kinds = ["no segmentation", "unknown split", "image in two splits (15): image 500 in train and val; image"]
    assert all(any(kind in line for line in others) for kind in kinds)


def test_the_overlap_of_refcocog_google_is_told_and_no_error(folder, tmp_path):
    folder.refs[1]["split"] = "val"
    assert "image in two splits (1): image 1 in train and val" in folder.error()
    folder.files = ReferFiles(tmp_path, "refcocog", "google")
    tables = release.read(folder.write(), "sent")
    assert tables.warnings == ["train and val share 1 images"]
    assert "no image in two splits" not in tables.checks


def test_a_missing_file_is_named_with_what_is_there(folder):
    files = folder.write()
    with pytest.raises(DatasetError, match=r"refs\(google\)\.p.*holds \['instances\.json', 'refs\(unc\)\.p'\]"):
        release.read(ReferFiles(files.root, "refcoco", "google"), "sent")


@pytest.mark.parametrize("content", ["", "[", "[]", "[" * 100_000, '{"images": 3}'])
def test_an_instances_file_that_is_something_else_is_named(folder, content):
    files = folder.write()
    files.instances.write_text(content)
    with pytest.raises(DatasetError, match=r"instances\.json"):
        release.read(files, "sent")


def test_the_fingerprint_follows_every_file_in_use(folder):
    files = folder.write()
    seen = {sources.fingerprint(release.read(files, "sent"))}
    assert sources.fingerprint(release.read(files, "sent")) in seen
    (folder.images / "unused.jpg").write_bytes(b"an image")
    assert sources.fingerprint(release.read(files, "sent")) in seen
    for path in (files.instances, folder.images / "2.jpg"):
        path.write_bytes(path.read_bytes() + b" ")
        seen.add(sources.fingerprint(release.read(files, "sent")))
    folder.refs[0]["sentences"][0]["sent"] = "mug"
    seen.add(sources.fingerprint(release.read(folder.write(), "sent")))
    assert len(seen) == 4
