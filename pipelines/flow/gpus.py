"""Several GPUs on one machine: each stage that runs sees one GPU, the one with the fewest stages on it."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

VISIBLE = "CUDA_VISIBLE_DEVICES"


class Gpus:
    """The GPUs that this process may use. Where there is one or none, nothing is set."""

    def __init__(self):
        self._stages = dict.fromkeys(visible(), 0)
        self._lock = threading.Lock()

    @contextmanager
    def one(self) -> Iterator[dict[str, str]]:
        """The variables that show a stage one GPU, for as long as the block runs."""
        if len(self._stages) < 2:
            yield {}
            return
        with self._lock:
            gpu = min(self._stages, key=self._stages.get)
            self._stages[gpu] += 1
        try:
            yield {VISIBLE: gpu}
        finally:
            with self._lock:
                self._stages[gpu] -= 1


def visible() -> list[str]:
    """The names in CUDA of the GPUs that this process may use: the environment's, else all of NVIDIA's driver."""
    if (allowed := os.environ.get(VISIBLE)) is not None:
        return [gpu.strip() for gpu in allowed.split(",") if gpu.strip() and not gpu.strip().startswith("-")]
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True)
    return [str(number) for number, line in enumerate(listed.stdout.splitlines()) if line.startswith("GPU ")]
