"""The start of every command: `start()`, called before the import of libraries that read what it sets.

A command therefore imports such libraries (torch, transformers, MLflow, Prefect) inside its functions. This also makes
`--help` and the error for a wrong argument fast. Importing `stages` does nothing.
"""

import atexit
import gc
import os
from functools import cache
from urllib.parse import unquote, urlsplit, urlunsplit

from stages.runtime.parent import exit_with_parent

SWITCHES = {  # no telemetry, no pickles, no jobs of others; variables that the user has set stay
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
    """Prepare the process, once.

    It ends with DVC, has `SWITCHES`, opens no window, collects garbage rarely, and hides MLflow's password.
    """
    if "DVC_STAGE" in os.environ:  # first: imports take seconds, and DVC may be killed meanwhile
        exit_with_parent()
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
    os.environ["MPLBACKEND"] = "agg"  # a notebook hands on its own, which may not be installed here
    _collect_rarely()
    _keep_password_out_of_address()


def _collect_rarely() -> None:
    """Make Python's garbage collector run rarely, and skip existing objects at exit.

    torch and transformers create a million objects that live until the process ends. Python would check all of them
    many times during the imports and at exit, which takes a fifth of a stage's start and end (`benchmarks/startup.py`).
    """
    gc.set_threshold(50_000, 10, 10)
    atexit.register(gc.freeze)


def _keep_password_out_of_address() -> None:
    """Move user and password out of `MLFLOW_TRACKING_URI`, which MLflow prints when a run ends."""
    address = urlsplit(os.environ.get("MLFLOW_TRACKING_URI", ""))
    if address.scheme in ("http", "https") and "@" in address.netloc:
        secret, _, host = address.netloc.rpartition("@")
        user, _, password = secret.partition(":")
        os.environ["MLFLOW_TRACKING_URI"] = urlunsplit(address._replace(netloc=host))
        os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(user)
        os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(password)
