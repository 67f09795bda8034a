"""Tags of an MLflow run that name the process that owns it, and whether that process still runs."""

import os
import socket
from collections.abc import Mapping
from typing import Literal

import psutil

HOST, PID, STARTED = "process.host", "process.pid", "process.started"
SAME = 10  # seconds by which two readings of a start time may differ; no process id is reused that soon


def tags() -> dict[str, str]:
    """Host, process id and start time (seconds since 1970) of this process."""
    return {HOST: socket.gethostname(), PID: str(os.getpid()), STARTED: f"{psutil.Process().create_time():.2f}"}


def fate(tags: Mapping[str, str]) -> Literal["alive", "dead", "elsewhere"]:
    """Whether the process in the tags of a run is alive or dead; `elsewhere` if this host cannot tell."""
    if tags.get(HOST) != socket.gethostname() or PID not in tags or STARTED not in tags:
        return "elsewhere"
    try:
        process = psutil.Process(int(tags[PID]))
        same = abs(process.create_time() - float(tags[STARTED])) < SAME
        return "alive" if same and process.status() != psutil.STATUS_ZOMBIE else "dead"
    except psutil.NoSuchProcess:
        return "dead"
