"""The prepared dataset as tensors: what a model is trained on and what it is scored on.

`Expressions` is a table of expressions with its loaders. A loader's processes need only its `Reader`, which holds
nothing but tensors, so that all processes share one copy: forked ones by its memory pages, others by shared memory.
"""

import hashlib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler, SequentialSampler

from models import encoders, frames, images
from models.alignformer import AlignFormer
from models.encoders import EncodedImages
from models.frames import Frame
from models.parallel import BatchPart
from models.processing import AlignFormerProcessor
from stages.data import encoded
from stages.data.encoded import Encoded
from stages.data.lost import CUT, VANISHED
from stages.data.mirroring import mirrored_text
from stages.data.prepared import PreparedDataset, decode_mask, read_image
from stages.data.samplers import BatchParts, PartRows, WholeImages
from stages.runtime import layout
from stages.runtime.errors import UserError
from stages.runtime.processes import ProcessShare

PIXEL_MEMORY = 2**29  # bytes of pixel values that are kept where no workers load, so that small sets are decoded once


class ImageError(UserError):
    """An image cannot be read; the message names the file, the image_id and the way out."""


@dataclass
class Batch:
    """B samples. An image or an expression that several of them share is held once.

    Attributes:
        pixel_values: (P, 3, S, S) float32, normalised, the different images, in the order of their first sample; or
            what the first levels of the vision encoder made of them.
        image_index: (B,) int64, which of the P images each sample is about.
        input_ids, attention_mask: (E, L) int64, the different expressions, in the order of their first sample.
        text_index: (B,) int64, which of the E expressions each sample has.
        masks: (B, S, S) bool, true masks at the model's input size; None where the loader does not serve them.
        image_ids, sent_ids: (B,) int64.
        rows: positions of the samples in the table of expressions.
        part: where the samples lie in the batch of all processes; None where they are the whole batch.
    """

    pixel_values: torch.Tensor | EncodedImages
    image_index: torch.Tensor
    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    text_index: torch.Tensor
    masks: torch.Tensor | None
    image_ids: torch.Tensor
    sent_ids: torch.Tensor
    rows: list[int]
    part: BatchPart | None = None

    @property
    def total(self) -> int:
        """Samples in the batch of all processes."""
        return self.part.total if self.part else len(self.rows)

    @property
    def images(self) -> int:
        """P, the number of different images."""
        return int(self.image_index.max()) + 1

    def inputs(self, device: torch.device) -> dict[str, torch.Tensor | EncodedImages | None]:
        """The arguments of `AlignFormer.forward`, on a device. An index is None where each sample has its own."""
        inputs: dict[str, torch.Tensor | EncodedImages | None] = {
            "pixel_values": self.pixel_values,
            "input_ids": self.input_ids,
            "attention_mask": self.attention_mask,
            "masks": self.masks,
            "image_ids": self.image_ids,
            "image_index": self.image_index if self.images < len(self.rows) else None,
            "text_index": self.text_index if len(self.input_ids) < len(self.rows) else None,
        }
        present = {name: tensor for name, tensor in inputs.items() if tensor is not None}
        return inputs | {name: tensor.to(device, non_blocking=True) for name, tensor in present.items()}

    def pin_memory(self) -> "Batch":
        """The same batch in pinned memory, which a GPU can copy from while it computes."""
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, torch.Tensor)}
        pinned = {name: tensor.pin_memory() for name, tensor in tensors.items()}
        if isinstance(self.pixel_values, EncodedImages):
            pinned["pixel_values"] = self.pixel_values.map(torch.Tensor.pin_memory)
        return replace(self, **pinned)

    def __getstate__(self) -> dict:
        """For a worker that hands a batch over: images and masks go through shared memory, the small tensors as arrays
        in the message. Each tensor in shared memory costs a connection of its own, 1 ms."""
        small = ("image_index", "input_ids", "attention_mask", "text_index", "image_ids", "sent_ids")
        return vars(self) | {name: getattr(self, name).numpy() for name in small}

    def __setstate__(self, state: dict) -> None:
        arrays = {name: torch.from_numpy(value) for name, value in state.items() if isinstance(value, np.ndarray)}
        vars(self).update(state | arrays)


