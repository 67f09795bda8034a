"""The prepared dataset as tensors: what a model is trained on and what it is scored on."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Sampler

from models.processing import AlignFormerProcessor
from stages.prepared import PreparedDataset, decode_mask

PIXEL_MEMORY = 2**29  # bytes of processed images kept, so that small sets are decoded once


@dataclass
class Batch:
    """Samples side by side.

    Attributes:
        pixel_values: (B, 3, S, S) float32, normalised.
        input_ids, attention_mask: (B, L) int64.
        masks: (B, S, S) float32, 0 or 1, at the model's input size.
        image_ids, sent_ids: (B,) int64.
        rows: positions of the samples in the dataset's table.
    """

    pixel_values: torch.Tensor
    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    masks: torch.Tensor
    image_ids: torch.Tensor
    sent_ids: torch.Tensor
    rows: list[int]

    def inputs(self, device: torch.device) -> dict[str, torch.Tensor]:
        """What `AlignFormer.forward` takes, on a device."""
        names = ("pixel_values", "input_ids", "attention_mask", "masks", "image_ids")
        return {name: getattr(self, name).to(device, non_blocking=True) for name in names}


class Expressions(Dataset):
    """Every expression of a table: image, words and true mask.

    Args:
        prepared: the dataset.
        rows: expressions to serve, a part of `prepared.expressions` with a fresh index.
        processor: of the model; its tokenizer truncates at the model's longest expression.
    """

    def __init__(self, prepared: PreparedDataset, rows: pd.DataFrame, processor: AlignFormerProcessor):
        self.rows = rows
        self.processor = processor
        self.size = processor.image_processor.size["height"]
        self.tokens = processor.tokenizer(rows["text"].tolist(), truncation=True)["input_ids"]
        columns = ["image", "mask", "height", "width"]
        self.instances = list(prepared.instances.loc[rows["ann_id"], columns].itertuples(index=False))
        self.ids = list(zip(rows["image_id"].tolist(), rows["sent_id"].tolist(), strict=True))
        self._pixels: dict[str, torch.Tensor] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> dict:
        mask = torch.from_numpy(self.true_mask(row)).float()[None, None]
        image_id, sent_id = self.ids[row]
        return {
            "pixel_values": self.pixels(self.instances[row].image),
            "input_ids": torch.tensor(self.tokens[row]),
            "mask": F.interpolate(mask, size=(self.size, self.size), mode="nearest-exact")[0, 0],
            "image_id": image_id,
            "sent_id": sent_id,
            "row": row,
        }

    def pixels(self, path: str) -> torch.Tensor:
        """The processed image (3, S, S) of a file."""
        if path in self._pixels:
            return self._pixels[path]
        with Image.open(path) as image:
            values = self.processor.image_processor(image.convert("RGB"), return_tensors="pt")["pixel_values"][0]
        if (len(self._pixels) + 1) * values.nbytes <= PIXEL_MEMORY:
            self._pixels[path] = values
        return values

    def true_mask(self, row: int) -> np.ndarray:
        """The true mask at the original size: bool (height, width)."""
        instance = self.instances[row]
        return decode_mask(instance.mask, instance.height, instance.width).astype(bool)

    def collate(self, samples: list[dict]) -> Batch:
        """Samples -> a batch, expressions padded to the longest of them."""
        ids = torch.nn.utils.rnn.pad_sequence(
            [sample["input_ids"] for sample in samples],
            batch_first=True,
            padding_value=self.processor.tokenizer.pad_token_id,
        )
        lengths = torch.tensor([len(sample["input_ids"]) for sample in samples])
        return Batch(
            pixel_values=torch.stack([sample["pixel_values"] for sample in samples]),
            input_ids=ids,
            attention_mask=(torch.arange(ids.shape[1]) < lengths[:, None]).long(),
            masks=torch.stack([sample["mask"] for sample in samples]),
            image_ids=torch.tensor([sample["image_id"] for sample in samples]),
            sent_ids=torch.tensor([sample["sent_id"] for sample in samples]),
            rows=[sample["row"] for sample in samples],
        )

    def loader(self, batch_size: int, sampler: Sampler | None = None) -> DataLoader:
        """Batches in the table's order, or in a sampler's."""
        return DataLoader(self, batch_size=batch_size, sampler=sampler, collate_fn=self.collate)


class OneExpressionPerRef(Sampler):
    """For each epoch one random expression of each ref, in random order; determined by seed and epoch.

    Args:
        rows: the expressions' table, with a column ref_id.
        seed: of the run.
    """

    def __init__(self, rows: pd.DataFrame, seed: int):
        self.by_ref = list(rows.groupby("ref_id", sort=True).indices.values())
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.by_ref)

    def __iter__(self):
        random = np.random.default_rng((self.seed, self.epoch))
        chosen = [rows[draw] for rows, draw in zip(self.by_ref, self._draws(random), strict=True)]
        return iter(np.asarray(chosen)[random.permutation(len(chosen))].tolist())

    def _draws(self, random: np.random.Generator) -> np.ndarray:
        return random.integers([len(rows) for rows in self.by_ref])
