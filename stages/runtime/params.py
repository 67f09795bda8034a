"""`params.yaml` with types. Every stage reads the whole file here first, so a wrong key stops it before any work.

This module only checks. An optional key that is not given is None here; the code that reads it, which DVC tracks, gives
None its meaning. `python -m stages.params` checks the file and writes `params.schema.json`, which editors use for
completion.
"""

import difflib
import json
import os
import sys
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator
from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.constructor import DuplicateKeyError

from models.variant import VariantFields
from stages.runtime import layout, merge_conflicts
from stages.runtime.errors import UserError
from stages.runtime.refer_sets import SPLIT_BY, WITH_RAW, Format, SetName

SCHEMA = layout.PARAMS.with_suffix(".schema.json")
READ_BY_DVC = ("datasets", "evaluate_on", "variants", "seeds", "recipe")  # keys of `experiment` in dvc.yaml
SPLITS = ("train", "val", "testA", "testB", "test")  # of a dataset; a split of a mixture ends in one of them
ALWAYS_SHOWN = ("vlba", "contrastive", "contrastive_weight", "temperature")  # of a variant, in its card and the report

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_+-]*$")]
LABEL = r"^\S(.*\S)?$"
Label = Annotated[str, Field(pattern=LABEL)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class ParamsError(UserError):
    """`params.yaml` is wrong; the message names every offending key."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Other(Section):
    """A system that others made, compared by its predictions: docs/own_predictions.md."""

    predictions: dict[str, str] | str = Field(
        description="file or folder of its masks, of each dataset by name; a path alone if there is one dataset"
    )
    label: Label | None = Field(default=None, description="its name in tables; not given: its own")
    latex_label: Label | None = Field(
        default=None, description="its name in LaTeX tables, as LaTeX; not given: its label"
    )
    allow_missing: bool = Field(
        default=False, description="score expressions without a prediction as empty masks, and say how many there are"
    )

    @model_validator(mode="before")
    @classmethod
    def _predictions_are_paths(cls, content: Any) -> Any:
        """One message where neither kind fits, rather than one for each."""
        if isinstance(content, dict) and "predictions" in content:
            found = content["predictions"]
            paths = list(found.items()) if isinstance(found, dict) else [("", found)]
            if not paths or not all(isinstance(part, str) for pair in paths for part in pair):
                kind = _type_name(found)
                raise ValueError(f"predictions: expected a path, or a path for each dataset, found {found!r} ({kind})")
        return content


class Experiment(Section):
    """The comparison: every dataset x variant x seed, all with one recipe."""

    datasets: Annotated[list[Name], Field(min_length=1)]
    evaluate_on: list[Name] = Field(
        description="further datasets that the finished models are scored on: each is one more split of every dataset"
    )
    variants: Annotated[list[Name], Field(min_length=1)]
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    recipe: Name
    reference: Name = Field(description="the variant that the others are compared to")
    highlight: Name = Field(description="the variant that the report is about")
    smallest_effect: Annotated[float, Field(gt=0)] | None = Field(
        description="points; a smaller difference does not matter. null: verdicts say only whether one is supported"
    )
    others: dict[Name, Other] = Field(
        default={}, description="systems that others made, by name: rows of the report, from files of their predictions"
    )

    def predictions(self, dataset: str) -> dict[str, str]:
        """The path of the predictions of every one of the others that has some on a listed dataset, by its name."""
        found = {
            name: other.predictions if isinstance(other.predictions, str) else other.predictions.get(dataset)
            for name, other in self.others.items()
        }
        return {name: path for name, path in found.items() if path is not None}

    @model_validator(mode="after")
    def _one_path_is_of_one_dataset(self):
        several = [
            f"others.{name}.predictions: one path for {len(self.datasets)} datasets; give each its own: "
            f"{{{self.datasets[0]}: {other.predictions}, ...}}"
            for name, other in self.others.items()
            if isinstance(other.predictions, str) and len(self.datasets) > 1
        ]
        if several:
            raise ValueError("\n".join(several))
        return self

    @model_validator(mode="after")
    def _further_datasets_are_further(self):
        wrong = [
            f"evaluate_on: {name} is trained on, since experiment.datasets lists it; its own splits are scored anyway"
            for name in self.evaluate_on
            if name in self.datasets
        ]
        wrong += [
            f"evaluate_on: {name} would be a split of this name, and {kind} is a split that datasets have: rename it"
            for name in self.evaluate_on
            for kind in [name.rpartition("_")[2]]
            if kind in SPLITS
        ]
        if "protocol" in self.evaluate_on:
            wrong.append(
                "evaluate_on: protocol would be a split of this name, and the files of metrics have the protocol "
                "there: rename it"
            )
        if self.evaluate_on and self.others:
            wrong.append(
                f"evaluate_on: {_listed(self.others)} (experiment.others) cannot be scored on {self.evaluate_on[0]}: "
                "leave one of the two keys empty, or compare in two experiments"
            )
        if wrong:
            raise ValueError("\n".join(wrong))
        return self

    @model_validator(mode="after")
    def _names_agree(self):
        for key in ("datasets", "evaluate_on", "variants", "seeds"):
            values = getattr(self, key)
            if len(set(values)) < len(values):
                raise ValueError(f"{key}: lists something twice: {_listed(values)}")
        chosen = {key: getattr(self, key) for key in ("reference", "highlight")}
        wrong = [
            f"{key}: unknown variant {name!r}; allowed: {_listed(self.variants)}"
            for key, name in chosen.items()
            if name not in self.variants
        ]
        if wrong:
            raise ValueError("\n".join(wrong))
        return self


class ImageCounts(Section):
    """How many images each split has."""

    train: Annotated[int, Field(gt=0)]
    val: Annotated[int, Field(gt=0)]
    testA: Annotated[int, Field(gt=0)]
    testB: Annotated[int, Field(gt=0)]


class ScenesSource(Section):
    """Rendered images of coloured shapes, written in the REFER layout."""

    kind: Literal["scenes"]
    seed: Annotated[int, Field(ge=0)]
    image_size: Annotated[int, Field(ge=32, le=1024, description="pixels")]
    image_counts: ImageCounts
    sentence: Literal["raw", "sent"]


class ReleaseSection(Section):
    """What the sets of one REFER release have in common."""

    root: str = Field(description="folder that holds refcoco/, refcoco+/, refcocog/ and the images")
    images: str | None = Field(default=None, description="folder of the images, if it is not below root")
    sentence: Literal["raw", "sent"] = Field(description="which text of an expression")
    check_images: bool | None = Field(
        default=None, description="check that images exist and have the stated size; not given: true"
    )
    allow_partial: bool | None = Field(
        default=None, description="only warn if counts differ from the published ones; not given: false"
    )


class ReferSource(ReleaseSection):
    """RefCOCO, RefCOCO+ or RefCOCOg, in the format that `kind` names: docs/refcoco.md."""

    kind: Format
    name: SetName
    split_by: Literal["unc", "umd", "google"]

    @model_validator(mode="after")
    def _split_and_text_exist(self):
        if self.split_by not in SPLIT_BY[self.name]:
            raise ValueError(f"split_by: {self.name} has no {self.split_by!r}; allowed: {_listed(SPLIT_BY[self.name])}")
        if self.sentence == "raw" and self.kind not in WITH_RAW:
            raise ValueError(f"sentence: files of kind {self.kind} have no 'raw'; allowed: sent")
        return self


class MixSource(ReleaseSection):
    """Several sets of one REFER release, trained on together, each with its first split in `SPLIT_BY`."""

    kind: Literal["mix"]
    mix: Annotated[list[SetName], Field(min_length=2)]

    @model_validator(mode="after")
    def _no_duplicates(self):
        if len(set(self.mix)) < len(self.mix):
            raise ValueError(f"mix: lists something twice: {_listed(self.mix)}")
        return self


class RefcocoMSource(ReleaseSection):
    """RefCOCO-M: a part of RefCOCO's val with masks drawn anew. Nothing can be trained on it: docs/refcoco.md."""

    kind: Literal["refcoco_m"]
    sentence: Literal["sent"]


class CocoSource(Section):
    """The user's own data: a COCO `instances.json` and a CSV file of expressions."""

    kind: Literal["coco"]
    instances: str = Field(description="COCO file with images, annotations and categories")
    expressions: str = Field(description="CSV file with the columns ann_id, expression and, optionally, split")
    images: str = Field(description="folder to which file_name in the COCO file is relative")
    seed: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="seed of the split, if the CSV file has none; not given: 0"
    )