class Expressions(Dataset):
    """The expressions of a table, each with its image and its true mask.

    Args:
        prepared: the dataset.
        rows: the expressions to serve, some rows of `prepared.expressions` with an index from 0 on.
        processor: the model's; its tokenizer truncates at the model's longest expression.
        frame: how an image becomes the model's input; None for the processor's own.
        mirror: row N + i of the N rows is row i mirrored.
    """

    def __init__(
        self,
        prepared: PreparedDataset,
        rows: pd.DataFrame,
        processor: AlignFormerProcessor,
        frame: Frame | None = None,
        mirror: bool = False,
    ):
        self.rows = rows
        self.processor = processor
        self.frame = frame or processor.frame
        self.reader = Reader.of(prepared, rows, processor, self.frame, mirror)
        self._by_image: dict[tuple[int, int, ProcessShare | None], Loader] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: list[int]) -> Batch:
        """Some rows as one batch. Raises ImageError."""
        return self.reader.batch(rows)

    def true_mask(self, row: int) -> np.ndarray:
        """The true mask at the original size: bool (height, width)."""
        return self.reader.true_mask(row)

    def serve_encoded(self, found: Encoded) -> None:
        """From now on, serve these encoded images in place of pixel values."""
        self.reader = replace(self.reader, encoded=found, remembered=None)
        self._by_image.clear()

    def one_sample(self, tokens: int, device: torch.device) -> dict[str, torch.Tensor]:
        """Arguments of the model to measure with: the first image, and an expression of so many tokens."""
        inputs = self[[0]].inputs(device)
        ids = inputs["input_ids"][:, :1].expand(-1, tokens)
        return {"pixel_values": inputs["pixel_values"], "input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def loader(
        self, batch_size: int, sampler: Sampler | None = None, workers: int = 0, share: ProcessShare | None = None
    ) -> "Loader":
        """Batches with masks, in the table's order or in a sampler's.

        Args:
            batch_size: samples of all processes together.
            workers: processes that load, which live as long as the loader; 0 to load in the caller's process. Their
                number changes no batch.
            share: which part of each batch this process takes, see `BatchParts`; None for whole batches.
        """
        batches = BatchSampler(sampler or SequentialSampler(self), batch_size, False)
        return Loader(
            self.reader, BatchParts(batches, self.reader.images_of_rows, share) if share else batches, workers
        )

    def by_image(self, batch_size: int, workers: int = 0, share: ProcessShare | None = None) -> "Loader":
        """Every expression once, in batches of whole images, without masks. The same arguments give the same loader.

        All expressions of an image are in one batch, so that it is decoded once. Only an image with more than
        `batch_size` expressions takes several batches and is decoded for each: no batch is ever larger.

        Args:
            share: which of the batches this process takes; None for all.
        """
        key = batch_size, workers, share
        if key not in self._by_image:
            batches = WholeImages(self._images, batch_size, share)
            self._by_image[key] = Loader(replace(self.reader, serves_masks=False), batches, workers)
        return self._by_image[key]

    @property
    def _images(self) -> np.ndarray:
        """Which image each row is about: (N,)."""
        return self.reader.images_of_rows[: len(self)]


def encode_once(
    splits: Mapping[str, Expressions], model: AlignFormer, made_with: Iterable[object], gigabytes: float
) -> None:
    """From now on, have some splits serve what the model's fixed levels make of each image in place of pixel values.

    They are computed, in float32, where no earlier training left them on the disk: `stages.data.encoded`.

    Args:
        made_with: versions, device and settings that results are rounded by.
        gigabytes: that of `encoded.encoded`.

    Raises:
        ImageError: an image cannot be read.
        NoRoomError: there is no room for them.
    """
    levels = model.frozen_levels
    parts = [part for level in range(levels) for part in model.vision.parts(level)]
    code = [Path(inspect.getfile(module)).read_text(encoding="utf-8") for module in (encoders, frames, images)]
    by_all = [levels, encoded.weights_hash(parts), model.config.encoders[0].to_json_string(), *made_with, *code]
    found = encoded.encoded(
        [
            encoded.Images(split, [*by_all, *reader.determined_by()], reader.image_count, reader.pixels)
            for split, reader in ((split, expressions.reader) for split, expressions in splits.items())
        ],
        lambda pixels: model.encode_images(pixels.to(model.device), levels),
        gigabytes,
    )
    for expressions, made in zip(splits.values(), found, strict=True):
        expressions.serve_encoded(made)


def lost(splits: Mapping[str, Expressions]) -> dict[str, dict[str, int]]:
    """What the model does not get to see of some splits: `CUT` and `VANISHED` of `stages.data.lost` -> split -> count.

    Decodes the masks of images that are larger than the model's input.
    """
    counts: dict[str, dict[str, int]] = {CUT: {}, VANISHED: {}}
    for split, expressions in splits.items():
        rows, reader, tokenizer = expressions.rows, expressions.reader, expressions.processor.tokenizer
        tokens = tokenizer(rows["text"].tolist(), verbose=False)["input_ids"]
        counts[CUT][split] = sum(len(ids) > tokenizer.model_max_length for ids in tokens)
        shrunk = reader.sizes.max(dim=1).values[expressions._images] > expressions.frame.size  # (N,)
        masks = rows.loc[shrunk.numpy(), "ann_id"].drop_duplicates()  # no other loses a pixel
        counts[VANISHED][split] = sum(not reader.mask(row).any() for row in masks.index)
    return counts


