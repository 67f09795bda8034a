"""What every command does first.

No library calls home from here, loads a pickle or runs jobs of others: the switches below are set, where the user has
not set them, before any library that reads them is imported. They are listed in this one place; `make` writes the same
list into the virtual environment.
"""

import atexit
import gc
import os
from functools import cache
from urllib.parse import unquote, urlsplit, urlunsplit

SWITCHES = {
    "DO_NOT_TRACK": "true",
    "DVC_NO_ANALYTICS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}


@cache
def start() -> None:
    """Set the switches, hide the password of MLflow's server, and end with DVC where DVC runs this process. Once."""
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)

    # torch and transformers bring a million objects that live to the end. By default Python looks through all of them
    # again and again while they come, and at exit: a fifth of the start and end of a stage (benchmarks/startup.py).
    gc.set_threshold(50_000, 10, 10)
    atexit.register(gc.freeze)

    tracking = urlsplit(os.environ.get("MLFLOW_TRACKING_URI", ""))
    if tracking.scheme in ("http", "https") and "@" in tracking.netloc:  # MLflow prints the address as each run ends
        secret, _, host = tracking.netloc.rpartition("@")
        user, _, password = secret.partition(":")
        os.environ["MLFLOW_TRACKING_URI"] = urlunsplit(tracking._replace(netloc=host))
        os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(user)
        os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(password)

    if "DVC_STAGE" in os.environ:  # here, since the imports of a stage take seconds, in which DVC may be killed too
        from stages.runtime import parent

        parent.exit_with_parent()
