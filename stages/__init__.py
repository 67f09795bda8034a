"""One room a DVC stage; `python -m stages.NAME` runs it.

No library calls home from here, loads a pickle or runs jobs of others: the switches below are set, where the user has
not set them, before any library that reads them is imported. They are listed in this one place; `make` writes the same
list into the virtual environment.
"""

import atexit
import gc
import os
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

for _name, _value in SWITCHES.items():
    os.environ.setdefault(_name, _value)

# torch and transformers bring a million objects that live to the end. By default Python looks through all of them again
# and again while they come, and at exit: a fifth of the start and end of a stage (benchmarks/startup.py).
gc.set_threshold(50_000, 10, 10)
atexit.register(gc.freeze)

_tracking = urlsplit(os.environ.get("MLFLOW_TRACKING_URI", ""))
if _tracking.scheme in ("http", "https") and "@" in _tracking.netloc:  # MLflow prints the address as each run ends
    _secret, _, _host = _tracking.netloc.rpartition("@")
    _user, _, _password = _secret.partition(":")
    os.environ["MLFLOW_TRACKING_URI"] = urlunsplit(_tracking._replace(netloc=_host))
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(_user)
    os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(_password)

if "DVC_STAGE" in os.environ:  # here, since the imports of a stage take seconds, in which DVC may be killed too
    from stages.runtime import parent

    parent.watch()
