"""The model card: what a model is, what it was trained on, how well it does, and what it is not for."""

from pathlib import Path

import pandas as pd
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from pydantic import BaseModel

from stages.card import model_facts
from stages.card.model_facts import ModelFacts
from stages.data import prepared
from stages.data.prepared import PreparedDataset
from stages.runtime import layout
from stages.runtime.atomic_write import atomic_write
from stages.runtime.params import CocoSource, MixSource, Model, Params, ReferSource, ScenesSource, Source
from stages.runtime.run import Run
from stages.scoring.protocols import PROTOCOLS, Protocol
from stages.statistics import comparison
from stages.statistics.bootstrap import Interval
from stages.statistics.scored import Scored
from stages.tracking import live

METRICS = ("mIoU", "oIoU", "Pr@0.5", "Pr@0.7", "Pr@0.9")


def write(run: Run, settings: Params) -> None:
    """Write the card of a run's model beside the model, and tell MLflow.

    Raises:
        FileNotFoundError: what the card is made of is missing; the message has the command that makes it.
    """
    scores = layout.scores(*run)
    if not scores.exists():
        raise FileNotFoundError(f"{scores} is missing: make it with: dvc repro {run.stage('evaluate')}")
    text = card(
        run,
        settings,
        prepared.read(layout.prepared(run.dataset)),
        model_facts.read(run),
        pd.read_parquet(scores),
        PROTOCOLS[settings.evaluation.protocol],
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
    """The card as Markdown, with metadata that model hubs read. Scores: of `stages.evaluate`, every split."""
    recipe, source = settings.recipes[settings.experiment.recipe], settings.datasets[run.dataset]
    found = _intervals(run, scores, protocol)
    results = [
        EvalResult(
            task_type="image-segmentation",
            dataset_type=run.dataset,
            dataset_name=run.dataset,
            dataset_split=split,
            metric_type=metric,
            metric_value=values[metric].value,
            metric_name=f"{metric}, protocol {protocol.name}",
        )
        for split, values in found.items()
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
        protocol=protocol.name,
        metrics=METRICS,
        found=found,
        limits=_limits(source, recipe.model, model),
        licences=_licences(source, recipe.model),
    )
    return str(content)


def _intervals(run: Run, scores: pd.DataFrame, protocol: Protocol) -> dict[str, dict[str, Interval]]:
    """Split -> metric -> value of this one model with its interval over images; see `stages.statistics.bootstrap`."""
    alone = Scored(
        dataset=run.dataset,
        protocol=protocol,
        variants=[run.variant],
        seeds=[run.seed],
        runs=[(run.variant, run.seed)],
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
    said = [
        "It answers with one mask for every expression. That nothing is meant it can only say by an empty mask, which "
        "it was not trained for: every training expression is true of one thing.",
        f"Images are stretched to {model.image_size} x {model.image_size} pixels; what is smaller than a few "
        "of them is lost.",
    ]
    if recipe.text.kind == "bert":
        said.append(
            f"Its vocabulary is the {model.vocabulary} tokens of the training expressions; every other word is "
            "read as the same unknown one."
        )
    if source.kind == "scenes":
        said.append("It has seen rendered shapes only. What it says of photographs means nothing.")
    else:
        said.append("It shares the gaps and the biases of its training images and of the people who described them.")
    return said


def _licences(source: Source, recipe: Model) -> list[str]:
    said = [
        f"The {part} encoder started from `{Path(section.weights).name}`: the licence of those weights holds on here."
        for part, section in (("vision", recipe.vision), ("text", recipe.text))
        if section.kind == "pretrained"
    ]
    match source:
        case ScenesSource():
            said.append("The training images and expressions are made by the project; no right of others is in them.")
        case CocoSource():
            said.append("The training data are the user's own: see to their licence before giving the model away.")
        case _:
            said.append(
                "Images are those of COCO, under the Flickr licences that their owners chose, some of which forbid "
                "commercial use; COCO's annotations are CC BY 4.0. See to both, and to the terms of the REFER release, "
                "before giving the model away."
            )
    return said
