"""A recipe, a variant and a training split -> a model and its processor."""

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import WordLevelTrainer
from transformers import BertConfig, PreTrainedTokenizerFast, ResNetConfig, SwinConfig
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from models.alignformer import AlignFormer
from models.configuration import AlignFormerConfig
from models.processing import AlignFormerProcessor
from stages.params import Model, Recipe, Variant

VOCABULARY = 10_000
SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def processor(recipe: Model, expressions: list[str]) -> AlignFormerProcessor:
    """A processor whose tokenizer knows the words of the training expressions, the most frequent first."""
    return AlignFormerProcessor(
        image_processor=ViTImageProcessorPil(
            size={"height": recipe.image_size, "width": recipe.image_size},
            image_mean=[0.485, 0.456, 0.406],
            image_std=[0.229, 0.224, 0.225],
        ),
        tokenizer=word_tokenizer(expressions, recipe.max_words),
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
    """A freshly initialised model; its weights follow from torch's global seed."""
    text, training = recipe.model.text, recipe.training
    return AlignFormer(
        AlignFormerConfig(
            vision_config=vision_config(recipe.model),
            text_config=BertConfig(
                vocab_size=len(tokenizer),
                pad_token_id=tokenizer.pad_token_id,
                hidden_size=text.hidden_size,
                intermediate_size=4 * text.hidden_size,
                num_hidden_layers=text.num_layers,
                num_attention_heads=text.num_heads,
                hidden_dropout_prob=text.dropout,
                attention_probs_dropout_prob=text.dropout,
                max_position_embeddings=recipe.model.max_words,
            ),
            vlba=variant.vlba,
            contrastive=variant.contrastive,
            contrastive_weight=variant.contrastive_weight,
            temperature=variant.temperature,
            pixel_dim=recipe.model.pixel_dim,
            bce_weight=training.bce_weight,
            dice_weight=training.dice_weight,
            positive_weight=training.positive_weight,
        )
    )


def vision_config(recipe: Model) -> SwinConfig | ResNetConfig:
    """The configuration of the vision encoder, of the recipe's kind."""
    vision = recipe.vision
    if vision.kind == "resnet":
        return ResNetConfig(
            embedding_size=vision.stem, hidden_sizes=vision.channels, depths=vision.depths, layer_type="basic"
        )
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
