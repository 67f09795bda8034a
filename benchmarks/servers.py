"""Real servers, on free ports of loopback and in folders of their own: PostgreSQL, S3, MLflow and Prefect.

Each is a context manager that yields the running `Server` and ends it, with all its processes, afterwards.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import boto3
import httpx
import psycopg

PATIENCE = 120  # seconds until a server must answer
S3_KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
OURS = ("MLFLOW_", "PREFECT_", "DVC_", "AWS_")  # what a test must not take over from its surroundings

LEASES = {  # claims survive a restart of the server
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem"
}


@dataclass
class Server:
    """A running server: its address, its first process, which leads a session of its own, and what it prints."""

    url: str
    process: subprocess.Popen
    log: Path

    def end(self, number: int = signal.SIGTERM) -> None:
        """Send a signal to all its processes and wait for the first of them."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)
        self.process.wait(30)


def environment(**more: str) -> dict[str, str]:
    """This process's environment without settings of MLflow, Prefect, DVC and S3, and with `more`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    quiet = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}
    quiet |= {"DVC_NO_ANALYTICS": "1", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return {**kept, **quiet, "PATH": path, **more}


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def postgres_installed() -> bool:
    """Whether there is a PostgreSQL server on this machine."""
    return bool(postgres_program("postgres") and postgres_program("initdb"))


@contextmanager
def postgres(*databases: str, user: str = "alignformer", password: str = "password") -> Iterator[Server]:
    """A PostgreSQL server with these databases. The URL has user and password and ends in the port; add `/DATABASE`.

    It refuses to run as root, so there it runs as `postgres` or `nobody`.
    """
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        somebody = _somebody()
        (folder / "password").write_text(password)
        if somebody:
            for path in (folder, folder / "password"):
                shutil.chown(path, somebody["user"], somebody["group"])
        command = [
            postgres_program("initdb"),
            "--pgdata",
            folder / "data",
            "--username",
            user,
            "--auth",
            "scram-sha-256",
        ]
        subprocess.run(
            [*command, "--pwfile", folder / "password", "--no-sync", "--encoding", "UTF8", "--locale", "C"],
            check=True,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            **somebody,
        )
        url = f"postgresql://{user}:{password}@127.0.0.1:{port}"
        settings = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": folder, "fsync": "off"}
        command = [postgres_program("postgres"), "-D", folder / "data"]
        for setting, value in {**settings, "max_connections": 200}.items():
            command += ["-c", f"{setting}={value}"]
        log = Path(folder / "log")

        def ready() -> bool:
            with suppress(psycopg.OperationalError), psycopg.connect(f"{url}/postgres", autocommit=True) as connection:
                for database in databases:
                    connection.execute(f'CREATE DATABASE "{database}"')
                return True
            return False

        with _running(url, command, environment(), log, ready, end=signal.SIGINT, cwd=folder, **somebody) as server:
            yield server


@contextmanager
def s3(folder: Path, *buckets: str) -> Iterator[Server]:
    """An S3 server (moto, in memory) with these buckets; `S3_KEYS` open it, as any other keys would."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        if not _answers(url):
            return False
        keys = {name.lower(): value for name, value in S3_KEYS.items() if name != "AWS_DEFAULT_REGION"}
        client = boto3.client("s3", endpoint_url=url, region_name=S3_KEYS["AWS_DEFAULT_REGION"], **keys)
        for bucket in buckets:
            client.create_bucket(Bucket=bucket)
        return True

    command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
    with _running(url, command, environment(), folder / "s3.log", ready) as server:
        yield server


@contextmanager
def mlflow(
    folder: Path, store: str, artifacts: str, *options: str, port: int | None = None, **variables: str
) -> Iterator[Server]:
    """An MLflow server on a database, which keeps artifacts in a folder or `s3://BUCKET` and hands them on."""
    port = port or free_port()
    variables |= {"MLFLOW_BACKEND_STORE_URI": store, "MLFLOW_ARTIFACTS_DESTINATION": artifacts}
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    url = f"http://127.0.0.1:{port}"
    with _healthy(url, [*command, *options], variables, folder / "mlflow.log") as server:
        yield server


@contextmanager
def mlflow_model(folder: Path, model: str, store: str) -> Iterator[Server]:
    """`mlflow models serve` of a model of a store, with the packages of this environment; it runs in `folder`."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", model, "--env-manager", "local"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    variables = {"MLFLOW_TRACKING_URI": store, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    with _healthy(f"http://127.0.0.1:{port}", command, variables, folder / "serve.log") as server:
        yield server


@contextmanager
def prefect(folder: Path, database: str | None = None, port: int | None = None, **variables: str) -> Iterator[Server]:
    """A Prefect server, its home in `folder`, on SQLite or on `database`. The URL is that of its API."""
    port = port or free_port()
    variables |= {"PREFECT_HOME": str(folder / "prefect")}
    variables |= {"PREFECT_SERVER_DATABASE_CONNECTION_URL": database} if database else {}
    url = f"http://127.0.0.1:{port}/api"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with _healthy(url, command, {**LEASES, **variables}, folder / "prefect.log") as server:
        yield server


def running(
    url: str, command: list, variables: Mapping[str, str], log: Path, **options
) -> AbstractContextManager[Server]:
    """Any server, which runs when it answers at its URL. Options: of `subprocess.Popen`."""
    return _running(url, command, variables, log, lambda: _answers(url), **options)


def _healthy(url: str, command: list, variables: Mapping[str, str], log: Path) -> AbstractContextManager[Server]:
    """A server in the folder of its log, which runs when it says that it is well."""
    return _running(url, command, environment(**variables), log, lambda: _answers(f"{url}/health"), cwd=log.parent)


@contextmanager
def _running(
    url: str,
    command: list,
    variables: Mapping[str, str],
    log: Path,
    ready: Callable[[], bool],
    end: int = signal.SIGTERM,
    **options,
) -> Iterator[Server]:
    with log.open("wb") as lines:
        process = subprocess.Popen(
            list(map(str, command)),
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=lines,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **options,
        )
    server = Server(url, process, log)
    try:
        deadline = time.monotonic() + PATIENCE
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} does not answer at {url}:\n{log.read_text(errors='replace')[-4000:]}")
            time.sleep(0.1)
        yield server
    finally:
        with suppress(subprocess.TimeoutExpired):
            server.end(end)
        server.end(signal.SIGKILL)


def _answers(url: str) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(url, timeout=5).status_code < 500
    return False


def postgres_program(program: str) -> str | None:
    """Where a program of PostgreSQL is on this machine; None where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))  # Debian's, which are on nobody's PATH
    return shutil.which(program) or (str(found[-1]) if found else None)


def _somebody() -> dict:
    """For `subprocess`: a user other than root where this is root."""
    if os.geteuid():
        return {}
    for user in ("postgres", "nobody"):
        with suppress(KeyError):
            return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}
    raise RuntimeError("PostgreSQL does not run as root, and there is no user postgres or nobody to run it as")
