"""How the Prefect processes of a folder end."""

import subprocess
import sys

import psutil
import pytest

from pipelines.prefect import daemons
from stages.runtime.parent import alive

pytestmark = pytest.mark.programs

STUBBORN = """
import signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(child.pid, flush=True)
time.sleep(600)
"""


def test_what_will_not_end_is_killed_with_all_that_it_started(monkeypatch):
    monkeypatch.setattr(daemons, "PATIENCE", 0.5)
    with subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, text=True) as started:
        child = psutil.Process(int(started.stdout.readline()))
        daemons.end([psutil.Process(started.pid)])
        assert not alive(child)
        assert started.wait() == -9
