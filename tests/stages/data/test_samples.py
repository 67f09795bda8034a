"""Samples: what a model sees of each expression, and which expressions an epoch has."""

import gc
import multiprocessing
import os
import signal
import sys
from collections import Counter
from dataclasses import dataclass, fields
from itertools import cycle, groupby
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image
from torch.utils.data import DataLoader, Dataset
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from models import images
from models.frames import Letterbox, Stretch
from models.processing import AlignFormerProcessor
from stages.data import samples
from stages.data.prepared import INSTANCE_COLUMNS, PreparedDataset, encode_mask
from stages.data.samplers import OneExpressionPerRef, WholeImages
from stages.data.samples import Batch, Expressions, ImageError, lost
from stages.setup.build import word_tokenizer


@pytest.fixture
def refs() -> pd.DataFrame:
    """Eight refs with one to four expressions each, in no order."""
    ref_ids = [ref for ref in range(8) for _ in range(1 + ref % 4)]
    return pd.DataFrame({"ref_id": np.random.default_rng(0).permutation(ref_ids), "image_id": 0})


def epoch(rows: pd.DataFrame, seed: int, number: int) -> list[int]:
    sampler = OneExpressionPerRef(rows, seed)
    sampler.epoch = number
    return list(sampler)


def test_an_epoch_has_each_ref_exactly_once(refs):
    for number in range(20):
        drawn = epoch(refs, 0, number)
        assert len(drawn) == len(OneExpressionPerRef(refs, 0)) == 8
        assert sorted(refs["ref_id"].iloc[drawn]) == list(range(8))


def test_an_epoch_follows_from_seed_and_number(refs):
    torch.manual_seed(0)
    first = epoch(refs, 3, 5)
    np.random.seed(1)
    torch.manual_seed(1)
    assert epoch(refs, 3, 5) == first
    assert epoch(refs, 3, 6) != first
    assert epoch(refs, 4, 5) != first
    sampler = OneExpressionPerRef(refs, 3)
    sampler.epoch = 5
    assert list(sampler) == list(sampler) == first


def test_every_expression_is_drawn_about_equally_often(refs):
    epochs = 600
    counts = Counter(row for number in range(epochs) for row in epoch(refs, 0, number))
    sizes = refs["ref_id"].map(refs["ref_id"].value_counts())
    assert set(counts) == set(range(len(refs)))
    for row, size in enumerate(sizes):
        spread = np.sqrt(epochs / size * (1 - 1 / size))
        assert abs(counts[row] - epochs / size) <= 4.5 * spread, row


def test_by_image_an_image_has_its_refs_in_a_row(refs):
    """Images and the refs of an image are in random order; expressions are drawn as without."""
    refs["image_id"] = refs["ref_id"] % 3
    orders = set()
    for number in range(60):
        sampler = OneExpressionPerRef(refs, 0, by_image=True)
        sampler.epoch = number
        drawn = list(sampler)
        assert sorted(drawn) == sorted(epoch(refs, 0, number))
        sampler.done = 3
        assert list(sampler) == drawn[3:]
        images = [image for image, _ in groupby(refs["image_id"].iloc[drawn])]
        assert sorted(images) == [0, 1, 2]
        of_first = refs.iloc[drawn].query("image_id == 0")["ref_id"]
        orders.add((tuple(images), tuple(of_first)))
    assert len({images for images, _ in orders}) == len({refs for _, refs in orders}) == 6


def test_every_ref_comes_first_at_some_time(refs):
    assert {refs["ref_id"].iloc[epoch(refs, 0, number)[0]] for number in range(100)} == set(range(8))


def test_masks_equal_an_independent_nearest_resize(squares):
    """The value at the center of each of 32 x 32 cells."""
    expressions = squares.expressions("train")
    for row, ann_id in enumerate(expressions.rows["ann_id"]):
        truth = squares.masks[ann_id]
        np.testing.assert_array_equal(expressions.true_mask(row), truth)
        found = expressions[[row]].masks[0]
        assert found.dtype == torch.bool
        height, width = truth.shape
        for y in range(32):
            for x in range(32):
                assert found[y, x] == truth[int((y + 0.5) * height / 32), int((x + 0.5) * width / 32)]


