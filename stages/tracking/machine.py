"""What the machine does during a training, as MLflow's own monitor measures it: CPU, memory and, if there is one, GPU.

`MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING=false` switches it off. MLflow itself heeds this variable only for runs of its
fluent functions. `MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL` is the time between two samples, 10 s where it is not set.
A GPU is measured where the package `nvidia-ml-py` is installed.
"""

import logging
import os
from typing import TYPE_CHECKING

from stages.tracking import store

if TYPE_CHECKING:
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

SWITCH = "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"


def monitor(run_id: str) -> "SystemMetricsMonitor | None":
    """The monitor of a run, started; call `finish` on it. None where it is switched off."""
    if os.environ.get(SWITCH, "true").lower() in ("false", "0"):
        return None
    logging.getLogger("mlflow.system_metrics").setLevel(logging.WARNING)
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    started = SystemMetricsMonitor(run_id, tracking_uri=store.address())
    started.monitors = [each for each in started.monitors if not isinstance(each, (DiskMonitor, NetworkMonitor))]
    started.start()
    return started
