"""A prepared dataset of two images of coloured squares, and a tiny model for it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from transformers import BertConfig, PreTrainedTokenizerFast, SwinConfig
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from models.alignformer import AlignFormer
from models.configuration import AlignFormerConfig
from models.processing import AlignFormerProcessor
from stages.data.prepared import INSTANCE_COLUMNS, PreparedDataset, encode_mask
from stages.data.samples import Expressions
from stages.setup.build import word_tokenizer

COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220), "green": (30, 200, 30), "yellow": (220, 220, 30)}
PLACES = {  # image -> height, width, colour -> top, left, side
    1: (40, 60, {"red": (4, 5, 20), "blue": (15, 32, 22)}),
    2: (50, 36, {"green": (2, 3, 18), "yellow": (25, 12, 21)}),
}


@dataclass
class Squares:
    """Two images, four squares, two expressions a square in train and one in val."""

    prepared: PreparedDataset
    masks: dict[int, np.ndarray]
    processor: AlignFormerProcessor

    def expressions(self, split: str) -> Expressions:
        return Expressions(self.prepared, self.prepared.split(split), self.processor)

    def model(self, seed: int = 0, **changes) -> AlignFormer:
        torch.manual_seed(seed)
        return AlignFormer(
            AlignFormerConfig(
                vision_config=SwinConfig(
                    image_size=32,
                    patch_size=4,
                    embed_dim=8,
                    depths=[1, 1],
                    num_heads=[1, 2],
                    window_size=4,
                    drop_path_rate=0.1,
                    use_absolute_embeddings=True,
                ),
                text_config=BertConfig(
                    vocab_size=len(self.processor.tokenizer),
                    hidden_size=16,
                    intermediate_size=32,
                    num_hidden_layers=1,
                    num_attention_heads=2,
                    max_position_embeddings=8,
                ),
                pixel_dim=16,
                **changes,
            )
        )


@pytest.fixture
def squares(tmp_path) -> Squares:
    return squares_in(tmp_path)


@pytest.fixture(scope="module")
def shared_squares(tmp_path_factory) -> Squares:
    """The same for a whole file, to be left as it is."""
    return squares_in(tmp_path_factory.mktemp("squares"))


@pytest.fixture(scope="module")
def taught(shared_squares, tmp_path_factory) -> Path:
    """The folder of a model that has learned the squares."""
    return teach(shared_squares, tmp_path_factory.mktemp("taught") / "model", contrastive="instance")


def teach(squares: "Squares", folder: Path, **changes) -> Path:
    """Train until masks are neither empty nor full, and save model and processor."""
    model = squares.model(**changes)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    expressions = squares.expressions("train")
    batch = expressions[list(range(len(expressions)))].inputs(torch.device("cpu"))
    for _ in range(60):
        optimizer.zero_grad()
        model(**{**batch, "masks": batch["masks"].float()}).loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    squares.processor.save_pretrained(folder)
    return folder


def squares_in(folder: Path) -> Squares:
    expressions, instances, masks = [], [], {}
    for image_id, (height, width, places) in PLACES.items():
        image = np.full((height, width, 3), 128, dtype=np.uint8)
        path = folder / f"{image_id}.png"
        for colour, (top, left, side) in places.items():
            ann_id = 10 * image_id + len(masks)
            image[top : top + side, left : left + side] = COLOURS[colour]
            masks[ann_id] = np.zeros((height, width), dtype=bool)
            masks[ann_id][top : top + side, left : left + side] = True
            instances.append((ann_id, image_id, str(path), width, height, "square", encode_mask(masks[ann_id])))
            texts = [("train", f"{colour} square"), ("train", f"the {colour} one"), ("val", f"the {colour} square")]
            expressions += [(100 + ann_id, ann_id, image_id, split, text) for split, text in texts]
        Image.fromarray(image).save(path)
    table = pd.DataFrame(expressions, columns=["ref_id", "ann_id", "image_id", "split", "text"])
    table.insert(0, "sent_id", range(500, 500 + len(table)))
    prepared = PreparedDataset(
        expressions=table,
        instances=pd.DataFrame(instances, columns=INSTANCE_COLUMNS).set_index("ann_id"),
        summary={"name": "squares", "counts": {}, "warnings": [], "notes": [], "fingerprint": "f00d"},
    )
    return Squares(prepared, masks, AlignFormerProcessor(image_processor(), tokenizer(table["text"].tolist())))


def image_processor() -> ViTImageProcessorPil:
    return ViTImageProcessorPil(size={"height": 32, "width": 32}, image_mean=[0.5] * 3, image_std=[0.5] * 3)


def tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    return word_tokenizer(texts, max_words=8)
