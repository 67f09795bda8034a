"""Pretrained encoders, from a folder or from the hub's local cache. Nothing is downloaded, and no weight stays random.

Files are in transformers' formats: `config.json`, `model.safetensors` and, for a text encoder, the tokenizer.
"""

import re

from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerFast
from transformers.utils import logging

from stages.runtime import layout
from stages.runtime.errors import UserError

UNUSED = ("layernorm.", "pooler.", "embeddings.mask_token")  # weights of pretrained models that no encoder here has


class WeightsError(UserError):
    """Pretrained weights are missing or of another model; the message names the files and where to put them."""


def config(weights: str) -> PreTrainedConfig:
    """The configuration of a pretrained encoder. Raises WeightsError if `config.json` is missing."""
    return _read(AutoConfig, weights, "config.json")


def tokenizer(weights: str, max_words: int) -> PreTrainedTokenizerFast:
    """The tokenizer of a pretrained text encoder, limited to `max_words` tokens. Raises WeightsError if missing."""
    return _read(AutoTokenizer, weights, "tokenizer.json and tokenizer_config.json", model_max_length=max_words)


def load(encoder: nn.Module, weights: str) -> None:
    """Load pretrained weights into an encoder of the same configuration.

    Raises:
        WeightsError: the weights are missing, or do not have exactly the encoder's parameters and shapes.
    """
    options = {"output_loading_info": True, "ignore_mismatched_sizes": True}
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # it would print what `report` holds
    logging.disable_progress_bar()
    try:
        found, report = _read(AutoModel, weights, "model.safetensors", **options)
    finally:
        logging.set_verbosity(verbosity)
    state = {name: value for name, value in found.state_dict().items() if not name.startswith(UNUSED)}
    needed = encoder.state_dict()
    missing = {name for name in report["missing_keys"] if not name.startswith(UNUSED)} | needed.keys() - state.keys()
    missing |= {name for name, *_ in report["mismatched_keys"]}
    if missing or state.keys() - needed.keys():
        raise WeightsError(
            f"{weights}: these are not the weights of a {type(encoder).__name__} as its config.json describes it: "
            f"{len(missing)} of {len(needed)} tensors are missing or of another shape "
            f"({', '.join(sorted(missing)[:3])}, ...). Put the complete files there, or name others under `weights`"
        )
    encoder.load_state_dict(state)


def _read(kind: type, weights: str, files: str, **options):
    """`kind.from_pretrained` of a folder, or of a model on the hub that is in the local cache."""
    folder, is_name = layout.source(weights), re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", weights)
    is_folder = folder.is_dir()
    try:
        if not (is_folder or is_name):
            raise OSError("there is no such folder")
        return kind.from_pretrained(str(folder) if is_folder else weights, local_files_only=True, **options)
    except (OSError, ValueError) as error:
        fetch = f", or fetch them once: HF_HUB_OFFLINE=0 hf download {weights}" if is_name and not is_folder else ""
        raise WeightsError(
            f"pretrained weights {weights!r} cannot be read: {str(error).strip().splitlines()[0]}\n"
            f"They need {files}, in transformers' format. Put these files into a folder and name it under `weights` of "
            f"the recipe in params.yaml{fetch}"
        ) from error