def test_pixels_are_the_stretched_image(squares):
    expressions = squares.expressions("val")
    for row, ann_id in enumerate(expressions.rows["ann_id"]):
        path = squares.prepared.instances.loc[ann_id, "image"]
        image = Image.open(path).resize((32, 32), Image.Resampling.BILINEAR)
        expected = np.asarray(image, dtype=np.float64).transpose(2, 0, 1) / 255 * 2 - 1
        np.testing.assert_allclose(expressions[[row]].pixel_values[0].numpy(), expected, atol=1e-5)


def test_images_are_remembered_within_the_limit(squares, monkeypatch):
    monkeypatch.setattr(samples, "PIXEL_MEMORY", 3 * 32 * 32 * 4)
    expressions = squares.expressions("val")
    first, last = expressions.reader.pixels(0), expressions.reader.pixels(1)
    assert expressions.reader.pixels(0) is first
    assert expressions.reader.pixels(1) is not last
    torch.testing.assert_close(expressions.reader.pixels(1), last, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["L", "LA", "P", "16 bits", "upside down", "transparent"])
def test_training_reads_images_of_every_kind_as_a_user_of_the_model_sees_them(squares, kind):
    path = squares.prepared.instances["image"].iloc[0]
    image, options = Image.open(path).convert("RGB"), {}
    if kind == "16 bits":
        seen = image.convert("L")
        stored = Image.fromarray(np.asarray(seen).astype(np.uint16) * 257)
    elif kind == "upside down":
        seen, stored = image, image.transpose(Image.Transpose.ROTATE_180)
        options["exif"] = Image.Exif()
        options["exif"][ExifTags.Base.Orientation] = 3
    elif kind == "transparent":
        stored = image.convert("RGBA")
        stored.paste((9, 9, 9, 0), (3, 3, 12, 12))
        seen = image.copy()
        seen.paste("white", (3, 3, 12, 12))
    else:
        seen = stored = image.convert(kind)
    stored.save(path, **options)
    expected = squares.processor(seen.convert("RGB"), "red").pixel_values
    assert torch.equal(squares.expressions("val")[[0]].pixel_values, expected)
    assert torch.equal(squares.processor(images.read(path), "red").pixel_values, expected)


def test_a_batch_pads_to_its_longest_expression(squares):
    rows = squares.prepared.split("train").iloc[:3].copy()
    rows["text"] = ["red square", "blue", "the green one the green one the green one"]
    expressions = samples.Expressions(squares.prepared, rows, squares.processor)
    batch = expressions[[2, 1, 0]]

    tokenizer = squares.processor.tokenizer
    assert batch.rows == [2, 1, 0]
    assert batch.sent_ids.tolist() == rows["sent_id"].tolist()[::-1]
    assert batch.image_ids.tolist() == rows["image_id"].tolist()[::-1]
    assert batch.attention_mask.sum(dim=1).tolist() == [8, 3, 4]  # the longest is cut at 8
    assert batch.input_ids.shape == batch.attention_mask.shape == (3, 8)
    assert tokenizer.convert_ids_to_tokens(batch.input_ids[1]) == ["[CLS]", "blue", "[SEP]"] + ["[PAD]"] * 5
    assert tokenizer.convert_ids_to_tokens(batch.input_ids[0])[:4] == ["[CLS]", "the", "green", "one"]
    assert ((batch.attention_mask == 0) == (batch.input_ids == tokenizer.pad_token_id)).all()
    assert batch.masks.shape == (3, 32, 32)
    assert batch.pixel_values.shape == (1, 3, 32, 32)
    assert batch.image_index.tolist() == [0, 0, 0]
    short = expressions[[1, 0]]
    assert short.input_ids.shape == (2, 4)


def test_inputs_are_what_the_model_takes(squares):
    expressions = squares.expressions("train")
    (batch,) = expressions.loader(100)
    output = squares.model().eval()(**batch.inputs(torch.device("cpu")))
    assert output.loss.isfinite()
    assert output.logits.shape == batch.masks.shape


def test_a_loader_keeps_the_order_or_takes_a_samplers(squares):
    expressions = squares.expressions("train")
    batches = list(expressions.loader(3))
    assert [row for batch in batches for row in batch.rows] == list(range(8))
    assert [len(batch.rows) for batch in batches] == [3, 3, 2]
    sampler = OneExpressionPerRef(expressions.rows, 0)
    assert [row for batch in expressions.loader(3, sampler) for row in batch.rows] == list(sampler)