Source = Annotated[ScenesSource | ReferSource | RefcocoMSource | MixSource | CocoSource, Field(discriminator="kind")]


class SwinVision(Section):
    """A Swin transformer, trained from scratch."""

    kind: Literal["swin"]
    patch_size: Annotated[int, Field(gt=0)]
    embed_dim: Annotated[int, Field(gt=0)]
    depths: Annotated[list[Annotated[int, Field(gt=0)]], Field(min_length=1)]
    num_heads: Annotated[list[Annotated[int, Field(gt=0)]], Field(min_length=1)]
    window_size: Annotated[int, Field(gt=0)]
    drop_path: Fraction
    absolute_positions: bool = Field(description="learn a position embedding for each patch")

    @property
    def levels(self) -> int:
        return len(self.depths)

    @model_validator(mode="after")
    def _heads_divide_widths(self):
        if len(self.num_heads) != len(self.depths):
            raise ValueError(f"num_heads: {len(self.num_heads)} levels, but depths has {len(self.depths)}")
        for level, heads in enumerate(self.num_heads):
            width = self.embed_dim * 2**level
            if width % heads:
                raise ValueError(f"num_heads: {heads} heads do not divide the width {width} of level {level}")
        return self


class ResNetVision(Section):
    """A ResNet of basic blocks, trained from scratch; its first level has stride 4, each later one halves the grid."""

    kind: Literal["resnet"]
    stem: Annotated[int, Field(gt=0, description="channels of the stem")]
    channels: Annotated[list[Annotated[int, Field(gt=0)]], Field(min_length=1, description="of each level")]
    depths: Annotated[list[Annotated[int, Field(gt=0)]], Field(min_length=1, description="blocks of each level")]
    absolute_positions: bool = Field(description="learn a position embedding for each pixel of the stem's grid")

    @property
    def levels(self) -> int:
        return len(self.depths)

    @model_validator(mode="after")
    def _levels_agree(self):
        if len(self.channels) != len(self.depths):
            raise ValueError(f"channels: {len(self.channels)} levels, but depths has {len(self.depths)}")
        return self


