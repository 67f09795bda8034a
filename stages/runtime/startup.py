"""How every command begins: `start()`, before the libraries that read what it sets are imported.

So a command imports such libraries (torch, transformers, MLflow, Prefect) inside its functions. Then `--help` and a
wrong argument are answered at once, too. Importing `stages` itself does nothing.
"""

import atexit
import gc
import os
from functools import cache
from urllib.parse import unquote, urlsplit, urlunsplit

from stages.runtime.parent import exit_with_parent

SWITCHES = {  # nothing calls home, loads a pickle or runs jobs of others; what the user has set stays
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
    """Set, once, what holds for a whole process: its end with DVC's, switches, the collector, MLflow's address."""
    if "DVC_STAGE" in os.environ:  # first, since the imports of a stage take seconds, in which DVC may be killed
        exit_with_parent()
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
    _collect_rarely()
    _keep_password_out_of_address()


def _collect_rarely() -> None:
    """torch and transformers bring a million objects that live to the end.

    Python would look through all of them again and again while they come, and at exit: a fifth of the start and the end
    of a stage (`benchmarks/startup.py`).
    """
    gc.set_threshold(50_000, 10, 10)
    atexit.register(gc.freeze)


def _keep_password_out_of_address() -> None:
    """MLflow prints `MLFLOW_TRACKING_URI` as each run ends; a user and a password in it move to MLflow's variables."""
    address = urlsplit(os.environ.get("MLFLOW_TRACKING_URI", ""))
    if address.scheme in ("http", "https") and "@" in address.netloc:
        secret, _, host = address.netloc.rpartition("@")
        user, _, password = secret.partition(":")
        os.environ["MLFLOW_TRACKING_URI"] = urlunsplit(address._replace(netloc=host))
        os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(user)
        os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(password)