def test_an_image_that_several_samples_share_is_in_a_batch_once(squares):
    expressions = squares.expressions("train")
    batch = expressions[[6, 0, 5, 1, 6]]
    assert batch.image_index.tolist() == [0, 1, 0, 1, 0]
    assert batch.pixel_values.shape == (2, 3, 32, 32)
    for place, row in enumerate(batch.rows):
        alone = expressions[[row]]
        assert torch.equal(batch.pixel_values[batch.image_index[place]], alone.pixel_values[0])
        assert torch.equal(batch.masks[place], alone.masks[0])


def test_an_expression_that_several_samples_share_is_in_a_batch_once(squares):
    rows = squares.prepared.split("train").assign(text=["a red one", "blue"] * 4)
    batch = Expressions(squares.prepared, rows, squares.processor)[[2, 1, 0, 3, 5]]
    assert batch.text_index.tolist() == [0, 1, 0, 1, 1]
    assert batch.input_ids.shape == batch.attention_mask.shape == (2, 5)
    assert batch.attention_mask.sum(dim=1).tolist() == [5, 3]


@torch.no_grad()
@pytest.mark.parametrize("vlba", ["none", "text_to_pixel", "pixel_to_text", "bidirectional"])
def test_a_batch_that_shares_images_and_expressions_is_answered_as_sample_by_sample(squares, vlba):
    rows = squares.prepared.split("train").assign(text=["a red one", "blue"] * 4)
    expressions = Expressions(squares.prepared, rows, squares.processor)
    model = squares.model(vlba=vlba).eval()
    batch = expressions[[6, 0, 5, 1, 6]]
    together = model(**batch.inputs(torch.device("cpu"))).logits
    for logits, row in zip(together, batch.rows, strict=True):
        torch.testing.assert_close(logits, model(**expressions[[row]].inputs(torch.device("cpu"))).logits[0])


def test_only_what_is_shared_is_indexed(squares):
    inputs = squares.expressions("train")[[0, 6]].inputs(torch.device("cpu"))
    assert inputs["image_index"] is None
    assert inputs["text_index"] is None


def test_a_frame_is_the_processors_or_the_callers(squares):
    rows = squares.prepared.split("val")
    assert squares.expressions("val").frame == Stretch(32)
    expressions = Expressions(squares.prepared, rows, squares.processor, Letterbox(24))
    assert expressions.frame == Letterbox(24)
    with Image.open(squares.prepared.instances["image"].iloc[0]) as image:
        expected = Letterbox(24).pixels(image, [0.5] * 3, [0.5] * 3)
    assert torch.equal(expressions[[0]].pixel_values[0], expected)
    np.testing.assert_array_equal(expressions[[0]].masks[0].numpy(), Letterbox(24).mask(expressions.true_mask(0)))


# Whole images