class PretrainedVision(Section):
    """A pretrained vision encoder: a Swin, or a DINOv2 whose levels are four groups of blocks."""

    kind: Literal["pretrained"]
    weights: str = Field(description="a folder in transformers' format, or the name of a model on its hub")
    drop_path: Fraction
    frozen: Annotated[
        int,
        Field(ge=0, description="how many of the first levels keep their weights; words change nothing that they read"),
    ]
    upsampling: list[Annotated[int, Field(gt=0)]] | None = Field(
        default=None,
        description="of a DINOv2: how many times finer than its grid each level enters the pixel decoder, the first at "
        "least as fine as the next; not given: 4, 2, 1, 1",
    )


class BertText(Section):
    """A BERT encoder with a word-level vocabulary of the training expressions, trained from scratch."""

    kind: Literal["bert"]
    hidden_size: Annotated[int, Field(gt=0)]
    num_layers: Annotated[int, Field(gt=0)]
    num_heads: Annotated[int, Field(gt=0)]
    dropout: Fraction

    @model_validator(mode="after")
    def _heads_divide_width(self):
        if self.hidden_size % self.num_heads:
            raise ValueError(f"num_heads: {self.num_heads} heads do not divide hidden_size {self.hidden_size}")
        return self


class PretrainedText(Section):
    """A pretrained BERT-like text encoder with its own tokenizer."""

    kind: Literal["pretrained"]
    weights: str = Field(description="a folder in transformers' format, or the name of a model on its hub")
    frozen: bool = Field(description="keep its weights")


class Model(Section):
    image_size: Annotated[int, Field(gt=0, description="pixels, height = width; images are stretched")]
    max_words: Annotated[int, Field(gt=2, description="tokens, the two special ones included")]
    vision: Annotated[SwinVision | ResNetVision | PretrainedVision, Field(discriminator="kind")]
    text: Annotated[BertText | PretrainedText, Field(discriminator="kind")]
    pixel_dim: Annotated[int, Field(gt=0, description="width of pixel decoder, pixel embeddings and center")]


