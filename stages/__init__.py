"""One room a DVC stage; `python -m stages.NAME` runs it.

No library calls home from here: the switches below are set, where the user has not set them, before any library that
reads them is imported. They are listed in this one place; `make` writes the same list into the virtual environment.
"""

import os

QUIET = {
    "DO_NOT_TRACK": "true",
    "DVC_NO_ANALYTICS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}

for _name, _value in QUIET.items():
    os.environ.setdefault(_name, _value)
