"""One run on several GPUs or CPU processes: the place of this process among them, and what it must not do."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, PartialState
from accelerate.utils import GradientAccumulationPlugin, parse_flag_from_env

from stages.runtime.errors import UserError

ENGINES = {  # variables that accelerate's own settings turn into, and what trains then instead of this project
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism_config",
}


class ProcessShare(NamedTuple):
    """This process is number `index` of `count`, counted from 0."""

    index: int
    count: int


class NotOneRunError(UserError):
    """Several processes were started but do not form one group; the message says how to start them."""


class AccelerateSettingsError(UserError):
    """Settings of accelerate ask for what a run here cannot do; the message names them."""


class OtherEndedError(UserError):
    """Another process of the run ended early; the message of that process says why."""


def here() -> PartialState:
    """This process among those of the run: `process_index`, `num_processes`, `is_main_process`, `device`.

    Only the main process writes, prints and warns. On a machine without a GPU, the processes that
    `accelerate launch --multi_gpu` or `torchrun` started share the CPU. `ACCELERATE_USE_CPU=true` makes them share it
    on a machine with GPUs too.

    Raises:
        NotOneRunError: `WORLD_SIZE` processes were started, but another number found each other.
        AccelerateSettingsError: accelerate is set to train by one of `ENGINES`.
    """
    if engines := [f"{name} ({engine})" for name, engine in ENGINES.items() if parse_flag_from_env(name)]:
        raise AccelerateSettingsError(
            f"accelerate is set to {' and '.join(engines)}, which this project does not train with. Unset it, or take "
            "it out of the file that `accelerate env` names, or start with `accelerate launch --config_file` another"
        )
    started = int(os.environ.get("WORLD_SIZE", 1))
    on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or (started > 1 and not torch.accelerator.is_available())
    state = PartialState(cpu=on_cpu)
    if state.num_processes != started:
        raise NotOneRunError(
            f"WORLD_SIZE is {started}, but {state.num_processes} processes found each other: each would train by "
            "itself and write the same files. Start them by accelerate launch --multi_gpu --num_processes N"
        )
    if not state.is_main_process:
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
    return state


def share() -> ProcessShare | None:
    """The place of this process among several; None if it is the only one."""
    state = here()
    return ProcessShare(state.process_index, state.num_processes) if state.num_processes > 1 else None


def accelerator(precision: str) -> Accelerator:
    """An `Accelerator` for this process and a precision: no, bf16 or fp16. The user's settings change nothing.

    Raises:
        AccelerateSettingsError: fp16 without a GPU.
    """
    if precision == "fp16" and str(here().device) == "cpu":
        raise AccelerateSettingsError("precision: fp16 needs a GPU, and this process has none: take bf16 or no")
    warnings.filterwarnings(
        "ignore", "Grad strides do not match bucket view strides"
    )  # costs a copy of a few small weights
    return Accelerator(
        mixed_precision=precision,
        dynamo_backend="no",  # `training.compile` compiles
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)],
    )


@contextmanager
def group() -> Iterator[PartialState]:
    """`here()` for the duration of a stage; a stage that succeeds also closes the group of processes.

    Raises:
        NotOneRunError: as `here()`.
        OtherEndedError: another process of the run ended while this one waited for it. On CPUs only: on GPUs the
            launcher ends the other processes before they notice.
    """
    state = here()
    try:
        yield state
    except RuntimeError as error:
        if not isinstance(error, torch.distributed.DistError) and "gloo" not in str(error):
            raise
        raise OtherEndedError(
            f"process {state.process_index} of {state.num_processes} lost another process, whose message says why"
        ) from error
    state.destroy_process_group()
