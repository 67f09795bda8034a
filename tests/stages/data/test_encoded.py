"""Images that are encoded once: the same as encoded anew, within half precision, and made once for all."""

import errno
import os
import resource
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Dinov2Config

from models.alignformer import AlignFormer
from models.configuration import AlignFormerConfig
from models.frames import Letterbox
from stages.data import encoded
from stages.data.encoded import NoRoomError
from stages.data.samples import Expressions, encode_once

CPU = torch.device("cpu")
DINOV2 = Dinov2Config(
    image_size=32, patch_size=8, hidden_size=8, num_hidden_layers=4, num_attention_heads=2, mlp_ratio=2
)


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    (tmp_path / ".dvc").mkdir()


@pytest.fixture(params=["swin", "dinov2"])
def model(request, squares) -> AlignFormer:
    """Its first level is frozen, or the first two; words are exchanged after every level."""
    made = squares.model(frozen_levels=1)
    if request.param == "dinov2":
        text = made.config.text_config
        made = AlignFormer(AlignFormerConfig(vision_config=DINOV2, text_config=text, pixel_dim=16, frozen_levels=2))
    return made.eval()


def expressions(squares, mirror: bool = False) -> Expressions:
    return Expressions(squares.prepared, squares.prepared.split("train"), squares.processor, mirror=mirror)


def encode(squares, model, gigabytes: float = 1, mirror: bool = False, made_with: tuple = ()) -> Expressions:
    found = expressions(squares, mirror)
    encode_once({"train": found}, model, made_with, gigabytes)
    return found


def folders(tmp_path) -> list:
    return [path for path in (tmp_path / "checkpoints" / "encoded").iterdir() if path.is_dir()]


@torch.no_grad()
@pytest.mark.parametrize("mirror", [False, True])
def test_a_model_answers_as_for_pixels(squares, model, mirror):
    """To the bit as for levels rounded to half precision, and within that precision as for pixels."""
    rows = [0, 5, 2, 3]
    rows += [len(squares.prepared.split("train")) + row for row in (1, 4)] if mirror else []
    inputs = expressions(squares, mirror)[rows].inputs(CPU)
    found = model(**encode(squares, model, mirror=mirror)[rows].inputs(CPU))
    rounded = model.encode_images(inputs["pixel_values"], model.frozen_levels).map(lambda tensor: tensor.half().float())
    torch.testing.assert_close(found.logits, model(**inputs | {"pixel_values": rounded}).logits, rtol=1e-5, atol=1e-5)
    pixels = model(**inputs)
    scale = pixels.logits.abs().max()
    assert found.logits.shape == pixels.logits.shape
    assert (found.logits - pixels.logits).abs().max() < 5e-3 * scale
    torch.testing.assert_close(found.loss, pixels.loss, rtol=5e-3, atol=0)


def test_trained_parts_get_the_same_gradient(squares, model):
    rows = list(range(8))
    gradients = []
    for source in (expressions(squares), encode(squares, model)):
        model.zero_grad()
        model(**source[rows].inputs(CPU)).loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert gradients[0].shape == gradients[1].shape
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.999


def test_every_training_reads_what_the_first_made(squares, model, monkeypatch, tmp_path):
    encode(squares, model)
    monkeypatch.setattr(AlignFormer, "encode_images", None)
    encode(squares, model)
    if model.vision.dims != [8] * 4:
        other = squares.model(1, vlba="none", frozen_levels=1)
        other.vision.load_state_dict(model.vision.state_dict())
        encode(squares, other)
    assert len(folders(tmp_path)) == 1


@pytest.mark.parametrize("change", ["weights", "file", "mirror", "levels", "made with"])
def test_other_inputs_are_encoded_anew(squares, model, tmp_path, change):
    encode(squares, model)
    if change == "weights":
        next(iter(model.vision.parts(0)[0].parameters())).data += 1
    elif change == "file":
        path = tmp_path / "1.png"
        path.write_bytes(path.read_bytes() + b" ")
    elif change == "levels":
        model.vlba = torch.nn.ModuleDict()
        model.frozen_levels += 1
    encode(squares, model, mirror=change == "mirror", made_with=("cuda",) if change == "made with" else ())
    assert len(folders(tmp_path)) == 2


def test_workers_serve_the_same(squares, model):
    found = encode(squares, model)
    here, there = (list(found.loader(3, workers=workers)) for workers in (0, 1))
    for one, other in zip(here, there, strict=True):
        for name in ("tokens", "prefix_tokens"):
            pair = [getattr(batch.pixel_values.grids[0], name) for batch in (one, other)]
            assert pair[0] is pair[1] is None or torch.equal(*pair)


def test_there_is_a_limit_to_their_room(squares, model, tmp_path):
    with pytest.raises(NoRoomError, match=r"machine\.encoded_gigabytes of params\.yaml is 1e-07"):
        encode(squares, model, gigabytes=1e-7)
    assert folders(tmp_path) == []


def both(squares, model, gigabytes: float = 1) -> None:
    """Have train and val encoded for one training; val's images are brought to the model in another way."""
    val = Expressions(squares.prepared, squares.prepared.split("val"), squares.processor, Letterbox(32))
    encode_once({"train": expressions(squares), "val": val}, model, (), gigabytes)


