"""The Prefect server of a flow: the one in the settings, or a temporary one on loopback, which ends with the flow.

Prefect's own temporary server would outlive a flow that is killed.
"""

import atexit
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit, urlunsplit

import httpx
from filelock import FileLock
from prefect.client.orchestration import get_client
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_SERVER_EPHEMERAL_ENABLED,
    get_current_settings,
    temporary_settings,
)

from pipelines.prefect import internals
from stages.runtime import parent, startup

PATIENCE = 10  # seconds for the server's end
RESTARTS = 5

_is_temporary = threading.Event()


class ServerError(Exception):
    """The Prefect server does not answer. The message names it and the way out."""


def address() -> str | None:
    """The server in the settings (`PREFECT_API_URL` or a profile), without credentials; None where there is none."""
    url = get_current_settings().api.url
    return url and without_secrets(url)


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
    way_out = "`make schedule` starts the one of this folder, `make unschedule` has flows run without one"
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
    with temporary_settings({PREFECT_API_URL: server.url, PREFECT_SERVER_EPHEMERAL_ENABLED: False}):
        yield


def _prepare_database() -> None:
    """Create Prefect's own database, once: several flows that start together on a new home would each try to."""
    database = internals.database()
    if not database.exists():
        database.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(database.with_name("database.lock")):
            subprocess.run([sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"], check=True)


class _Server:
    """A process that serves on a socket of this one. Where it is killed, calls wait there for the next process."""

    def __init__(self):
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/api"
        self._ended = False
        self._process = self._started()

    def wait(self) -> None:
        """Return when it answers. Raises ServerError."""
        patience = get_current_settings().server.ephemeral.startup_timeout_seconds
        deadline = time.monotonic() + patience
        while self._process.poll() is None and time.monotonic() < deadline:
            with suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/health", timeout=patience, trust_env=False).is_success:
                    return
            time.sleep(0.1)
        raise ServerError(
            f"Prefect's temporary server did not start within {patience} s, or ended; see the lines above"
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
        return subprocess.Popen(
            [sys.executable, "-m", "pipelines.prefect.server", str(self._listening.fileno())],
            pass_fds=[self._listening.fileno()],
            env={**os.environ, "PREFECT_SERVER_UI_ENABLED": "false"},
            start_new_session=True,  # Ctrl-C must not end it before the flow has reported its end
        )


def main() -> None:
    """Serve on the socket whose number is given, and end with the process that started this one."""
    startup.start()
    parent.exit_with_parent()
    import uvicorn

    config = uvicorn.Config(internals.server_app(), log_level="error")
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(sys.argv[1]))])


if __name__ == "__main__":
    main()