@given(
    images=st.lists(st.integers(0, 8), min_size=1, max_size=60),
    batch_size=st.integers(1, 12),
)
def test_whole_images_in_batches_of_bounded_size(images, batch_size):
    batches = list(WholeImages(np.array(images), batch_size))
    assert len(batches) == len(WholeImages(np.array(images), batch_size))
    assert sorted(row for batch in batches for row in batch) == list(range(len(images)))
    assert all(0 < len(batch) <= batch_size for batch in batches)
    for image, count in Counter(images).items():
        homes = [number for number, batch in enumerate(batches) if any(images[row] == image for row in batch)]
        assert len(homes) == -(-count // batch_size)


def test_by_image_serves_every_expression_and_decodes_each_image_once(squares, monkeypatch):
    rows = squares.prepared.expressions.sample(frac=1, random_state=0).reset_index(drop=True)
    expressions = Expressions(squares.prepared, rows, squares.processor)
    monkeypatch.setattr(samples, "PIXEL_MEMORY", 0)
    opened, reading = [], samples.read_image
    monkeypatch.setattr(samples, "read_image", lambda path, size: opened.append(path) or reading(path, size))
    batches = list(expressions.by_image(6))
    assert sorted(row for batch in batches for row in batch.rows) == list(range(12))
    assert sorted(opened) == sorted(squares.prepared.instances["image"].unique())
    for batch in batches:
        assert batch.masks is None
        assert batch.image_ids.tolist() == rows["image_id"].iloc[batch.rows].tolist()
        output = squares.model().eval()(**batch.inputs(torch.device("cpu")))
        assert output.loss is None
        assert len(output.logits) == len(batch.rows)
    opened.clear()
    list(expressions.by_image(4))
    assert len(opened) == 4  # six expressions an image: cut in two


# Workers


def equal(one: Batch, two: Batch) -> bool:
    pairs = [(getattr(one, part.name), getattr(two, part.name)) for part in fields(Batch)]
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_no_batch(squares, workers):
    alone, helped = squares.expressions("train"), squares.expressions("train")
    samplers = [OneExpressionPerRef(expressions.rows, 3) for expressions in (alone, helped)]
    loaders = alone.loader(3, samplers[0]), helped.loader(3, samplers[1], workers)
    drawn = set()
    for epoch in range(3):
        for sampler in samplers:
            sampler.epoch = epoch
        before = torch.get_rng_state()
        pairs = list(zip(*loaders, strict=True))
        assert torch.equal(torch.get_rng_state(), before)
        assert len(pairs) == len(loaders[0]) == 2
        assert all(equal(*pair) for pair in pairs)
        drawn.add(tuple(row for batch, _ in pairs for row in batch.rows))
    assert len(drawn) == 3
    for one, two in zip(alone.by_image(5), helped.by_image(5, workers), strict=True):
        assert equal(one, two)


def test_workers_live_from_epoch_to_epoch(squares):
    expressions = squares.expressions("train")
    loader = expressions.loader(3, workers=2)
    alive = []
    for _ in range(3):
        list(loader)
        list(expressions.by_image(4, workers=1))
        alive.append({process.pid for process in multiprocessing.active_children()})
    assert len(alive[0]) == 3
    assert alive[0] == alive[1] == alive[2]
    del expressions, loader
    assert not multiprocessing.active_children()


@dataclass(frozen=True)
class Threads(Stretch):
    """Tells how many threads torch has where images are loaded."""

    def pixels(self, image, mean, std):
        return torch.full((3, self.size, self.size), float(torch.get_num_threads()))


def test_a_worker_has_one_thread_and_remembers_no_image(squares):
    expressions = Expressions(squares.prepared, squares.prepared.split("val"), squares.processor, Threads(32))
    expressions[[0]]
    assert len(expressions.reader.remembered) == 1
    loader = expressions.loader(4, workers=1)
    assert loader.dataset.remembered is None
    assert all((batch.pixel_values == 1).all() for batch in loader)


# Images that cannot be read


def truncate(path: Path) -> None:
    Image.effect_noise((60, 40), 90).convert("RGB").save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:-200])


DAMAGES = {
    "image file is truncated": truncate,
    "it does not exist": Path.unlink,
    "it is not an image": lambda path: path.write_text("not here"),
    "it is 40 x 60 pixels, prepared as 60 x 40": lambda path: Image.new("RGB", (40, 60)).save(path),
}


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("reason", DAMAGES)
def test_an_image_that_cannot_be_read_is_named(squares, reason, workers):
    path = squares.prepared.instances["image"].iloc[0]
    DAMAGES[reason](Path(path))
    expressions = squares.expressions("train")
    for loader in (expressions.loader(3, workers=workers), expressions.by_image(3, workers)):
        with pytest.raises(ImageError) as error:
            list(loader)
        message = str(error.value)
        assert message.startswith(f"{path}, image_id 1, cannot be read: {reason}")
        assert "prepare the dataset again" in message
        assert len(message.splitlines()) == 1


def serve_without_end(expressions: Expressions, said: Connection, errors: Path) -> None:
    """Tells what each kind of worker served and which workers there are, and goes on until it is interrupted."""
    os.setsid()
    sys.stderr = errors.open("w")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start without it
    loaders = []
    for method, workers in (("fork", 2), ("forkserver", 1), ("spawn", 1)):
        multiprocessing.set_start_method(method, force=True)
        loaders.append(expressions.loader(3, workers=workers))
        said.send([method, *(equal(*pair) for pair in zip(expressions.loader(3), loaders[-1], strict=True))])
    said.send([child.pid for child in multiprocessing.active_children()])
    for loader in cycle(loaders):
        list(loader)