class Training(Section):
    epochs: Annotated[int, Field(gt=0)]
    batch_size: Annotated[int, Field(gt=0)]
    by_image: bool = Field(
        default=False, description="all refs of an image follow each other, so a batch has few images"
    )
    mirror: bool = Field(
        default=False,
        description="half of the images are mirrored, with left and right exchanged in their expressions",
    )
    encode_once: bool = Field(
        default=False,
        description="frozen vision levels run once for all trainings, which read their output in half precision from "
        "the disk",
    )
    averaging: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0,
        description="decay per step of the moving average of weights that is validated and kept; 0: the weights",
    )
    optimizer: Literal["adamw", "muon"] = Field(
        default="adamw", description="muon: the weights of linear layers take Muon's steps, the rest AdamW's"
    )
    learning_rate: Annotated[float, Field(gt=0)]
    encoder_learning_rate: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="learning rate of the two encoders, if it differs"
    )
    weight_decay: Annotated[float, Field(ge=0)]
    warmup: Fraction = Field(description="share of all steps during which the learning rate rises linearly")
    power: Annotated[float, Field(ge=0, description="exponent of the polynomial decay")]
    clip_norm: Annotated[float, Field(gt=0, description="largest allowed norm of the gradient")]
    bce_weight: Annotated[float, Field(ge=0)]
    dice_weight: Annotated[float, Field(ge=0)]
    positive_weight: Annotated[float, Field(gt=0, description="weight of mask pixels in the cross-entropy")]
    precision: Literal["no", "bf16", "fp16"] = Field(description="of matrix products in training; weights stay float32")
    channels_last: bool = Field(description="layout of images and convolutions in memory; changes rounding only")
    compile: bool = Field(description="torch.compile: minutes to start, then faster steps; changes rounding only")
    threads: Annotated[int, Field(gt=0, description="CPU threads of one training; rounding depends on them")]
    select_by: Literal["oIoU", "mIoU"]

    @model_validator(mode="after")
    def _muon_has_no_scaled_gradients(self):
        if self.optimizer == "muon" and self.precision == "fp16":
            raise ValueError("precision: fp16 scales gradients, which optimizer muon cannot take; take bf16 or no")
        return self


class Recipe(Section):
    model: Model
    training: Training


class VariantSection(Section):
    """What a variant has besides the fields of `VariantFields`."""

    @property
    def further(self) -> dict[str, Any]:
        """The fields that differ from their defaults, but for `ALWAYS_SHOWN`."""
        declared = type(self).model_fields
        return {key: value for key, value in self if key not in ALWAYS_SHOWN and value != declared[key].default}

    @model_validator(mode="after")
    def _contrast_has_what_is_set(self):
        kind = getattr(self, "contrastive")  # noqa: B009  # a field of the class created below
        needed = {"contrastive_border": ("pixel", "instance")}
        needed |= dict.fromkeys(("contrastive_same_words", "contrastive_memory"), ("instance",))
        wrong = [
            f"{key}: {self.further[key]} changes nothing, since contrastive is {kind!r}: leave it out, or set "
            f"contrastive to {' or '.join(kinds)}"
            for key, kinds in needed.items()
            if key in self.further and kind not in kinds
        ]
        if wrong:
            raise ValueError("\n".join(wrong))
        return self


def _section_of(fields_of: type, description: str) -> type[VariantSection]:
    """A section with the fields of a dataclass, their defaults, and the bounds in their metadata."""
    declared: dict[str, Any] = {
        each.name: (each.type, Field(each.default, **each.metadata)) for each in fields(fields_of)
    }
    return create_model("Variant", __base__=VariantSection, __doc__=description, **declared)


Variant = _section_of(
    VariantFields, "What is compared: the attention between words and pixels, and the contrastive loss."
)


ProtocolName = Literal["original", "lavt", "caris", "cris", "cgformer", "rela"]


