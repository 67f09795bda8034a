"""What `benchmarks.gpu` needs of the project on a machine that has torch, transformers and Pillow alone.

A folder, made where the project is installed, in three pieces to be carried one by one if need be:

- `vision` and `text`: the recipe's pretrained encoders, `config.json` and `model.safetensors` each.
- `data`: `params.json`, all parameters of an experiment with their defaults; and `expressions.safetensors`, the dataset
  that it trains on and those that it scores. Images are there as their files, true masks as bits at the original size
  (packed by zlib), expressions as tokens. `orders` are the rows that the project's sampler takes in each epoch of each
  seed.
"""

import json
import shutil
import sys
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.nn.utils.rnn import pad_sequence

from models import images
from models.frames import Stretch
from stages.runtime import layout
from stages.runtime.errors import UserError
from stages.scoring.protocols import PROTOCOLS

if TYPE_CHECKING:
    from stages.data.samples import Reader
    from stages.runtime.params import Params

SEEDS, EPOCHS = 5, 100  # that there are orders of
TRAIN = "train"
ALL = "all"  # the splits of a further dataset, together
ENCODERS = ("vision", "text")


class PackError(UserError):
    """The folder cannot be made of this experiment, or is not there; the message says why."""


class Section(SimpleNamespace):
    """A section of packed parameters: keys as attributes, or by name as in a dictionary."""

    def __getitem__(self, name: str):
        return vars(self)[name]

    def model_dump(self) -> dict:
        return dict(vars(self))


