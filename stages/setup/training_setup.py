"""What a training starts from: the model, its processor, and the expressions of train and val."""

from typing import NamedTuple

import torch
from accelerate.utils import set_seed

from models.alignformer import AlignFormer
from models.encoders import LevelsError
from models.processing import AlignFormerProcessor
from stages.data import prepared
from stages.data.prepared import PreparedDataset
from stages.data.samples import Expressions
from stages.runtime import layout
from stages.runtime.errors import UserError
from stages.runtime.params import Params, Recipe, Variant
from stages.runtime.processes import here
from stages.runtime.run import Run
from stages.scoring.protocols import PROTOCOLS, Protocol
from stages.scoring.score import frame
from stages.setup import build


class OtherEncoderError(UserError):
    """A setting does not fit the levels of the vision encoder; the message names variant, recipe and setting."""


class TrainingSetup(NamedTuple):
    """What a training starts from. `train` and `val` are expressions of `dataset`."""

    recipe: Recipe
    variant: Variant
    protocol: Protocol
    dataset: PreparedDataset
    processor: AlignFormerProcessor
    model: AlignFormer
    train: Expressions
    val: Expressions


def assemble(run: Run, settings: Params) -> TrainingSetup:
    """Build everything that a training needs before its first step. Sets torch's threads and random state.

    Raises:
        FileNotFoundError, MissingSplitError: the dataset is not prepared, or lacks train or val.
        WeightsError: pretrained weights are missing.
        OtherEncoderError: a setting of the variant or the recipe does not fit the levels of the vision encoder.
    """
    recipe, variant = settings.recipes[settings.experiment.recipe], settings.variants[run.variant]
    dataset = prepared.read(layout.prepared(run.dataset))
    train_rows, val_rows = dataset.split("train"), dataset.validation
    protocol = PROTOCOLS[settings.evaluation.protocol]

    torch.set_num_threads(recipe.training.threads)
    set_seed(run.seed, deterministic=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # takes 2.5 % of a step
    processor = build.processor(recipe.model, train_rows["text"].tolist())
    try:
        model = build.model(recipe, variant, processor.tokenizer)
    except LevelsError as error:
        where = f"variant {run.variant!r} with recipe {settings.experiment.recipe!r}"
        raise OtherEncoderError(f"params.yaml, {where}: {error}") from error
    train = Expressions(dataset, train_rows, processor, mirror=recipe.training.mirror)
    val = Expressions(dataset, val_rows, processor, frame(protocol))
    set_seed(run.seed + here().process_index, deterministic=True)  # each process draws other dropout
    return TrainingSetup(recipe, variant, protocol, dataset, processor, model, train, val)
