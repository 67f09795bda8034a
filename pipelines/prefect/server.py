"""The Prefect server of a flow: the one in the settings, or a temporary one on loopback, which ends with the flow.

Prefect's own temporary server would outlive a flow that is killed.
"""

import atexit
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import httpx
from filelock import FileLock
from prefect.client.orchestration import get_client
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_SERVER_DATABASE_CONNECTION_URL,
    PREFECT_SERVER_EPHEMERAL_ENABLED,
    get_current_settings,
    temporary_settings,
)

from pipelines.prefect import internals
from stages.runtime import parent, startup
from stages.runtime.ports import HOST

PATIENCE = 10  # seconds for the server's end
ANSWER = 1  # second for an answer; one that a dead server does not give would be waited for, as the socket stays
RESTARTS = 5
OURS = {"PREFECT_SERVER_API_BASE_PATH": ""}  # the address of a server that we start ends in /api

_is_temporary = threading.Event()


class ServerError(Exception):
    """The Prefect server does not answer. The message names it and the way out."""


def address() -> str | None:
    """The server in the settings (`PREFECT_API_URL` or a profile), without credentials; None where there is none."""
    url = get_current_settings().api.url
    return url and without_secrets(url)


def log_file() -> Path:
    """What the server of this folder writes."""
    return get_current_settings().home / "server.log"


def is_shared() -> bool:
    """Whether other flows may use the server too: not in `temporary`."""
    return not _is_temporary.is_set()


def without_secrets(url: str) -> str:
    """Scheme, host, port and path: no user, password, query or fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def check() -> None:
    """Ask the server in the settings for an answer.

    Raises:
        ServerError: it gives none, or refuses.
    """
    way_out = _way_out()
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}), get_client(sync_client=True) as client:
        try:
            client.read_flow_runs(limit=1)
        except httpx.HTTPStatusError as error:
            code = error.response.status_code
            hint = "PREFECT_API_AUTH_STRING is not what it asks for" if code in (401, 403) else way_out
            raise ServerError(f"the Prefect server {address()} answers {code}: {hint}") from None
        except (httpx.HTTPError, RuntimeError) as error:
            reason = error.__cause__ or error
            raise ServerError(f"the Prefect server {address()} does not answer ({reason}): {way_out}") from None


def _way_out() -> str:
    """What to do where the server in the settings does not answer: it depends on where its address comes from."""
    if "PREFECT_API_URL" in os.environ:
        return "start it, or `unset PREFECT_API_URL` to use one of this folder"
    if get_current_settings().api.url == internals.url_in_profile():
        return "`make schedule` starts the one of this folder, `make unschedule` has flows run without one"
    return "start it, or take its address out of .env, prefect.toml or pyproject.toml to use one of this folder"


def why_not_started(log: Path, since: int) -> str:
    """The last messages that a server or worker has written since a place in its log, and what may help."""
    text = log.read_bytes()[since:].decode(errors="replace")
    messages = [line for line in text.splitlines() if line.strip() and not line.startswith(" ")]  # no traces of calls
    lines = [f"the end of {log}:", *messages[-5:]]
    database = internals.database()
    if re.search("sqlite3|alembic", text) and str(database) in PREFECT_SERVER_DATABASE_CONNECTION_URL.value():
        aside = database.with_name("aside")
        lines.append(
            f"{database} holds the history of flow runs and nothing else. If it is damaged, or of a newer Prefect, put "
            f"it aside: mkdir -p {aside} && mv {database}* {aside}"
        )
    return "\n".join(lines)


def leave_out_unusable_proxies() -> None:
    """Take proxies out of the environment that Prefect's client cannot use, as SOCKS, and say so.

    It would end with an error even where it asks this machine, which `startup.start` excepts from proxies.
    """
    for name, value in list(os.environ.items()):
        if name.lower() in startup.PROXIES and value:
            try:
                httpx.HTTPTransport(proxy=value if "://" in value else f"http://{value}", verify=False).close()
            except (ImportError, ValueError, httpx.InvalidURL) as error:
                del os.environ[name]
                reason = str(error).splitlines()[0]
                print(f"{name} is left out here, as Prefect's client cannot use it: {reason}", file=sys.stderr)


@contextmanager
def temporary() -> Iterator[None]:
    """While the block runs, flows use a server of this process, on the database in Prefect's home. It has no UI.

    Raises:
        ServerError: it ended, or did not answer in time.
    """
    _prepare_database()
    server = _Server()
    atexit.register(server.end)  # not with the block: Prefect sends its last log lines after that
    server.wait()
    threading.Thread(target=server.keep, daemon=True).start()
    internals.hide_links()
    _is_temporary.set()
    with temporary_settings(
        {
            PREFECT_API_URL: server.url,
            PREFECT_API_AUTH_STRING: get_current_settings().server.api.auth_string,
            PREFECT_SERVER_EPHEMERAL_ENABLED: False,
        }
    ):
        yield


def _prepare_database() -> None:
    """Create Prefect's own database, once: several flows that start together on a new home would each try to."""
    database = internals.database()
    if not database.exists():
        database.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(database.with_name("database.lock")):
            command = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise ServerError(f"Prefect's database {database} cannot be made:\n{done.stdout.strip()[-2000:]}")


class _Server:
    """A process that serves on a socket of this one. Where it is killed, calls wait there for the next process.

    It writes into the log of the server that `make schedule` starts.
    """

    def __init__(self):
        self._log = log_file()
        self._before = self._log.stat().st_size if self._log.exists() else 0
        self._listening = socket.create_server((HOST, 0))
        self.url = f"http://{HOST}:{self._listening.getsockname()[1]}/api"
        self._ended = False
        self._process = self._started()

    def wait(self) -> None:
        """Return when it answers. Raises ServerError."""
        patience = get_current_settings().server.ephemeral.startup_timeout_seconds
        deadline = time.monotonic() + patience
        while self._process.poll() is None and time.monotonic() < deadline:
            with suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/health", timeout=ANSWER, trust_env=False).is_success:
                    return
            time.sleep(0.1)
        raise ServerError(
            f"Prefect's temporary server did not start within {patience} s, or ended; "
            f"{why_not_started(self._log, self._before)}"
        )

    def keep(self) -> None:
        """Start it again where it is killed, `RESTARTS` times. Then end the flow: it could not report its states."""
        for _ in range(RESTARTS):
            self._process.wait()
            if self._ended:
                return
            self._process = self._started()
        self._process.wait()
        if not self._ended:
            os.kill(os.getpid(), signal.SIGTERM)

    def end(self) -> None:
        self._ended = True
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE)
        self._process.kill()
        self._process.wait()

    def _started(self) -> subprocess.Popen:
        with self._log.open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "pipelines.prefect.server", str(self._listening.fileno())],
                pass_fds=[self._listening.fileno()],
                env={**os.environ, **OURS, "PREFECT_SERVER_UI_ENABLED": "false"},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C must not end it before the flow has reported its end
            )


def main() -> None:
    """Serve on the socket whose number is given, and end with the process that started this one."""
    startup.start()
    parent.exit_with_parent()
    internals.hide_connections_that_end_with_the_server()
    import uvicorn

    config = uvicorn.Config(internals.server_app(), log_level="error")
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(sys.argv[1]))])


if __name__ == "__main__":
    main()
