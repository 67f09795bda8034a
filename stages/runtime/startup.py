"""The start of every command: `start()`, called before the import of libraries that read what it sets.

A command therefore imports such libraries (torch, transformers, MLflow, Prefect) inside its functions. This also makes
`--help` and the error for a wrong argument fast. Importing `stages` does nothing.
"""

import atexit
import gc
import io
import os
import signal
import sys
import threading
from functools import cache
from urllib.parse import unquote, urlsplit, urlunsplit

from stages.runtime import kernels, warm
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
PROXIES = {"http_proxy", "https_proxy", "all_proxy"}
LOOPBACK = ("127.0.0.1", "localhost")


@cache
def start() -> None:
    """Prepare the process, and what it starts, once.

    It hears signals, ends with DVC, has `SWITCHES` and the kernels that all machines have, and is forked from a process
    with warm libraries where that can be. It opens no window, shows no bars of transformers, prints what the terminal
    cannot show as escapes, asks servers of this machine directly, collects garbage rarely, and hides MLflow's password.
    """
    _hear_signals()
    if "DVC_STAGE" in os.environ:  # first: imports take seconds, and DVC may be killed meanwhile
        exit_with_parent()
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # transformers shows one for each file of a model
    kernels.hold()
    warm.hand_over()
    os.environ["MPLBACKEND"] = "agg"  # a notebook hands on its own, which may not be installed here
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: no stage fails because of a name that it prints
    _ask_loopback_directly()
    _collect_rarely()
    _keep_password_out_of_address()


def _hear_signals() -> None:
    """Undo what the starter had ignored or blocked, which children inherit too: they could not be ended.

    A shell starts the background commands of a script with SIGINT and SIGQUIT ignored, and a worker of Prefect ends by
    its own SIGINT. Where SIGCHLD is ignored, every child seems to have ended with code 0. SIGHUP stays, for `nohup`.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    numbers = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGALRM, signal.SIGCHLD)
    for number in numbers:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


def _ask_loopback_directly() -> None:
    """Where a proxy is set, except this machine from it, in addition to what the user excepts.

    Without a proxy nothing is set: Python would then overlook the system's own settings on macOS.
    """
    excepted = os.environ.get("no_proxy", os.environ.get("NO_PROXY", "")).strip()
    proxies = {name.lower() for name, value in os.environ.items() if value} & PROXIES
    if proxies and excepted != "*":
        hosts = [host.strip() for host in excepted.split(",") if host.strip()]
        direct = ",".join([*hosts, *(host for host in LOOPBACK if host not in hosts)])
        os.environ["NO_PROXY"] = os.environ["no_proxy"] = direct  # some programs read the one, some the other


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
