"""One room a DVC stage; `python -m stages.NAME` runs it.

No library calls home from here, loads a pickle or runs jobs of others: the switches below are set, where the user has
not set them, before any library that reads them is imported. They are listed in this one place; `make` writes the same
list into the virtual environment.
"""

import os
from urllib.parse import unquote, urlsplit, urlunsplit

from stages import parent

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

_tracking = urlsplit(os.environ.get("MLFLOW_TRACKING_URI", ""))
if (
    _tracking.scheme in ("http", "https") and "@" in _tracking.netloc
):  # MLflow prints this address at the end of each run
    _user, _, _host = _tracking.netloc.rpartition("@")
    os.environ["MLFLOW_TRACKING_URI"] = urlunsplit(_tracking._replace(netloc=_host))
    os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"] = map(
        unquote, (_user.partition(":")[0], _user.partition(":")[2])
    )

if "DVC_STAGE" in os.environ:  # here, since the imports of a stage take seconds, in which DVC may be killed too
    parent.watch()