def bytes_of(*those) -> int:
    return sum(file.stat().st_size for folder in those for file in folder.iterdir())


def test_the_splits_of_one_training_are_one_request(squares, model, tmp_path):
    """None of them makes way for another, though it was used longer ago than what is of other trainings."""
    encode(squares, model)
    (train,) = folders(tmp_path)
    encode(squares, model, made_with=("cuda",))
    (other,) = set(folders(tmp_path)) - {train}
    os.utime(train, (0, 0))
    both(squares, model, gigabytes=bytes_of(train, other) * 1.01 / 1e9)
    left = folders(tmp_path)
    assert len(left) == 2 and train in left and other not in left


def test_no_room_for_all_splits_of_a_training_is_said_before_any_is_encoded(squares, model, tmp_path):
    both(squares, model)
    numbers = [sum(np.load(file).nbytes for file in folder.glob("*.npy")) for folder in folders(tmp_path)]
    for folder in folders(tmp_path):
        shutil.rmtree(folder)
    for gigabytes in (sum(numbers) / 1e9 - 1e-9, max(numbers) / 1e9):
        with pytest.raises(NoRoomError, match=r"^the encoded images of this training need 0\.0 GB, and "):
            both(squares, model, gigabytes)
    assert folders(tmp_path) == []
    both(squares, model, sum(numbers) / 1e9)
    assert len(folders(tmp_path)) == 2


def test_a_moved_folder_is_not_encoded_again_and_a_changed_image_is(squares, model, tmp_path):
    """Neither names nor times of the files count, but every byte."""
    encode(squares, model)
    (moved := tmp_path / "moved").mkdir()
    for path in sorted(tmp_path.glob("*.png")):
        shutil.copy(path, moved)
    instances = squares.prepared.instances
    places = [str(moved / Path(image).name) for image in instances["image"]]
    squares.prepared = replace(squares.prepared, instances=instances.assign(image=places))
    encode(squares, model)
    assert len(folders(tmp_path)) == 1
    known = expressions(squares).reader.determined_by()
    path = moved / "1.png"
    before, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert expressions(squares).reader.determined_by() != known


def test_the_oldest_make_room_unless_they_are_being_made(squares, model, tmp_path):
    encode(squares, model)
    (first,) = folders(tmp_path)
    encode(squares, model, mirror=True)
    assert len(folders(tmp_path)) == 2
    room = bytes_of(*folders(tmp_path)) / 1e9
    next(iter(model.vision.parts(0)[0].parameters())).data += 1
    with encoded._lock(first).acquire():
        encode(squares, model, gigabytes=room)
    left = folders(tmp_path)
    assert len(left) == 2 and first in left


def test_a_full_disk_is_said_and_nothing_stays(squares, model, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", full)
    with pytest.raises(NoRoomError, match=r"No space left on device\. Those of this training need 0\.0 GB: make room"):
        encode(squares, model)
    assert folders(tmp_path) == []


def test_a_disk_that_is_full_on_the_way_is_an_error_too(squares, model, tmp_path):
    """A limit on the size of files stands for the disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, limits[1]))
    try:
        with pytest.raises(NoRoomError, match=r"File too large\. Those of this training need 0\.0 GB: make room"):
            encode(squares, model)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert folders(tmp_path) == []


def test_others_that_are_being_made_may_leave_no_room(squares, model, tmp_path):
    encode(squares, model)
    (first,) = folders(tmp_path)
    room = (100 + bytes_of(first)) / 1e9
    next(iter(model.vision.parts(0)[0].parameters())).data += 1
    with encoded._lock(first).acquire(), pytest.raises(NoRoomError, match=r"beside 0\.0 GB that are being made"):
        encode(squares, model, gigabytes=room)
    assert folders(tmp_path) == [first]


def test_what_a_killed_process_left_is_made_anew(squares, model, tmp_path):
    encode(squares, model)
    (whole,) = folders(tmp_path)
    expected = np.load(whole / "0.npy")
    partial = whole.rename(whole.with_name(f".{whole.name}.partial"))
    (partial / encoded.ABOUT).unlink()
    encode(squares, model)
    assert folders(tmp_path) == [whole]
    assert np.array_equal(np.load(whole / "0.npy"), expected)


def test_of_several_at_once_one_encodes(squares, model, monkeypatch, capsys):
    calls, begun = [], threading.Event()
    once = AlignFormer.encode_images

    def slowly(self, pixels, levels):
        calls.append(len(pixels))
        begun.set()
        threading.Event().wait(0.5)
        return once(self, pixels, levels)

    monkeypatch.setattr(AlignFormer, "encode_images", slowly)
    first = threading.Thread(target=encode, args=(squares, model))
    first.start()
    begun.wait()
    encode(squares, model)
    first.join()
    assert calls == [1, 2]  # one to learn the shapes, then both images
    assert "waiting for another process" in capsys.readouterr().out


def test_words_may_not_take_part(squares, model):
    frozen = model.frozen_levels
    with pytest.raises(ValueError, match=f"{frozen + 1} levels are asked for, but words take part after {frozen}"):
        model.encode_images(torch.zeros(1, 3, 32, 32), frozen + 1)
    assert replace(expressions(squares).reader).encoded is None