class Evaluation(Section):
    protocol: ProtocolName = Field(description="which every result is of; the best epoch is chosen under it")
    also: list[ProtocolName] = Field(
        default=[], description="other protocols that finished models are scored under, without training again"
    )
    batch_size: Annotated[int, Field(gt=0)]
    threads: Annotated[int, Field(gt=0, description="CPU threads of one evaluation")]

    @property
    def protocols(self) -> list[ProtocolName]:
        """All that finished models are scored under, the one of every result first."""
        return [self.protocol, *self.also]

    @model_validator(mode="after")
    def _protocols_differ(self):
        if twice := sorted({name for name in self.protocols if self.protocols.count(name) > 1}):
            raise ValueError(f"also: names {_listed(twice)} again: leave it out; evaluation.protocol is scored anyway")
        return self


class Machine(Section):
    """Settings for the machine. They change no result, so no stage runs again when they change."""

    workers: Annotated[int, Field(ge=0, description="processes that load images; 0: the stage's own process")]
    encoded_gigabytes: Annotated[float, Field(gt=0)] = Field(
        default=20, description="room on the disk for the images of recipes with encode_once"
    )


class TableStyle(Section):
    """How tables that compare variants side by side give their numbers."""

    values: Literal["interval", "std"] = Field(
        default="interval", description="interval: mean [low, high]; std: mean ± standard deviation (number of seeds)"
    )
    marks: Literal["supported", "best"] = Field(
        default="supported",
        description="supported: bold where a variant is better than the reference and that is supported; best: the "
        "highest number of a column bold, the second underlined",
    )


class Report(Section):
    """How the report is written. No number depends on it."""

    labels: dict[Name, Label] = Field(default={}, description="variant -> its name in tables; not given: its own")
    latex_labels: dict[Name, Label] = Field(
        default={}, description="variant -> its name in LaTeX tables, as LaTeX; not given: its label"
    )
    tables: TableStyle = TableStyle()
    images: bool = Field(
        default=True,
        description="show images of the datasets; false where their licence does not allow you to pass them on",
    )


