"""Real servers on free loopback ports, each in its own folder: PostgreSQL, S3, MLflow and Prefect.

Each is a context manager that yields the running `Server` and afterwards ends it with all its processes.
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
OURS = ("MLFLOW_", "PREFECT_", "DVC_", "AWS_")  # prefixes of variables that a test must not inherit

LEASES = {  # claims survive a restart of the server
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem"
}


@dataclass
class Server:
    """A running server: its address, its first process, which leads a session, and the file of its output."""

    url: str
    process: subprocess.Popen
    log: Path

    def end(self, number: int = signal.SIGTERM) -> None:
        """Send a signal to all its processes and wait for the first process to end."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)
        self.process.wait(30)


def environment(**more: str) -> dict[str, str]:
    """The environment of this process without settings of MLflow, Prefect, DVC and S3, and with `more`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    quiet = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}
    quiet |= {"DVC_NO_ANALYTICS": "1", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return {**kept, **quiet, "PATH": path, **more}


def free_port() -> int:
    """A free port on loopback."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def postgres_installed() -> bool:
    """Whether PostgreSQL's server is installed on this machine."""
    return bool(postgres_program("postgres") and postgres_program("initdb"))


@contextmanager
def postgres(*databases: str, user: str = "alignformer", password: str = "password") -> Iterator[Server]:
    """A PostgreSQL server with these databases. Its URL has user and password and ends with the port; add `/DATABASE`.

    PostgreSQL refuses to run as root, so root runs it as user `postgres` or `nobody`.
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
    """An S3 server (moto, in memory) with these buckets. It accepts `S3_KEYS`, and any other keys."""
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
    """An MLflow server on a database; it stores artifacts in a folder or `s3://BUCKET` and serves them."""
    port = port or free_port()
    variables |= {"MLFLOW_BACKEND_STORE_URI": store, "MLFLOW_ARTIFACTS_DESTINATION": artifacts}
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    url = f"http://127.0.0.1:{port}"
    with _healthy(url, [*command, *options], variables, folder / "mlflow.log") as server:
        yield server


@contextmanager
def mlflow_model(folder: Path, model: str, store: str) -> Iterator[Server]:
    """`mlflow models serve` for a model in a store, with the packages of this environment; it runs in `folder`."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", model, "--env-manager", "local"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    variables = {"MLFLOW_TRACKING_URI": store, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    with _healthy(f"http://127.0.0.1:{port}", command, variables, folder / "serve.log") as server:
        yield server


@contextmanager
def prefect(folder: Path, database: str | None = None, port: int | None = None, **variables: str) -> Iterator[Server]:
    """A Prefect server with its home in `folder`, on SQLite or on `database`. Its URL is that of the API."""
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
    """Any server; it is ready when it responds at its URL. Options are passed to `subprocess.Popen`."""
    return _running(url, command, variables, log, lambda: _answers(url), **options)


def _healthy(url: str, command: list, variables: Mapping[str, str], log: Path) -> AbstractContextManager[Server]:
    """A server that runs in the folder of its log and is ready when its health check responds."""
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
    """The path of a PostgreSQL program on this machine; None if it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))  # Debian's are not on PATH
    return shutil.which(program) or (str(found[-1]) if found else None)


def _somebody() -> dict:
    """Options of `subprocess` that select another user if this process runs as root."""
    if os.geteuid():
        return {}
    for user in ("postgres", "nobody"):
        with suppress(KeyError):
            return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}
    raise RuntimeError("PostgreSQL does not run as root, and there is no user postgres or nobody to run it as")
