"""The prepared dataset as tensors: what a model is trained on and what it is scored on.

`Expressions` is the table with its loaders; `Reader` is what a loader's process needs of it, in tensors alone, so that
processes share one copy: forked ones by its pages, others through shared memory.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np
import pandas as pd
import torch
from PIL import Image, UnidentifiedImageError
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler, SequentialSampler

from models.frames import Frame
from models.parallel import BatchPart
from models.processing import AlignFormerProcessor
from stages.data.prepared import PreparedDataset, decode_mask
from stages.data.samplers import BatchParts, PartRows, WholeImages
from stages.runtime.errors import UserError
from stages.runtime.processes import ProcessShare

PIXEL_MEMORY = 2**29  # bytes of processed images kept where no workers load, so that small sets are decoded once


class ImageError(UserError):
    """An image cannot be read; the message names the file, the image_id and the way out."""


@dataclass
class Batch:
    """Samples side by side, each of their images and each of their expressions once.

    Attributes:
        pixel_values: (P, 3, S, S) float32, normalised, the images in the order in which the samples name them.
        image_index: (B,) int64, which of the P images each sample is about.
        input_ids, attention_mask: (E, L) int64, the different expressions, likewise.
        text_index: (B,) int64, which of the E expressions each sample has.
        masks: (B, S, S) bool, true masks at the model's input size; None where the loader does not serve them.
        image_ids, sent_ids: (B,) int64.
        rows: positions of the samples in the dataset's table.
        part: where they lie in the batch of all processes. None: they are all.
    """

    pixel_values: torch.Tensor
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

    def inputs(self, device: torch.device) -> dict[str, torch.Tensor | None]:
        """What `AlignFormer.forward` takes, on a device."""
        inputs: dict[str, torch.Tensor | None] = {
            "pixel_values": self.pixel_values,
            "input_ids": self.input_ids,
            "attention_mask": self.attention_mask,
            "masks": self.masks,
            "image_ids": self.image_ids,
            "image_index": self.image_index if len(self.pixel_values) < len(self.rows) else None,
            "text_index": self.text_index if len(self.input_ids) < len(self.rows) else None,
        }
        there = {name: tensor.to(device, non_blocking=True) for name, tensor in inputs.items() if tensor is not None}
        return inputs | there

    def pin_memory(self) -> "Batch":
        """The same in memory from which a GPU copies while it computes."""
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, torch.Tensor)}
        return replace(self, **{name: tensor.pin_memory() for name, tensor in tensors.items()})

    def __getstate__(self) -> dict:
        """How a worker hands a batch over: images and masks in shared memory, the small tensors as arrays in the
        message, since each tensor there costs a connection of its own, 1 ms."""
        small = ("image_index", "input_ids", "attention_mask", "text_index", "image_ids", "sent_ids")
        return vars(self) | {name: getattr(self, name).numpy() for name in small}

    def __setstate__(self, state: dict) -> None:
        arrays = {name: torch.from_numpy(value) for name, value in state.items() if isinstance(value, np.ndarray)}
        vars(self).update(state | arrays)


class Expressions(Dataset):
    """Every expression of a table: image, words and true mask.

    Args:
        prepared: the dataset.
        rows: expressions to serve, a part of `prepared.expressions` with a fresh index.
        processor: of the model; its tokenizer truncates at the model's longest expression.
        frame: how an image becomes the model's input; the processor's own where None.
    """

    def __init__(
        self,
        prepared: PreparedDataset,
        rows: pd.DataFrame,
        processor: AlignFormerProcessor,
        frame: Frame | None = None,
    ):
        self.rows = rows
        self.processor = processor
        self.frame = frame or processor.frame
        self.reader = Reader.of(prepared, rows, processor, self.frame)
        self._by_image: dict[tuple[int, int, ProcessShare | None], Loader] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: list[int]) -> Batch:
        """Some rows as one batch. Raises ImageError."""
        return self.reader.batch(rows)

    def true_mask(self, row: int) -> np.ndarray:
        """The true mask at the original size: bool (height, width)."""
        return self.reader.true_mask(row)

    def one_sample(self, tokens: int, device: torch.device) -> dict[str, torch.Tensor]:
        """The first image with an expression of so many tokens, as inputs of the model; to measure with."""
        inputs = self[[0]].inputs(device)
        ids = inputs["input_ids"][:, :1].expand(-1, tokens)
        return {"pixel_values": inputs["pixel_values"], "input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def loader(
        self, batch_size: int, sampler: Sampler | None = None, workers: int = 0, share: ProcessShare | None = None
    ) -> "Loader":
        """Batches with masks, in the table's order or in a sampler's.

        Args:
            batch_size: of all processes together.
            workers: processes that load, alive as long as the loader; 0: the caller's own. Batches are the same.
            share: the part of each batch that is this process's, see `BatchParts`; None for the whole.
        """
        batches = BatchSampler(sampler or SequentialSampler(self), batch_size, False)
        return Loader(self.reader, BatchParts(batches, self._images, share) if share else batches, workers)

    def by_image(self, batch_size: int, workers: int = 0, share: ProcessShare | None = None) -> "Loader":
        """Every expression once, in batches of whole images, without masks; the same call gives the same loader.

        All expressions of an image are in one batch, so that it is decoded once. Only an image with more than
        `batch_size` expressions takes several batches, and is decoded for each of them: no batch is ever larger.

        Args:
            share: which of the batches are this process's; None for all.
        """
        key = batch_size, workers, share
        if key not in self._by_image:
            batches = WholeImages(self._images, batch_size, share)
            self._by_image[key] = Loader(replace(self.reader, serves_masks=False), batches, workers)
        return self._by_image[key]

    @property
    def _images(self) -> np.ndarray:
        """Which image each row is about (N,)."""
        return self.reader.image[self.reader.instance].numpy()


@dataclass(frozen=True)
class Packed:
    """Sequences of different lengths, end to end in one tensor.

    Attributes:
        values: all of them.
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
    """Lists of rows -> batches.

    Attributes:
        frame, mean, std: how an image becomes pixel values.
        pad: the token that fills up short expressions.
        tokens, instance, image_ids, sent_ids: of each expression; its words, what it means, its ids.
        masks, image: of each instance; counts of a COCO compressed RLE, and which image it is in.
        files, sizes, file_ids: of each image; path, (height, width), image_id.
        serves_masks: whether batches have masks.
        remembered: pixel values by image, up to `PIXEL_MEMORY`; None where nothing is kept.
    """

    frame: Frame
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pad: int
    tokens: Packed
    instance: torch.Tensor
    image_ids: torch.Tensor
    sent_ids: torch.Tensor
    masks: Packed
    image: torch.Tensor
    files: Packed
    sizes: torch.Tensor
    file_ids: torch.Tensor
    serves_masks: bool = True
    remembered: dict[int, torch.Tensor] | None = field(default_factory=dict)

    @classmethod
    def of(
        cls, prepared: PreparedDataset, rows: pd.DataFrame, processor: AlignFormerProcessor, frame: Frame
    ) -> "Reader":
        """What `Expressions` was made of, with only the instances and images in use."""
        instances = prepared.instances.loc[rows["ann_id"].unique()]
        images = instances.drop_duplicates("image")
        return cls(
            frame=frame,
            mean=tuple(processor.image_processor.image_mean),
            std=tuple(processor.image_processor.image_std),
            pad=processor.tokenizer.pad_token_id,
            tokens=Packed.tokens(processor.tokenizer(rows["text"].tolist(), truncation=True)["input_ids"]),
            instance=torch.from_numpy(instances.index.get_indexer(rows["ann_id"])),
            image_ids=torch.tensor(rows["image_id"].to_numpy()),
            sent_ids=torch.tensor(rows["sent_id"].to_numpy()),
            masks=Packed.strings(instances["mask"]),
            image=torch.from_numpy(pd.Index(images["image"]).get_indexer(instances["image"])),
            files=Packed.strings(images["image"]),
            sizes=torch.tensor(np.ascontiguousarray(images[["height", "width"]])),
            file_ids=torch.tensor(images["image_id"].to_numpy()),
        )

    def __getitem__(self, rows: list[int] | PartRows) -> "Batch | ImageError":
        """A batch, or why there is none: raised here, the error would leave a worker as a traceback in text."""
        try:
            return replace(self.batch(rows.rows), part=rows.part) if isinstance(rows, PartRows) else self.batch(rows)
        except ImageError as error:
            return error

    def batch(self, rows: list[int]) -> Batch:
        """Rows side by side, expressions padded to the longest of them. Raises ImageError."""
        index = torch.tensor(rows)
        different: dict[tuple[int, ...], int] = {}
        text_index = [different.setdefault(tuple(self.tokens[row].tolist()), len(different)) for row in rows]
        tokens = [torch.tensor(words) for words in different]
        lengths = torch.tensor([len(words) for words in tokens])
        ids = pad_sequence(tokens, batch_first=True, padding_value=self.pad)  # (E, L)
        which, images = pd.factorize(self.image[self.instance[index]].numpy())
        return Batch(
            pixel_values=torch.stack([self.pixels(image) for image in images.tolist()]),
            image_index=torch.from_numpy(which),
            input_ids=ids,
            attention_mask=(torch.arange(ids.shape[1]) < lengths[:, None]).long(),
            text_index=torch.tensor(text_index),
            masks=torch.stack([self.mask(row) for row in rows]) if self.serves_masks else None,
            image_ids=self.image_ids[index],
            sent_ids=self.sent_ids[index],
            rows=rows,
        )

    def pixels(self, image: int) -> torch.Tensor:
        """Pixel values (3, S, S) of an image."""
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
        return torch.from_numpy(self.frame.mask(self.true_mask(row)))

    def true_mask(self, row: int) -> np.ndarray:
        """The true mask of an expression at the original size: bool (height, width)."""
        instance = self.instance[row].item()
        height, width = self.sizes[self.image[instance]].tolist()
        return decode_mask(self.masks.string(instance), height, width).view(bool)

    def _decoded(self, image: int) -> torch.Tensor:
        path, (height, width) = self.files.string(image), self.sizes[image].tolist()
        try:
            with Image.open(path) as opened:
                if opened.size != (width, height):
                    raise OSError(f"it is {opened.width} x {opened.height} pixels, prepared as {width} x {height}")
                return self.frame.pixels(opened.convert("RGB"), self.mean, self.std)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise ImageError(
                f"{path}, image_id {self.file_ids[image]}, cannot be read: {_reason(error)}. Put the whole file "
                "back in place, or take the image out of the source and prepare the dataset again"
            ) from error


def _reason(error: Exception) -> str:
    match error:
        case FileNotFoundError():
            return "it does not exist"
        case UnidentifiedImageError():
            return "it is not an image"
        case _:
            return str(error)


class Loader(DataLoader):
    """Batches of a reader, in the order of lists of rows; the same for any number of workers.

    Draws nothing from torch's global generator. Raises ImageError.
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