class Params(Section):
    experiment: Experiment
    datasets: dict[Name, Source]
    recipes: dict[Name, Recipe]
    variants: dict[Name, Variant]  # pyright: ignore[reportInvalidTypeForm]  # a class created above
    evaluation: Evaluation
    report: Report
    machine: Machine

    def with_recipe(self, recipe: str) -> Self:
        """The same parameters with another recipe as `experiment.recipe`."""
        return self.model_copy(update={"experiment": self.experiment.model_copy(update={"recipe": recipe})})

    @model_validator(mode="after")
    def _references_exist(self):
        wanted = {
            "datasets": (self.experiment.datasets, self.datasets),
            "evaluate_on": (self.experiment.evaluate_on, self.datasets),
            "variants": (self.experiment.variants, self.variants),
            "recipe": ([self.experiment.recipe], self.recipes),
        }
        wrong = [
            f"experiment.{key}: unknown name {name!r}; {_allowed(name, defined)}"
            for key, (names, defined) in wanted.items()
            for name in names
            if name not in defined
        ]
        wrong += [
            f"experiment.others.{name}.predictions: unknown dataset {dataset!r}; {_allowed(dataset, self.datasets)}"
            for name, other in self.experiment.others.items()
            if isinstance(other.predictions, dict)
            for dataset in other.predictions
            if dataset not in self.datasets
        ]
        if wrong:
            raise ValueError("\n".join(wrong))
        return self

    @model_validator(mode="after")
    def _others_have_names_of_their_own(self):
        """They stand beside variants in tables and files, so names that differ in case, - and _ alone are alike too."""
        taken = {_folded(name): f"variant {name}" for name in self.variants}
        wrong = []
        for name in self.experiment.others:
            if known := taken.get(_folded(name)):
                wrong.append(f"experiment.others.{name}: {known} has this name, but for case, - and _; choose another")
            taken.setdefault(_folded(name), name)
        if wrong:
            raise ValueError("\n".join(wrong))
        return self

    @model_validator(mode="after")
    def _datasets_can_be_trained_on(self):
        wrong = [
            f"experiment.datasets: {name} is RefCOCO-M, which has no train split. List the dataset that its images are "
            f"from, and compare with: python -m stages.second_truth --dataset DATASET --truth {name}"
            for name in self.experiment.datasets
            if self.datasets[name].kind == "refcoco_m"
        ]
        if wrong:
            raise ValueError("\n".join(wrong))
        return self

    @model_validator(mode="after")
    def _labels_name_variants(self):
        """Each label is of a variant that exists, and no two listed variants look alike in a table."""
        wrong = [
            f"report.{key}.{name}: unknown variant; {_allowed(name, self.variants)}"
            for key in ("labels", "latex_labels")
            for name in getattr(self.report, key)
            if name not in self.variants
        ]
        shown: dict[str, list[str]] = {}
        for name in self.experiment.variants:
            shown.setdefault(self.report.labels.get(name, name), []).append(name)
        for name, other in self.experiment.others.items():
            shown.setdefault(other.label or name, []).append(name)
        wrong += [
            f"report.labels: {_listed(names)}: all are called {label!r}: give each its own label"
            for label, names in shown.items()
            if len(names) > 1
        ]
        if wrong:
            raise ValueError("\n".join(wrong))
        return self

    @model_validator(mode="after")
    def _names_stay_apart(self):
        """No two runs, files or registered models get one name.

        A dash joins a dataset's name with what follows: `D-V-S` are stages, checkpoints and runs, `D-...` the files of
        a report and registered models. So no dataset's name may go on from another's by a dash. Some file systems take
        upper and lower case for the same, and Prefect takes `-` and `_` for the same.
        """
        wrong = []
        for section in ("datasets", "recipes", "variants"):
            alike = {}
            for name in getattr(self, section):
                alike.setdefault(_folded(name), []).append(name)
            wrong += [
                f"{section}: {_listed(names)}: alike but for case, - and _, so that files of one may replace those of "
                "another: rename all but one"
                for names in alike.values()
                if len(names) > 1
            ]
        wrong += [
            f"datasets: {longer} goes on from {name} by a dash, which joins names in stages and files, so those of one "
            f"may be taken for the other's: rename one, to {longer.replace('-', '_')} for example"
            for name in self.datasets
            for longer in self.datasets
            if longer.lower().startswith(f"{name.lower()}-")
        ]
        if wrong:
            raise ValueError("\n".join(wrong))
        return self

    @model_validator(mode="after")
    def _levels_exist(self):
        """The levels of a pretrained encoder are known once its files are read, when a training starts."""
        recipe = self.experiment.recipe
        vision = self.recipes[recipe].model.vision
        what = f"but the vision encoder of recipe {recipe!r} has"
        wrong = [
            f"variants.{name}.vlba_levels: {count}, {what} {vision.levels} levels"
            for name in self.experiment.variants
            if vision.kind != "pretrained" and (count := self.variants[name].vlba_levels or 0) > vision.levels
        ]
        if wrong:
            raise ValueError("\n".join(wrong))
        return self

    @model_validator(mode="after")
    def _frozen_encoders_know_something(self):
        recipe = self.experiment.recipe
        model = self.recipes[recipe].model
        scratch = [name for name in ("vision", "text") if getattr(model, name).kind != "pretrained"]
        wrong = [
            f"variants.{name}.frozen_encoders: recipe {recipe!r} trains encoders from scratch ({_listed(scratch)}); "
            "take a recipe with two pretrained ones, or leave the variant out of experiment.variants"
            for name in self.experiment.variants
            if scratch and self.variants[name].frozen_encoders
        ]
        if wrong:
            raise ValueError("\n".join(wrong))
        return self

    @model_validator(mode="after")
    def _sources_lie_outside_outputs(self):
        """Writing a prepared dataset replaces its whole folder, so no source may lie in it.

        Nor do files of predictions lie in what stages write.
        """
        prepared = [layout.prepared(name) for name in self.datasets]
        inputs = [
            (f"datasets.{name}.{key}", path, prepared)
            for name, source in self.datasets.items()
            for key, path in _inputs(source)
        ] + [
            (f"experiment.others.{name}.predictions", Path(path), [*prepared, layout.RESULTS, layout.REPORTS])
            for dataset in self.experiment.datasets
            for name, path in self.experiment.predictions(dataset).items()
        ]
        for key, path, outputs in inputs:
            for output in outputs:
                if Path(os.path.abspath(path)).is_relative_to(output.absolute()):
                    raise ValueError(f"{key}: {path} lies in {output}, which is an output")
        return self


