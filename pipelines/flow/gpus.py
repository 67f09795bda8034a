"""Several GPUs on one machine: each stage that runs sees one GPU, the one with the fewest stages on it."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

VISIBLE = "CUDA_VISIBLE_DEVICES"


class Gpus:
    """The GPUs that this process may use. Where there is one or none, nothing is set.

    Attributes:
        count: how many there are.
    """

    def __init__(self):
        self._stages = dict.fromkeys(_visible(), 0)
        self.count = len(self._stages)
        self._lock = threading.Lock()

    @contextmanager
    def one(self) -> Iterator[dict[str, str]]:
        """The variables that show a stage one GPU, for as long as the block runs."""
        if self.count < 2:
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


def _visible() -> list[str]:
    """Their names in CUDA: those that the environment allows, else all that NVIDIA's driver lists."""
    if (allowed := os.environ.get(VISIBLE)) is not None:
        names = [gpu.strip() for gpu in allowed.split(",")]
        return [name for name in names if name and not name.startswith("-")]
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True)
    return [str(number) for number, line in enumerate(listed.stdout.splitlines()) if line.startswith("GPU ")]
