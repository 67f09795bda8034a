"""A recipe, a variant and a training split -> a model and its processor."""

import math

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import WordLevelTrainer
from transformers import (
    BertConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    ResNetConfig,
    SwinConfig,
)
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from models.alignformer import AlignFormer
from models.configuration import AlignFormerConfig
from models.encoders import LevelsError
from models.processing import AlignFormerProcessor
from stages.runtime.params import Model, Recipe, ResNetVision, SwinVision, Variant
from stages.setup import pretrained

VOCABULARY = 10_000
SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def processor(recipe: Model, expressions: list[str]) -> AlignFormerProcessor:
    """A processor with the tokenizer of the recipe's pretrained text encoder.

    If the text encoder is trained from scratch, the tokenizer knows the `VOCABULARY` most frequent words of the
    training expressions. Raises WeightsError if the files of a pretrained tokenizer are missing.
    """
    if recipe.text.kind == "pretrained":
        tokenizer = pretrained.tokenizer(recipe.text.weights, recipe.max_words)
    else:
        tokenizer = word_tokenizer(expressions, recipe.max_words)
    return AlignFormerProcessor(
        image_processor=ViTImageProcessorPil(
            size={"height": recipe.image_size, "width": recipe.image_size},
            image_mean=[0.485, 0.456, 0.406],
            image_std=[0.229, 0.224, 0.225],
        ),
        tokenizer=tokenizer,
    )


def word_tokenizer(expressions: list[str], max_words: int) -> PreTrainedTokenizerFast:
    """A lower-case word-level tokenizer; an unknown word becomes [UNK]."""
    tokenizer = Tokenizer(WordLevel(unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    trainer = WordLevelTrainer(vocab_size=VOCABULARY, special_tokens=SPECIAL_TOKENS, show_progress=False)
    tokenizer.train_from_iterator(sorted(expressions), trainer)
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_words,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )


def model(recipe: Recipe, variant: Variant, tokenizer: PreTrainedTokenizerFast) -> AlignFormer:
    """A model before training. Initial weights depend on torch's global seed; pretrained ones are read from files.

    Frozen parts take no gradient.

    Raises:
        WeightsError: pretrained weights are missing or do not fit the encoder.
        LevelsError: a setting does not fit the levels of the vision encoder.
    """
    vision, text, training = recipe.model.vision, recipe.model.text, recipe.training
    built = AlignFormer(
        AlignFormerConfig(
            vision_config=vision_config(recipe.model),
            text_config=text_config(recipe.model, tokenizer),
            **variant.model_dump(),
            pixel_dim=recipe.model.pixel_dim,
            bce_weight=training.bce_weight,
            dice_weight=training.dice_weight,
            positive_weight=training.positive_weight,
            frozen_levels=vision.frozen if vision.kind == "pretrained" else 0,
            frozen_text=text.kind == "pretrained" and text.frozen,
        )
    )
    for section, encoder in ((vision, built.vision.encoder), (text, built.text)):
        if section.kind == "pretrained":
            pretrained.load(encoder, section.weights)
    return built


def vision_config(recipe: Model) -> PreTrainedConfig:
    """The configuration of the recipe's vision encoder.

    Raises:
        WeightsError: that of a pretrained encoder is missing.
        LevelsError: `upsampling` is given for another kind than DINOv2.
    """
    match recipe.vision:
        case ResNetVision() as vision:
            return ResNetConfig(
                embedding_size=vision.stem,
                hidden_sizes=vision.channels,
                depths=vision.depths,
                layer_type="basic",
                position_grid=math.ceil(recipe.image_size / 4) if vision.absolute_positions else None,
            )
        case SwinVision() as vision:
            return SwinConfig(
                image_size=recipe.image_size,
                patch_size=vision.patch_size,
                embed_dim=vision.embed_dim,
                depths=vision.depths,
                num_heads=vision.num_heads,
                window_size=vision.window_size,
                drop_path_rate=vision.drop_path,
                use_absolute_embeddings=vision.absolute_positions,
            )
        case vision:
            config = pretrained.config(vision.weights)
            config.drop_path_rate = vision.drop_path
            if vision.upsampling is not None:
                if config.model_type != "dinov2":
                    raise LevelsError(f"upsampling is for a dinov2, and {vision.weights} is a {config.model_type}")
                config.upsampling = vision.upsampling
            return config


def text_config(recipe: Model, tokenizer: PreTrainedTokenizerFast) -> PreTrainedConfig:
    """The configuration of the recipe's text encoder. Raises WeightsError if that of a pretrained one is missing."""
    text = recipe.text
    if text.kind == "pretrained":
        return pretrained.config(text.weights)
    return BertConfig(
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        hidden_size=text.hidden_size,
        intermediate_size=4 * text.hidden_size,
        num_hidden_layers=text.num_layers,
        num_attention_heads=text.num_heads,
        hidden_dropout_prob=text.dropout,
        attention_probs_dropout_prob=text.dropout,
        max_position_embeddings=recipe.max_words,
    )