@pytest.mark.programs
def test_workers_of_every_kind_serve_the_same_and_an_interrupt_leaves_none(squares, tmp_path):
    here, there = multiprocessing.Pipe()
    arguments = squares.expressions("train"), there, tmp_path / "errors"
    process = multiprocessing.get_context("spawn").Process(target=serve_without_end, args=arguments)
    process.start()
    there.close()
    served = [here.recv() for _ in range(3)]
    workers = [psutil.Process(pid) for pid in here.recv()]
    while process.exitcode is None:  # as a user does who sees no end: an interrupt can leave a queue's lock held
        os.killpg(process.pid, signal.SIGINT)
        process.join(60)
    assert served == [[method, True, True, True] for method in ("fork", "forkserver", "spawn")]
    assert len(workers) == 4
    assert process.exitcode != 0
    assert (tmp_path / "errors").read_text().rstrip().endswith("KeyboardInterrupt")
    _, alive = psutil.wait_procs(workers, timeout=120)
    assert not alive


# Memory


def large(count: int, folder: Path) -> Expressions:
    """So many expressions, three an instance, all about one small image."""
    path = Path(folder) / "image.png"
    Image.new("RGB", (24, 24)).save(path)
    random = np.random.default_rng(0)
    instances = pd.DataFrame(
        [
            (ann_id, 1, str(path), 24, 24, "thing", encode_mask(random.random((24, 24)) < 0.5))
            for ann_id in range(-(-count // 3))
        ],
        columns=INSTANCE_COLUMNS,
    ).set_index("ann_id")
    rows = pd.DataFrame({"sent_id": range(count), "ann_id": [row // 3 for row in range(count)]})
    rows = rows.assign(ref_id=rows["ann_id"], image_id=1, split="train")
    rows["text"] = [f"the large red mug number {row} to the left of the blue plate" for row in range(count)]
    prepared = PreparedDataset(rows, instances, {"name": "large"})
    processor = AlignFormerProcessor(ViTImageProcessorPil(), word_tokenizer(["the large red mug"], max_words=20))
    return Expressions(prepared, rows, processor, Stretch(4))


class Objects(Dataset):
    """A table as lists, strings and numbers, as memory should not hold it."""

    def __init__(self, expressions: Expressions):
        reader = expressions.reader
        self.samples = [
            {
                "tokens": reader.tokens[row].tolist(),
                "mask": reader.masks.string(row // 3),
                "ids": (row, row // 3, 1),
                "text": text,
            }
            for row, text in enumerate(expressions.rows["text"])
        ]

    def __getitem__(self, rows: list[int]) -> int:
        return sum(len(value) for row in rows for value in self.samples[row].values())


def private_memory_grown(loader: DataLoader) -> int:
    """Bytes of its own that a loader's worker has more after all batches than after the first.

    What the tests before left behind is frozen: a collection of garbage there would write to its pages.
    """
    gc.collect()
    gc.freeze()
    try:
        batches = iter(loader)
        next(batches)
        (worker,) = multiprocessing.active_children()
        before = psutil.Process(worker.pid).memory_full_info().uss
        for _ in batches:
            pass
        return psutil.Process(worker.pid).memory_full_info().uss - before
    finally:
        gc.unfreeze()


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked, and private memory is measured, on Linux")
def test_a_worker_reads_the_table_without_a_copy_of_it(tmp_path):
    count, megabyte = 15_000, 2**20
    expressions = large(count, tmp_path)
    assert private_memory_grown(expressions.loader(1000, workers=1)) < 3 * megabyte
    objects = Objects(expressions)
    lists = [list(range(start, start + 1000)) for start in range(0, count, 1000)]
    loader = DataLoader(objects, batch_size=None, sampler=lists, num_workers=1, persistent_workers=True)
    assert private_memory_grown(loader) > 6 * megabyte
    assert len(ForkingPickler.dumps(expressions.reader)) < 20_000  # to spawned workers: names of shared memory


def test_what_the_model_does_not_see_is_counted(squares):
    """With the special ones, "the red one" is 5 tokens. Of 60 columns, a mask keeps the 32 in the middle of pixels."""
    squares.processor.tokenizer.model_max_length = 4
    fence = np.ones((40, 60), dtype=bool)
    fence[:, [(2 * column + 1) * 60 // 64 for column in range(32)]] = False
    squares.prepared.instances.loc[squares.prepared.instances.index[0], "mask"] = encode_mask(fence)
    found = lost({split: squares.expressions(split) for split in ("train", "val")})
    assert found == {"cut_expressions": {"train": 4, "val": 4}, "vanished_masks": {"train": 1, "val": 1}}
