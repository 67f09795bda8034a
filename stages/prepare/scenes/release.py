"""Writes the dataset `scenes`: rendered images and expressions of a grammar, in the REFER layout of RefCOCO.

An image and its ids depend only on the seed, the split and the index, so that more images in a split change no others.
"""

import itertools
import json
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from stages.prepare.scenes import arrangement, rendering, wording
from stages.prepare.scenes.arrangement import Scene
from stages.prepare.scenes.grammar import Expression, Finder, Kind
from stages.prepare.scenes.shapes import SHAPES
from stages.runtime.params import ScenesSource
from stages.runtime.progress import bar

NAME = "scenes"
IMAGES = Path("images/mscoco/images/train2014")
SPLITS = ("train", "val", "testA", "testB")
ATTEMPTS = 500  # how many scenes are drawn for one image before an error

_MIXED: dict[Kind, float] = {"attribute": 0.44, "position": 0.18, "comparison": 0.19, "relation": 0.19}
KINDS: dict[str, dict[Kind, float]] = {
    "train": _MIXED,
    "val": _MIXED,
    "testA": {"attribute": 1.0},
    "testB": {"comparison": 0.45, "relation": 0.55},
}


@dataclass(frozen=True)
class Sentence:
    """An expression, with its wording as typed (`raw`) and cleaned (`text`)."""

    expression: Expression
    raw: str
    text: str


@dataclass(frozen=True)
class DescribedScene:
    """A scene, and the sentences of every thing that is referred to, by its index."""

    scene: Scene
    sentences: dict[int, list[Sentence]]
    generator: np.random.Generator


def write(source: ScenesSource, root: Path, progress: bool = True) -> None:
    """Write the dataset below `root`; the same source gives the same bytes.

    Writes `scenes/refs(unc).p`, `scenes/instances.json` and the images as
    `images/mscoco/images/train2014/COCO_train2014_%012d.jpg`. Sentences carry the kind of their expression as `kind`.

    Args:
        source: seed, size and number of the images.
        root: folder, which is made if it does not exist.
        progress: whether to show a bar on a terminal.

    Raises:
        RuntimeError: no scene with enough expressions was found for an image.
    """
    (root / NAME).mkdir(parents=True, exist_ok=True)
    (root / IMAGES).mkdir(parents=True, exist_ok=True)
    refs, images, annotations = [], [], []
    jobs = [(split, index) for split in SPLITS for index in range(getattr(source.image_counts, split))]
    for split, index in bar(jobs, "images", len(jobs), hidden=not progress):
        image = draw(source, split, index)
        image_id = (SPLITS.index(split) + 1) * 1_000_000 + index + 1
        images.append(_image(image_id, source.image_size))
        annotations += _annotations(image, image_id)
        refs += _refs(image, image_id, split)
        painted = rendering.paint(image.scene, image.generator)
        painted.save(root / IMAGES / images[-1]["file_name"], quality=95, subsampling=0)
    categories = [{"id": number, "name": shape, "supercategory": "shape"} for shape, number in _CATEGORIES.items()]
    instances = {"images": images, "annotations": annotations, "categories": categories}
    (root / NAME / "instances.json").write_text(json.dumps(instances))
    (root / NAME / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=2))


def draw(source: ScenesSource, split: str, index: int) -> DescribedScene:
    """Scene and sentences of one image of a split.

    Raises:
        RuntimeError: no scene with enough expressions was found.
    """
    generator = np.random.default_rng(np.random.SeedSequence([source.seed, SPLITS.index(split), index]))
    for _ in range(ATTEMPTS):
        scene = arrangement.sample(generator, source.image_size)
        if scene is not None and (sentences := _sentences(scene, KINDS[split], generator)):
            return DescribedScene(scene, sentences, generator)
    raise RuntimeError(
        f"scenes: none of {ATTEMPTS} scenes of {source.image_size} pixels gave enough expressions "
        f"for image {index} of {split}; try another seed than {source.seed}"
    )


def _sentences(
    scene: Scene, kinds: dict[Kind, float], generator: np.random.Generator
) -> dict[int, list[Sentence]] | None:
    """Two or three things with two or three sentences each; None where the scene does not allow so many."""
    finder, wanted = Finder(scene), 2 + generator.integers(2)
    targets = [int(index) for index in generator.permutation(len(scene.things)) if scene.distractors(index)]
    if len(targets) < wanted:
        return None
    found = {}
    for target in targets:
        sentences = _sentences_about(target, finder, kinds, 2 + generator.integers(2), generator)
        if len(sentences) >= 2:
            found[target] = sentences
        if len(found) == wanted:
            return dict(sorted(found.items()))
    return None


def _sentences_about(
    target: int, finder: Finder, kinds: dict[Kind, float], wanted: int, generator: np.random.Generator
) -> list[Sentence]:
    """Up to `wanted` different sentences that refer to one thing; their kinds are drawn by the shares in `kinds`."""
    streams = {kind: itertools.cycle(finder.find(target, kind, generator)) for kind in kinds}
    sentences: list[Sentence] = []
    for kind in generator.choice(list(kinds), size=2 * wanted, p=list(kinds.values())).tolist():
        expression = next(streams[kind], None)  # after the last, again the first, in other words
        if expression is None:
            continue
        text = wording.say(expression, generator)
        if text not in [sentence.text for sentence in sentences]:
            sentences.append(Sentence(expression, _typed(text, generator), text))
        if len(sentences) == wanted:
            break
    return sentences


def _typed(text: str, generator: np.random.Generator) -> str:
    """The text as someone would type it: plain, or with a capital and a full stop."""
    return text if generator.random() < 0.6 else f"{text.capitalize()}."


_CATEGORIES = {shape: number for number, shape in enumerate(SHAPES, start=1)}


def _image(image_id: int, size: int) -> dict:
    return {"id": image_id, "file_name": f"COCO_train2014_{image_id:012d}.jpg", "height": size, "width": size}


def _annotations(image: DescribedScene, image_id: int) -> list[dict]:
    """COCO annotations of all things of an image, referred or not."""
    annotations = []
    for number, thing in enumerate(image.scene.things):
        mask = coco_mask.encode(np.asfortranarray(thing.mask, dtype=np.uint8))
        annotations.append(
            {
                "id": image_id * 10 + number,
                "image_id": image_id,
                "category_id": _CATEGORIES[thing.shape],
                "segmentation": {"size": mask["size"], "counts": mask["counts"].decode("ascii")},
                "area": int(coco_mask.area(mask)),
                "bbox": coco_mask.toBbox(mask).tolist(),
                "iscrowd": 0,
            }
        )
    return annotations


def _refs(image: DescribedScene, image_id: int, split: str) -> list[dict]:
    refs = []
    for number, sentences in image.sentences.items():
        ann_id = image_id * 10 + number
        sent_ids = [ann_id * 10 + place for place in range(len(sentences))]
        refs.append(
            {
                "ref_id": ann_id,
                "ann_id": ann_id,
                "image_id": image_id,
                "category_id": _CATEGORIES[image.scene.things[number].shape],
                "split": split,
                "file_name": f"COCO_train2014_{image_id:012d}_{ann_id}.jpg",
                "sent_ids": sent_ids,
                "sentences": [
                    {
                        "sent_id": sent_id,
                        "raw": sentence.raw,
                        "sent": sentence.text,
                        "tokens": sentence.text.split(),
                        "kind": sentence.expression.kind,
                    }
                    for sent_id, sentence in zip(sent_ids, sentences, strict=True)
                ],
            }
        )
    return refs
