"""Which kernels numerical libraries use: another one adds in another order, and rounds otherwise.

The libraries choose by the processor's instruction sets. Held to those of AVX2, processors that have more compute the
same. What was seen on which processor is in `benchmarks/results/bits.csv`.
"""

import os
import re
from pathlib import Path

KERNELS = {  # of torch, oneDNN, MKL (which obeys on Intel's processors only), numpy and OpenBLAS
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "AVX2",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    "OPENBLAS_CORETYPE": "Haswell",
}
CHOICE = "STAGES_KERNELS"  # a variable of the environment; `native`: the libraries choose
ROUNDING = (  # beginnings of variables by which torch and its libraries choose kernels and precision
    *(CHOICE, "ATEN_", "CUBLAS", "CUDNN_", "DISABLE_ADDMM_", "DNNL_", "MKL_", "NPY_", "NVIDIA_TF32_OVERRIDE"),
    *("ONEDNN_", "OPENBLAS_", "PYTORCH_TUNABLEOP_", "TORCH_ALLOW_TF32_", "TORCH_BLAS_", "TORCH_CUDNN_"),
    *("TORCHDYNAMO_", "TORCHINDUCTOR_"),
)
NOT_ROUNDING = ("_NUM_THREADS", "_VERBOSE", "_CACHE_DIR")  # ends of others; `training.threads` sets the threads


def hold() -> None:
    """Set `KERNELS` where the processor has AVX2, before the libraries are imported.

    What the user has set stays. Nothing is set where `CHOICE` is `native`, or on another system than Linux.
    """
    try:
        processor = Path("/proc/cpuinfo").read_text()
    except OSError:
        return
    if os.environ.get(CHOICE) != "native" and re.search(r"^flags\b.*\bavx2\b", processor, re.MULTILINE):
        for name, value in KERNELS.items():
            os.environ.setdefault(name, value)


def rounding_settings() -> dict[str, str]:
    """The user's variables by which numerical libraries round otherwise, see `ROUNDING`, by name."""
    names = sorted(name for name in os.environ if name.startswith(ROUNDING) and not name.endswith(NOT_ROUNDING))
    return {name: os.environ[name] for name in names if os.environ[name] != KERNELS.get(name)}
