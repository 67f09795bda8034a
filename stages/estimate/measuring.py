"""Seconds and memory of work on a device. Needs torch alone."""

import re
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")


def seconds(work: Callable[[], object], device: torch.device | None = None) -> float:
    """Wall-clock seconds of `work`; on a GPU, until the GPU has finished it."""
    synchronize = torch.cuda.synchronize if device is not None and device.type == "cuda" else lambda: None
    synchronize()
    started = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - started


def peak_memory(device: torch.device) -> int:
    """Peak bytes: allocated by torch on a GPU, or resident in this process on a CPU.

    Linux's status file covers this process only; `getrusage` would include the memory of the parent process.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if STATUS.exists():
        return int(re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text()).group(1)) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def describe(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} with {torch.get_num_threads()} threads"