@dataclass(frozen=True)
class Packed:
    """N sequences of different lengths, end to end in one tensor.

    Attributes:
        values: the elements of all sequences.
        bounds: (N + 1,) int64; sequence i lies between bounds i and i + 1.
    """

    values: torch.Tensor
    bounds: torch.Tensor

    @classmethod
    def tokens(cls, sequences: list[list[int]]) -> "Packed":
        values = np.fromiter(chain.from_iterable(sequences), np.int32)
        return cls(torch.from_numpy(values), _bounds(sequences))

    @classmethod
    def strings(cls, strings: Iterable[str]) -> "Packed":
        encoded = [string.encode() for string in strings]
        return cls(torch.frombuffer(bytearray(b"".join(encoded)), dtype=torch.uint8), _bounds(encoded))

    def __getitem__(self, index: int) -> torch.Tensor:
        start, end = self.bounds[index : index + 2].tolist()
        return self.values[start:end]

    def string(self, index: int) -> str:
        return self[index].numpy().tobytes().decode()


def _bounds(sequences: list) -> torch.Tensor:
    return torch.tensor([0, *map(len, sequences)]).cumsum(0)


@dataclass(frozen=True, eq=False)
class Reader(Dataset):
    """Makes batches from lists of rows.

    Attributes:
        frame, mean, std: how an image becomes pixel values.
        pad: the token that fills up short expressions.
        tokens, instance_index, image_ids, sent_ids: by expression: its tokens, which instance it means, its ids.
        masks, image_index: by instance: the counts of its COCO compressed RLE, which image it is in.
        files, sizes, file_ids: by image: its path, (height, width), image_id.
        serves_masks: whether batches have masks.
        remembered: pixel values by image, up to `PIXEL_MEMORY`; None where none are kept.
        mirror: whether rows from N on are mirrored ones; so are images from their number on.
        encoded: what takes the place of pixel values.
    """

    frame: Frame
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pad: int
    tokens: Packed
    instance_index: torch.Tensor
    image_ids: torch.Tensor
    sent_ids: torch.Tensor
    masks: Packed
    image_index: torch.Tensor
    files: Packed
    sizes: torch.Tensor
    file_ids: torch.Tensor
    serves_masks: bool = True
    remembered: dict[int, torch.Tensor] | None = field(default_factory=dict)
    mirror: bool = False
    encoded: Encoded | None = None

    @classmethod
    def of(
        cls,
        prepared: PreparedDataset,
        rows: pd.DataFrame,
        processor: AlignFormerProcessor,
        frame: Frame,
        mirror: bool = False,
    ) -> "Reader":
        """The reader of some expressions, with only the instances and images that they are about."""
        instances = prepared.instances.loc[rows["ann_id"].unique()]
        images = instances.drop_duplicates("image")
        texts = rows["text"].tolist()
        texts = [*texts, *map(mirrored_text, texts)] if mirror else texts
        return cls(
            frame=frame,
            mean=tuple(processor.image_processor.image_mean),
            std=tuple(processor.image_processor.image_std),
            pad=processor.tokenizer.pad_token_id,
            tokens=Packed.tokens(processor.tokenizer(texts, truncation=True)["input_ids"]),
            instance_index=torch.from_numpy(instances.index.get_indexer(rows["ann_id"])),
            image_ids=torch.tensor(rows["image_id"].to_numpy()),
            sent_ids=torch.tensor(rows["sent_id"].to_numpy()),
            masks=Packed.strings(instances["mask"]),
            image_index=torch.from_numpy(pd.Index(images["image"]).get_indexer(instances["image"])),
            files=Packed.strings(images["image"]),
            sizes=torch.tensor(np.ascontiguousarray(images[["height", "width"]])),
            file_ids=torch.tensor(images["image_id"].to_numpy()),
            mirror=mirror,
        )

    @property
    def image_count(self) -> int:
        """How many images there are, mirrored ones included."""
        return len(self.sizes) * (2 if self.mirror else 1)

    @property
    def images_of_rows(self) -> np.ndarray:
        """Which image each row is about, mirrored rows included."""
        images = self.image_index[self.instance_index].numpy()
        return np.concatenate([images, images + len(self.sizes)]) if self.mirror else images

    def determined_by(self) -> list[object]:
        """What pixel values follow from: frame, constants, and the content of every file, wherever it lies."""
        paths = [layout.source(self.files.string(image)) for image in range(len(self.sizes))]
        return [repr(self.frame), self.mean, self.std, self.mirror, [_content(path) for path in paths]]

    def __getitem__(self, rows: list[int] | PartRows) -> "Batch | ImageError":
        """A batch, or the error that kept it from being made: raised in a worker, it would arrive as text."""
        rows, part = rows if isinstance(rows, PartRows) else (rows, None)
        try:
            return replace(self.batch(rows), part=part)
        except ImageError as error:
            return error

    def batch(self, rows: list[int]) -> Batch:
        """Some rows as one batch, expressions padded to the longest of them. Raises ImageError."""
        known = len(self.image_ids)
        index, mirrored = torch.tensor(rows) % known, torch.tensor(rows) // known
        texts: dict[tuple[int, ...], int] = {}
        text_index = [texts.setdefault(tuple(self.tokens[row].tolist()), len(texts)) for row in rows]
        tokens = [torch.tensor(text) for text in texts]
        lengths = torch.tensor([len(text) for text in texts])
        ids = pad_sequence(tokens, batch_first=True, padding_value=self.pad)  # (E, L)
        numbers = self.image_index[self.instance_index[index]] + len(self.sizes) * mirrored
        image_index, images = pd.factorize(numbers.numpy())
        return Batch(
            pixel_values=self._of_images(images.tolist()),
            image_index=torch.from_numpy(image_index),
            input_ids=ids,
            attention_mask=(torch.arange(ids.shape[1]) < lengths[:, None]).long(),
            text_index=torch.tensor(text_index),
            masks=torch.stack([self.mask(row) for row in rows]) if self.serves_masks else None,
            image_ids=self.image_ids[index],
            sent_ids=self.sent_ids[index],
            rows=rows,
        )

    def _of_images(self, images: list[int]) -> torch.Tensor | EncodedImages:
        if self.encoded is not None:
            return self.encoded.of(images)
        return torch.stack([self.pixels(image) for image in images])

    def pixels(self, image: int) -> torch.Tensor:
        """Pixel values (3, S, S) of an image."""
        if image >= len(self.sizes):
            return self.pixels(image - len(self.sizes)).flip(-1)
        if self.remembered is None:
            return self._decoded(image)
        if image in self.remembered:
            return self.remembered[image]
        values = self._decoded(image)
        if (len(self.remembered) + 1) * values.nbytes <= PIXEL_MEMORY:
            self.remembered[image] = values
        return values

    def mask(self, row: int) -> torch.Tensor:
        """The true mask of an expression at the model's input size: bool (S, S)."""
        mirrored, row = divmod(row, len(self.image_ids))
        mask = torch.from_numpy(self.frame.mask(self.true_mask(row)))
        return mask.flip(-1) if mirrored else mask

    def true_mask(self, row: int) -> np.ndarray:
        """The true mask of an expression at the original size: bool (height, width)."""
        instance = self.instance_index[row].item()
        height, width = self.sizes[self.image_index[instance]].tolist()
        return decode_mask(self.masks.string(instance), height, width).view(bool)

    def _decoded(self, image: int) -> torch.Tensor:
        path, (height, width) = self.files.string(image), self.sizes[image].tolist()
        try:
            pixels = read_image(path, (width, height))
        except ValueError as error:
            raise ImageError(
                f"{path}, image_id {self.file_ids[image]}, cannot be read: {error}. Put the whole file "
                "back in place, or take the image out of the source and prepare the dataset again"
            ) from error
        return self.frame.pixels(pixels, self.mean, self.std)


def _content(path: Path) -> str | None:
    """SHA-256 of a file; None where it cannot be read, which who decodes it says."""
    with suppress(OSError), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
    return None


class Loader(DataLoader):
    """The batches of a reader, in the order that a sampler gives; the same for any number of workers.

    Draws nothing from torch's global generator. Iterating raises ImageError.
    """

    def __init__(self, reader: Reader, batches: Sampler[list[int]] | Sampler[PartRows], workers: int):
        super().__init__(
            reader if workers == 0 else replace(reader, remembered=None),
            batch_size=None,
            sampler=batches,
            num_workers=workers,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=workers > 0,
            generator=torch.Generator(),
        )

    def __iter__(self) -> Iterator[Batch]:
        for batch in super().__iter__():
            if isinstance(batch, ImageError):
                raise ImageError(*batch.args)  # `batch` itself would hold this frame, and with it the workers
            yield batch
