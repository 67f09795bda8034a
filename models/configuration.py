"""Configuration of AlignFormer."""

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

from models.variant import VariantFields


@strict
class AlignFormerConfig(PreTrainedConfig, VariantFields):
    """The parts of an AlignFormer: the fields of its variant (`models.variant`) and those below.

    Args:
        vision_config: configuration of the vision encoder (a transformers config or its dictionary).
        text_config: configuration of the text encoder (a transformers config or its dictionary).
        pixel_dim: width of the pixel decoder, of pixel embeddings and of the center embedding.
        bce_weight: weight of the binary cross-entropy of the mask.
        dice_weight: weight of the dice loss of the mask.
        positive_weight: weight of the pixels inside the mask in the binary cross-entropy.
        frozen_levels: so many first levels of the vision encoder are frozen: no gradient, no dropout. Each reads what
            the level before it made, and not what words made of that.
        frozen_text: whether the text encoder is frozen.
        trained_with: variables of the environment that the training rounded by, by name; changes nothing.
    """

    model_type = "alignformer"
    sub_configs = {"vision_config": AutoConfig, "text_config": AutoConfig}  # noqa: RUF012  # pyright: ignore[reportAssignmentType]

    vision_config: dict | PreTrainedConfig | None = None
    text_config: dict | PreTrainedConfig | None = None
    pixel_dim: int = 64
    bce_weight: float = 1.0
    dice_weight: float = 1.0
    positive_weight: float = 1.1
    frozen_levels: int = 0
    frozen_text: bool = False
    trained_with: dict | None = None

    def __post_init__(self, **kwargs):
        self.vision_config = _sub_config(self.vision_config, "swin")
        self.text_config = _sub_config(self.text_config, "bert")
        super().__post_init__(**kwargs)

    @property
    def encoders(self) -> tuple[PreTrainedConfig, PreTrainedConfig]:
        """The configurations of the vision encoder and the text encoder, as objects rather than dictionaries."""
        assert isinstance(self.vision_config, PreTrainedConfig) and isinstance(self.text_config, PreTrainedConfig)
        return self.vision_config, self.text_config


def _sub_config(config: dict | PreTrainedConfig | None, default_kind: str) -> PreTrainedConfig:
    if isinstance(config, PreTrainedConfig):
        return config
    values = dict(config or {})
    return AutoConfig.for_model(values.pop("model_type", default_kind), **values)


AutoConfig.register(AlignFormerConfig.model_type, AlignFormerConfig)