def _folded(name: str) -> str:
    """The same for names that differ in case, - and _ alone."""
    return name.lower().replace("_", "-")


def _inputs(source: Source) -> list[tuple[str, Path]]:
    """Key and path of everything a source reads."""
    if source.kind == "scenes":
        return []
    if source.kind == "coco":
        return [(key, Path(getattr(source, key))) for key in ("instances", "expressions", "images")]
    images = [("images", Path(source.images))] if source.images else []
    if source.kind == "refcoco_m":
        return [("root", Path(source.root)), *images]
    sets = source.mix if source.kind == "mix" else [source.name]
    return [("root", Path(source.root, part)) for part in (*sets, "images")] + images


def read(path: Path | None = None) -> Params:
    """Read and check the whole file, in the folder of another experiment over the project's.

    Args:
        path: `params.yaml` of an experiment. By default that in the current folder; for a stage that DVC runs, what the
            stage `params` has made of it, so that an edit does not reach half of a run.

    Raises:
        ParamsError: the file is missing, is not YAML, or a key, a type or a reference in it is wrong.
    """
    if path is None:
        path = layout.ALL_PARAMS if "DVC_STAGE" in os.environ and layout.ALL_PARAMS.exists() else layout.PARAMS
    return check(content(path), path)


def content(path: Path = layout.PARAMS) -> Any:
    """The unchecked content of the file alone. As in DVC, YAML is version 1.2: `1e-3` is a number, `no` a string.

    Raises:
        ParamsError: the file is missing, or is not YAML.
    """
    try:
        return YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(f"{_named(path)} does not exist: run from the project's root") from None
    except DuplicateKeyError as error:
        problem = error.problem.split(" with value")[0]
        raise ParamsError(f"{_named(path)}: line {error.problem_mark.line + 1}: {problem}") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(merge_conflicts.named(path) or f"{_named(path)} is not YAML: {error}") from None


def check(own: Any, path: Path = layout.PARAMS) -> Params:
    """Check the content of a file, with what it leaves to the project's, and return it as parameters.

    Raises:
        ParamsError: a key, a type or a reference in it is wrong; the message names the path and every wrong key.
    """
    project = _project_of(path)
    joined = whole(own, path)
    wrong: dict[Path, list[str]] = {path: _missing(own, joined) if project else []}
    found: Any = None
    try:
        found = Params.model_validate(joined)
    except ValidationError as error:
        for item in map(dict, error.errors()):
            file = path if project is None or _is_in(own, item) else project
            wrong.setdefault(file, []).append(_describe(item))
    if lines := [line for file, each in wrong.items() if each for line in (f"{_named(file)} is wrong:", *each)]:
        raise ParamsError("\n".join(lines))
    return found


def whole(own: Any, path: Path = layout.PARAMS) -> Any:
    """The content of a file over the project's, to which it leaves what is the same. Nothing is checked.

    Raises:
        ParamsError: the project's file is missing, or is not YAML.
    """
    return own if (project := _project_of(path)) is None else _over(content(project), own)


def _named(path: Path) -> Path:
    """In messages: from the project's folder, where commands are given."""
    return path if path.is_absolute() else layout.from_root(path)


def _project_of(path: Path) -> Path | None:
    """The project's file, to which one of another experiment leaves what is the same."""
    folder = Path(os.path.abspath(path)).parent
    project = folder.parent.parent
    is_other = folder.parent.name == layout.EXPERIMENTS.name and (project / ".dvc").is_dir()
    return Path(os.path.relpath(project / layout.PARAMS)) if is_other else None


def _over(below: Any, above: Any) -> Any:
    """Sections are joined key by key, but where `kind` differs; all else is replaced."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    if "kind" in above and above["kind"] != below.get("kind"):
        return above
    return {**below, **{key: _over(below.get(key), value) for key, value in above.items()}}


def _missing(own: Any, joined: Any) -> list[str]:
    """What DVC reads in a file itself, when it expands `dvc.yaml`, with the project's value as the way out.

    Args:
        joined: the content over the project's.
    """
    section, known = (each.get("experiment", {}) if isinstance(each, dict) else None for each in (own, joined))
    if not isinstance(section, dict):
        return []
    given = known if isinstance(known, dict) else {}
    return [
        f"experiment.{key}: missing; DVC looks for it in this file"
        + (f": add `{key}: {json.dumps(given[key])}`, which is the project's, or your own" if key in given else "")
        for key in READ_BY_DVC
        if key not in section
    ]


def _is_in(content: Any, item: dict) -> bool:
    """Whether the key of a pydantic error stands in the content, rather than in what that leaves to the project's."""
    keys, _ = _locate(item["loc"])
    for key in keys[:-1] if item["type"] == "missing" else keys:
        if not isinstance(content, dict) or key not in content:
            return False
        content = content[key]
    return True


