"""The model card: what a model is, what it was trained on, how good it is, and what it cannot do."""

from pathlib import Path

import pandas as pd
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from pydantic import BaseModel

from stages.card import model_facts
from stages.card.model_facts import ModelFacts
from stages.data import prepared
from stages.data.lost import sentences
from stages.data.prepared import PreparedDataset
from stages.runtime import experiments, layout
from stages.runtime.atomic_write import atomic_write
from stages.runtime.params import CocoSource, MixSource, Model, Params, ReferSource, ScenesSource, Source
from stages.runtime.run import Run
from stages.scoring.protocols import PROTOCOLS, Protocol
from stages.statistics import comparison, evidence, scored
from stages.statistics.bootstrap import Interval, VariantSeed
from stages.statistics.scored import Scored
from stages.tracking import live

METRICS = ("mIoU", "oIoU", "Pr@0.5", "Pr@0.7", "Pr@0.9")


def write(run: Run, settings: Params) -> None:
    """Write the card of a run into its model folder, and log it to MLflow.

    Raises:
        FileNotFoundError: dataset, model, scores or diagnosis is missing; the message has the command that makes it.
        ComparisonError: the scores are none, or of another protocol.
    """
    further, protocol = settings.experiment.evaluate_on, PROTOCOLS[settings.evaluation.protocol]
    for on in (None, *further):
        if not (scores := layout.scores(*run, on)).exists():
            again = experiments.dvc("repro", run.evaluation(on))
            raise FileNotFoundError(f"{scores} is missing: make it with: {again}")
    text = card(
        run,
        settings,
        prepared.read(layout.prepared(run.dataset)),
        model_facts.read(run),
        scored.read_run(run.dataset, VariantSeed(run.variant, run.seed), protocol, further),
        protocol,
    )
    with atomic_write(layout.card(*run)) as path:
        path.write_text(text, encoding="utf-8")
    live.log_card(*run, card=layout.card(*run))


def card(
    run: Run,
    settings: Params,
    dataset: PreparedDataset,
    model: ModelFacts,
    scores: pd.DataFrame,
    protocol: Protocol,
) -> str:
    """The card as Markdown, with the metadata that model hubs read.

    Args:
        scores: of all splits, as `scored.read_run` returns them.
    """
    recipe, source = settings.recipes[settings.experiment.recipe], settings.datasets[run.dataset]
    found, further = _intervals(run, scores, protocol), settings.experiment.evaluate_on
    results = [
        EvalResult(
            task_type="image-segmentation",
            dataset_type=split if split in further else run.dataset,
            dataset_name=split if split in further else run.dataset,
            dataset_split="all" if split in further else split,
            metric_type=metric,
            metric_value=found[split][metric].value,
            metric_name=f"{metric}, protocol {protocol.name}",
        )
        for split in evidence.unseen(list(found))
        for metric in protocol.headline
    ]
    name = f"alignformer-{run.dataset}-{run.variant}-{run.seed}"
    data = ModelCardData(
        model_name=name,
        tags=["alignformer", "referring-image-segmentation"],
        datasets=[run.dataset],
        eval_results=results,
    )
    content = ModelCard.from_template(
        data,
        template_path=Path(__file__).with_suffix(".md.j2"),
        run=run,
        example=dataset.validation["text"].iloc[0],
        variant=settings.variants[run.variant],
        vision=_encoder(recipe.model.vision, model.vision),
        text=_encoder(recipe.model.text, model.text),
        parameters=model.parameters,
        image_size=model.image_size,
        max_words=model.max_tokens,
        recipe=settings.experiment.recipe,
        training=recipe.training,
        source=_described(source),
        data=dataset.summary,
        lost=sentences(model.lost, model.max_tokens, model.image_size),
        trained_with=model.trained_with,
        protocol=protocol.name,
        metrics=METRICS,
        found=found,
        further=further,
        fewest_images=evidence.FEWEST_IMAGES,
        limits=_limits(source, recipe.model, model),
        licences=_licences(source, recipe.model),
    )
    return str(content)


def _intervals(run: Run, scores: pd.DataFrame, protocol: Protocol) -> dict[str, dict[str, Interval]]:
    """Split -> metric -> value of this run with its interval over images; see `stages.statistics.bootstrap`."""
    alone = Scored(
        dataset=run.dataset,
        protocol=protocol,
        variants=[run.variant],
        seeds=[run.seed],
        runs=[VariantSeed(run.variant, run.seed)],
        expressions=scores[["sent_id", "image_id", "split"]],
        intersection=scores["intersection"].to_numpy()[None],
        union=scores["union"].to_numpy()[None],
    )
    return {
        split: {metric: found[metric].mean(run.variant) for metric in METRICS}
        for split, found in comparison.estimates(alone).items()
    }


def _encoder(section: BaseModel, kind: str) -> str:
    if section.kind == "pretrained":
        return f"{kind}, pretrained: {Path(section.weights).name}"
    return f"{kind}, trained from scratch"


def _described(source: Source) -> str:
    match source:
        case ScenesSource():
            side = source.image_size
            return (
                f"rendered by the project, {side} x {side} pixels, seed {source.seed}: coloured shapes, not photographs"
            )
        case ReferSource():
            return f"{source.name}, split by {source.split_by}, expressions as {source.sentence}"
        case MixSource():
            return f"{', '.join(source.mix)} together, no image in two splits, expressions as {source.sentence}"
        case CocoSource():
            return f"the user's own, {Path(source.instances).name} with {Path(source.expressions).name}"


def _limits(source: Source, recipe: Model, model: ModelFacts) -> list[str]:
    sentences = [
        "It predicts one mask for every expression. It was not trained on expressions that refer to nothing: each "
        "training expression refers to exactly one object.",
        f"Images are stretched to {model.image_size} x {model.image_size} pixels; objects of a few pixels are lost.",
    ]
    if recipe.text.kind == "bert":
        sentences.append(
            f"Its vocabulary is the {model.vocabulary} tokens of the training expressions; every other word becomes "
            "the same unknown token."
        )
    if source.kind == "scenes":
        sentences.append("It was trained on rendered shapes only. Its masks on photographs mean nothing.")
    else:
        sentences.append("It inherits the gaps and biases of its training images and of the people who described them.")
    return sentences


def _licences(source: Source, recipe: Model) -> list[str]:
    sentences = [
        f"The {part} encoder started from `{Path(section.weights).name}`: the licence of those weights applies."
        for part, section in (("vision", recipe.vision), ("text", recipe.text))
        if section.kind == "pretrained"
    ]
    match source:
        case ScenesSource():
            sentences.append("The project made the training images and expressions; nobody else has rights in them.")
        case CocoSource():
            sentences.append("The training data are the user's own: check their licence before you share the model.")
        case _:
            sentences.append(
                "Images are from COCO, under the Flickr licences that their owners chose; some forbid commercial use. "
                "COCO's annotations are CC BY 4.0. Check both, and the terms of the REFER release, before you share "
                "the model."
            )
    return sentences
