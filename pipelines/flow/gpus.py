"""Stages side by side on one machine with several GPUs: each sees one, that with the fewest stages on it."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

VISIBLE = "CUDA_VISIBLE_DEVICES"


class Gpus:
    """Those that this process may use. With one, or none, nothing is set."""

    def __init__(self):
        self._stages = dict.fromkeys(_visible(), 0)
        self._lock = threading.Lock()

    @contextmanager
    def one(self) -> Iterator[dict[str, str]]:
        """What a stage's environment needs to see one GPU, which is its own while the block runs."""
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


def _visible() -> list[str]:
    """As CUDA names them: what the environment allows, else all that NVIDIA's driver lists."""
    if (allowed := os.environ.get(VISIBLE)) is not None:
        return [gpu.strip() for gpu in allowed.split(",") if gpu.strip()]
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True)
    return [str(number) for number, line in enumerate(listed.stdout.splitlines()) if line.startswith("GPU ")]