@dataclass(frozen=True, eq=False)
class Samples:
    """N expressions of some images, mirrored ones included.

    Attributes:
        input_ids, attention_mask: (N, L) int64.
        image: (N,) int64, the place of its image in `Packed.pixels`.
        masks: (N, S, S) bool, true masks at the model's input size.
        truths: N true masks at the original size, not mirrored: bool (height, width).
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    image: torch.Tensor
    masks: torch.Tensor
    truths: list[np.ndarray]

    def __len__(self) -> int:
        return len(self.image)

    def to(self, device: torch.device) -> "Samples":
        tensors = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, torch.Tensor)}
        return replace(self, **tensors)


@dataclass(frozen=True, eq=False)
class Packed:
    """The folder in memory.

    Attributes:
        settings: the parameters; those of the encoders name the folder's own.
        pixels: (P, 3, S, S) float32, normalised; P includes mirrored images.
        train: what is trained on.
        orders: (seeds, epochs, samples of an epoch) int64, rows of `train`.
        scored: (dataset, split) -> its expressions.
    """

    settings: Section
    pixels: torch.Tensor
    train: Samples
    orders: torch.Tensor
    scored: dict[tuple[str, str], Samples]

    @property
    def val(self) -> Samples:
        """What the kept epoch is chosen on: val of the dataset that is trained on."""
        return self.scored[self.settings.experiment.datasets[0], "val"]

    def to(self, device: torch.device) -> "Packed":
        """The same on a device, but for the pixels."""
        scored = {part: samples.to(device) for part, samples in self.scored.items()}
        return replace(self, train=self.train.to(device), orders=self.orders.to(device), scored=scored)


def write(folder: Path, settings: "Params") -> None:
    """Pack the experiment in the current folder, whose datasets are prepared.

    Raises:
        FileNotFoundError: a dataset is not prepared, or a file is missing.
        PackError: the experiment is none that the folder can hold.
        TrainedOnError: images of a further dataset were trained on.
    """
    from stages.data import prepared
    from stages.data.samplers import OneExpressionPerRef
    from stages.data.samples import Expressions
    from stages.evaluate import trained_on
    from stages.setup import build

    experiment, recipe = settings.experiment, settings.recipes[settings.experiment.recipe]
    _require_packable(settings)
    name, dataset = experiment.datasets[0], prepared.read(layout.prepared(experiment.datasets[0]))
    rows = dataset.split(TRAIN)
    processor = build.processor(recipe.model, rows["text"].tolist())
    mirror = recipe.training.mirror
    tensors = _tensors(TRAIN, Expressions(dataset, rows, processor, mirror=mirror).reader)
    parts = {f"{name}/{split}": (dataset, dataset.split(split)) for split in dataset.evaluation_splits}
    for further in experiment.evaluate_on:
        other = prepared.read(layout.prepared(further))
        trained_on.refuse(other, dataset)
        parts[f"{further}/{ALL}"] = other, other.expressions
    for part, (of, its_rows) in parts.items():
        tensors |= _tensors(part, Expressions(of, its_rows, processor).reader)
    orders = []
    for seed in range(SEEDS):
        sampler = OneExpressionPerRef(rows, seed, recipe.training.by_image, mirror)
        for sampler.epoch in range(1, EPOCHS + 1):
            orders.append(torch.tensor(list(sampler), dtype=torch.int32))
    tensors["orders"] = torch.stack(orders).unflatten(0, (SEEDS, EPOCHS))
    constants = processor.image_processor.image_mean, processor.image_processor.image_std
    tensors["mean and std"] = torch.tensor(constants, dtype=torch.float64)

    (folder / "data").mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "data" / "expressions.safetensors")
    (folder / "data" / "params.json").write_text(settings.model_dump_json(indent=1) + "\n", encoding="utf-8")
    for encoder in ENCODERS:
        (folder / encoder).mkdir(exist_ok=True)
        for file in ("config.json", "model.safetensors"):
            shutil.copyfile(layout.source(getattr(recipe.model, encoder).weights) / file, folder / encoder / file)


def _require_packable(settings: "Params") -> None:
    recipe, protocol = settings.recipes[settings.experiment.recipe], PROTOCOLS[settings.evaluation.protocol]
    scratch = [name for name in ENCODERS if getattr(recipe.model, name).kind != "pretrained"]
    wrong = []
    if scratch:
        wrong.append(f"recipe {settings.experiment.recipe!r} trains encoders from scratch ({', '.join(scratch)})")
    if protocol.fit:
        wrong.append(f"protocol {protocol.name!r} has another input than the recipe's")
    if len(settings.experiment.datasets) > 1:
        wrong.append(f"it trains on several datasets ({', '.join(settings.experiment.datasets)})")
    if wrong:
        raise PackError(f"the experiment cannot be packed: {'; '.join(wrong)}. Change params.yaml, or pack another one")


def _tensors(part: str, reader: "Reader") -> dict[str, torch.Tensor]:
    """What a reader of the project serves, under names that begin with `part`."""
    from stages.data.prepared import decode_mask

    sizes = reader.sizes[reader.image_index].tolist()
    masks = [decode_mask(reader.masks.string(place), *size) for place, size in enumerate(sizes)]
    files = [layout.source(reader.files.string(image)).read_bytes() for image in range(len(reader.sizes))]
    found = {
        "tokens": reader.tokens.values,
        "tokens.bounds": reader.tokens.bounds,
        "instance": reader.instance_index,
        "image": reader.image_index,
        "sizes": reader.sizes,
        **_joined("masks", (np.frombuffer(zlib.compress(np.packbits(mask)), np.uint8) for mask in masks)),
        **_joined("files", (np.frombuffer(file, np.uint8) for file in files)),
    }
    return {f"{part}.{name}": value.contiguous() for name, value in found.items()}


def _joined(name: str, arrays: Iterable[np.ndarray]) -> dict[str, torch.Tensor]:
    """Arrays of bytes, end to end, and their bounds."""
    tensors = [torch.from_numpy(array.copy()) for array in arrays]
    bounds = torch.tensor([0, *map(len, tensors)]).cumsum(0)
    return {name: torch.cat(tensors), f"{name}.bounds": bounds}


def parameters(folder: Path) -> Section:
    """The packed parameters. Raises PackError if they are not there."""
    path = folder / "data" / "params.json"
    if not path.exists():
        raise PackError(
            f"{path} is missing: make {folder} where the project is installed, by python -m benchmarks.gpu --pack"
        )
    settings = json.loads(path.read_text(encoding="utf-8"), object_hook=lambda section: Section(**section))
    model = settings.recipes[settings.experiment.recipe].model
    for encoder in ENCODERS:
        getattr(model, encoder).weights = str(folder.absolute() / encoder)
    return settings


def read(folder: Path, most: int | None = None) -> Packed:
    """The folder in memory, or the first `most` expressions of each split and of each epoch.

    Raises:
        PackError: the parameters are not there.
        FileNotFoundError: another piece is not there.
    """
    settings = parameters(folder)
    tensors = load_file(folder / "data" / "expressions.safetensors")
    frame = Stretch(settings.recipes[settings.experiment.recipe].model.image_size)
    mean, std = tensors["mean and std"].tolist()
    orders = tensors["orders"].long()[..., :most]
    pixels: list[torch.Tensor] = []

    def samples(part: str, rows: torch.Tensor | None) -> Samples:
        own = {name.removeprefix(f"{part}."): value for name, value in tensors.items() if name.startswith(f"{part}.")}
        tokens = list(_split(own, "tokens"))
        plain = len(own["instance"])  # further rows are mirrored ones
        rows = torch.arange(plain)[:most] if rows is None else rows
        mirrored, instance = rows // plain, own["instance"][rows % plain]
        wanted, image = torch.unique(torch.stack([own["image"][instance], mirrored]), dim=1, return_inverse=True)
        files = list(_split(own, "files"))
        first = len(pixels)
        for number, flipped in wanted.T.tolist():
            values = frame.pixels(images.read(BytesIO(files[number].numpy().tobytes())), mean, std)
            pixels.append(values.flip(-1) if flipped else values)
        bits = list(_split(own, "masks"))
        truths = {}
        for place in instance.unique().tolist():
            height, width = own["sizes"][own["image"][place]].tolist()
            packed_bits = np.frombuffer(zlib.decompress(bits[place].numpy()), np.uint8)
            truth = np.unpackbits(packed_bits, count=height * width)
            truths[place] = truth.reshape(height, width).view(bool)
        small = {place: torch.from_numpy(frame.mask(truth)) for place, truth in truths.items()}
        places = instance.tolist()
        sides = zip(places, mirrored.tolist(), strict=True)
        masks = [small[place].flip(-1) if flipped else small[place] for place, flipped in sides]
        ids = [tokens[row].long() for row in rows.tolist()]
        return Samples(
            input_ids=pad_sequence(ids, batch_first=True),
            attention_mask=pad_sequence([torch.ones_like(each) for each in ids], batch_first=True),
            image=image + first,
            masks=torch.stack(masks),
            truths=[truths[place] for place in places],
        )

    used = orders.unique()
    train = samples(TRAIN, used)
    orders = torch.searchsorted(used, orders.contiguous())
    parts = [name.removesuffix(".tokens") for name in tensors if name.endswith(".tokens")]
    scored = {tuple(part.split("/")): samples(part, None) for part in parts if part != TRAIN}
    return Packed(settings, torch.stack(pixels), train, orders, scored)


def _split(tensors: dict[str, torch.Tensor], name: str) -> Iterator[torch.Tensor]:
    """The tensors that lie end to end in one."""
    bounds = tensors[f"{name}.bounds"].tolist()
    return (tensors[name][start:end] for start, end in pairwise(bounds))


class _Names(ModuleType):
    """A module with every name, each of an empty class."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def stand_in_for_pydantic() -> None:
    """Where pydantic is not installed, let the code that builds and optimizes a model be imported all the same.

    It names the classes of `stages.runtime.params` in types, and in patterns that no packed section matches.
    """
    if not (find_spec("pydantic") and find_spec("ruamel")):
        sys.modules.setdefault("stages.runtime.params", _Names("stages.runtime.params"))