def read_or_exit(path: Path | None = None) -> Params:
    """`read` for a command line: a wrong file prints its message and exits with status 2."""
    try:
        return read(path)
    except ParamsError as error:
        exit_with(error)


def require_schema() -> None:
    """Raises ParamsError where the project's schema is not that of this code."""
    if not has_schema():
        raise ParamsError(f"{SCHEMA} is stale: run python -m stages.params")


def has_schema() -> bool:
    """Whether the schema beside the file is that of this code."""
    return SCHEMA.exists() and SCHEMA.read_text(encoding="utf-8") == schema()


def schema() -> str:
    """The JSON schema of `params.yaml`; its text depends on the code only."""
    content = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Params.model_json_schema()}
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _describe(item: dict) -> str:
    """One pydantic error -> `dotted.key: what is wrong; what is allowed`."""
    keys, section = _locate(item["loc"])
    key = ".".join(map(str, keys)) or "the file"
    found = f"found {item['input']!r} ({_type_name(item['input'])})"
    context = item.get("ctx", {})
    match item["type"]:
        case "extra_forbidden":
            return f"{key}: unknown key; {_allowed(keys[-1], section.model_fields)}"
        case "missing":
            return f"{key}: missing"
        case "literal_error":
            return f"{key}: expected one of {context['expected']}, {found}"
        case "union_tag_invalid":
            return f"{key}.kind: expected one of {context['expected_tags']}, found {context['tag']!r}"
        case "union_tag_not_found":
            return f"{key}.kind: missing"
        case "model_type" | "dict_type" | "model_attributes_type":
            return f"{key}: expected a section with keys, {found}"
        case "string_pattern_mismatch" if context["pattern"] == LABEL:
            return f"{key}: expected text that neither begins nor ends with a space, {found}"
        case "string_pattern_mismatch":
            return f"{key}: expected a name of letters, digits, _, + and -, {found}"
        case "value_error":
            prefix = "".join(f"{part}." for part in keys)
            return "\n".join(prefix + line for line in str(context["error"]).splitlines())
        case _:
            expected = item["msg"].removeprefix("Input should be ").removeprefix("a valid ")
            return f"{key}: expected {expected}, {found}"


def _locate(loc: tuple) -> tuple[list, Any]:
    """Location of a pydantic error -> the keys as written in the file, and the section that holds the last key."""
    keys, section, here = [], None, Params
    for part in loc:
        if part == "[key]":
            continue
        while get_origin(here) is Annotated:
            here = get_args(here)[0]
        members = [member for member in get_args(here) if isinstance(member, type) and issubclass(member, Section)]
        if len(members) > 1:
            here = next(member for member in members if part in get_args(member.model_fields["kind"].annotation))
            continue
        keys.append(part)
        section = here
        if isinstance(here, type) and issubclass(here, Section):
            here = here.model_fields[part].annotation if part in here.model_fields else None
        else:
            here = (get_args(here) or [None])[-1]
    return keys, section


def _allowed(wrong: str, names) -> str:
    """The names that exist, and the one that was probably meant."""
    close = difflib.get_close_matches(str(wrong), names, n=1)
    return (f"did you mean {close[0]}? " if close else "") + f"allowed: {_listed(names)}"


def _listed(values) -> str:
    return ", ".join(map(str, values))


def _type_name(value: object) -> str:
    names = {dict: "a section", list: "a list", str: "a string", bool: "a truth value", type(None): "nothing"}
    return names.get(type(value), type(value).__name__)


def exit_with(error: ParamsError) -> NoReturn:
    print(error, file=sys.stderr)
    raise SystemExit(2)
