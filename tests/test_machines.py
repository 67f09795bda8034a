"""Two machines on all the servers, each with a password: refused without, done with, and the passwords found nowhere.

One machine runs a flow, and another, which has computed everything by itself, brings MLflow into step.

MLflow and Prefect are on PostgreSQL where it is installed, or else on SQLite.
Every secret is a mark that is looked for afterwards in all that was written: both databases, the store, the clone, what
the programs printed.
"""

import io
import os
import secrets
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import boto3
import httpx
import psutil
import pytest

from benchmarks import servers
from benchmarks.clones import tiny
from pipelines.mlflow.sync import sync
from stages.runtime import keys
from stages.tracking import flavour, store
from tests.project import clone

SECRETS = ("POSTGRES", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "MLFLOW", "FLASK", "PREFECT")
TARGETS = ("evaluate@scenes-baseline-0", "diagnose@scenes-baseline-0")
REMOTE = """
[core]
    remote = store
['remote "store"']
    url = s3://dvc/alignformer
"""
pytestmark = pytest.mark.programs


@dataclass
class Machines:
    """The servers, the variables that tell a clone about them, and every secret by its name."""

    running: dict[str, servers.Server]
    variables: dict[str, str]
    marks: dict[str, str]
    folder: Path


@pytest.fixture(scope="module")
def machines(root, tmp_path_factory) -> Iterator[Machines]:
    folder = tmp_path_factory.mktemp("servers")
    settings = (root / "deploy" / "mlflow_auth.ini").read_text()
    hashed_once = "auth_cache_ttl_seconds = 3600\n"  # for each request, it would take most of the server's time
    (folder / "mlflow_auth.ini").write_text(settings + hashed_once)
    marks = {name: f"marked{name.replace('_', '')}{secrets.token_hex(6)}" for name in SECRETS}
    s3 = {name: marks.get(name, value) for name, value in servers.S3_KEYS.items()}
    with ExitStack() as stack:
        running = {}
        databases = {"mlflow": f"sqlite:///{folder}/mlflow.db", "prefect": None}
        if servers.postgres_installed():
            running["postgres"] = stack.enter_context(servers.postgres("mlflow", "prefect", password=marks["POSTGRES"]))
            url = running["postgres"].url.removeprefix("postgresql")
            databases = {"mlflow": f"postgresql+psycopg{url}/mlflow", "prefect": f"postgresql+asyncpg{url}/prefect"}
        store = stack.enter_context(servers.s3(folder, "dvc", "mlflow"))
        s3["AWS_ENDPOINT_URL"] = store.url
        mlflow = stack.enter_context(
            servers.mlflow(
                folder,
                databases["mlflow"],
                "s3://mlflow",
                *("--app-name", "basic-auth"),
                **s3,
                MLFLOW_AUTH_CONFIG_PATH=str(folder / "mlflow_auth.ini"),
                MLFLOW_AUTH_ADMIN_PASSWORD=marks["MLFLOW"],
                MLFLOW_FLASK_SERVER_SECRET_KEY=marks["FLASK"],
                MLFLOW_SERVER_ALLOWED_HOSTS="mlflow:5000,127.0.0.1:*",
            )
        )
        prefect = stack.enter_context(
            servers.prefect(
                folder,
                databases["prefect"],
                PREFECT_SERVER_API_AUTH_STRING=f"admin:{marks['PREFECT']}",
            )
        )
        variables = {
            **s3,
            "MLFLOW_TRACKING_URI": mlflow.url.replace("://", f"://admin:{marks['MLFLOW']}@"),
            "PREFECT_API_URL": prefect.url,
            "PREFECT_API_AUTH_STRING": f"admin:{marks['PREFECT']}",
        }
        running |= {"store": store, "mlflow": mlflow, "prefect": prefect}
        yield Machines(running, variables, marks, folder)


@pytest.fixture(scope="module")
def flow(root, machines, tmp_path_factory) -> tuple[Path, str]:
    """A model with its scores, from nothing, in a clone that knows servers and secrets from its environment alone."""
    folder = tiny(clone(root, tmp_path_factory.mktemp("project")))
    (folder / ".dvc" / "config.local").write_text(REMOTE)
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.experiment", "--jobs", "2", *TARGETS],
        cwd=folder,
        env=servers.environment(**machines.variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    return folder, done.stdout


def test_mlflow_asks_for_a_password(machines):
    url = machines.running["mlflow"].url
    search = f"{url}/api/2.0/mlflow/experiments/search?max_results=1"
    assert httpx.get(search).status_code == 401
    assert httpx.get(search, auth=("admin", "wrong")).status_code == 401
    assert httpx.get(search, auth=("admin", machines.marks["MLFLOW"])).status_code == 200
    assert httpx.get(f"{url}/health").status_code == 200  # which a health check needs


def test_mlflow_answers_only_to_its_names(machines):
    search = f"{machines.running['mlflow'].url}/api/2.0/mlflow/experiments/search?max_results=1"
    codes = {
        host: httpx.get(search, auth=("admin", machines.marks["MLFLOW"]), headers={"Host": host}).status_code
        for host in ("mlflow:5000", "elsewhere.example")
    }
    assert codes == {"mlflow:5000": 200, "elsewhere.example": 403}


def test_prefect_asks_for_a_password(machines):
    url = machines.running["prefect"].url
    assert httpx.post(f"{url}/flows/filter", json={}).status_code == 401
    assert httpx.post(f"{url}/flows/filter", json={}, auth=("admin", "wrong")).status_code == 401
    assert httpx.post(f"{url}/flows/filter", json={}, auth=("admin", machines.marks["PREFECT"])).status_code == 200
    assert httpx.get(f"{url}/health").status_code == 200


def test_every_server_listens_on_loopback_alone(machines):
    for name, server in machines.running.items():
        process = psutil.Process(server.process.pid)
        sockets = [
            each for one in [process, *process.children(recursive=True)] for each in one.net_connections(kind="inet")
        ]
        listening = {each.laddr.ip for each in sockets if each.status == psutil.CONN_LISTEN}
        assert listening == {"127.0.0.1"}, name


def test_the_flow_tells_mlflow_and_the_store_all_it_made(machines, flow):
    _, output = flow
    auth = ("admin", machines.marks["MLFLOW"])
    url = f"{machines.running['mlflow'].url}/api/2.0/mlflow"
    ids = [
        each["experiment_id"]
        for each in httpx.get(f"{url}/experiments/search?max_results=9", auth=auth).json()["experiments"]
    ]
    runs = httpx.post(f"{url}/runs/search", json={"experiment_ids": ids}, auth=auth).json()["runs"]
    assert [each["info"]["status"] for each in runs] == ["FINISHED", "FINISHED"], output[-3000:]
    names = [(bucket, name) for bucket, name, _ in stored(machines)]
    assert {name.split("/")[0] for bucket, name in names if bucket == "dvc"} == {"alignformer"}
    assert any(bucket == "mlflow" and name.endswith("model.safetensors") for bucket, name in names)
    assert not httpx.post(
        f"{machines.running['prefect'].url}/v2/concurrency_limits/filter",
        json={},
        auth=("admin", machines.marks["PREFECT"]),
    ).json(), "a claim is left"


def test_it_makes_what_dvc_repro_makes(flow, reproduced):
    """With other servers, and two stages at once."""
    made, alone = (keys.locked_entries(folder / "dvc.lock") for folder in (flow[0], reproduced.folder))
    assert len(made) == 6
    assert list(made.items()) == [(stage, entry) for stage, entry in alone.items() if stage in made]


@pytest.fixture(scope="module")
def completed(machines, flow, reproduced, tmp_path_factory) -> Iterator[list[str]]:
    """The other machine as the current folder, and what its sync with the servers said."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(reproduced.copied_to(tmp_path_factory.mktemp("other") / "project"))
        for name in ("MLFLOW_EXPERIMENT_NAME", "DVC_ROOT", "DVC_STAGE"):
            patch.delenv(name, raising=False)
        patch.setenv("MLFLOW_TRACKING_URI", machines.running["mlflow"].url)
        patch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
        patch.setenv("MLFLOW_TRACKING_PASSWORD", machines.marks["MLFLOW"])
        lines: list[str] = []
        lines.append(sync(lines.append))
        yield lines


def test_a_sync_on_another_machine_completes_what_the_flow_told(completed):
    assert completed[-1].startswith("MLflow: 1 runs made, 2 runs completed, 0 runs unchanged")
    assert {"train@scenes-baseline-0: completed: tags, model, card", "train@scenes-alignformer-0: made"} <= set(
        completed
    )
    assert sync(print).startswith("MLflow: 0 runs made, 0 runs completed, 3 runs unchanged")


def test_no_secret_is_written_anywhere(machines, flow, completed):
    folder, output = flow
    written = {"what flow and sync printed": "\n".join([output, *completed]).encode()}
    written |= {f"log of {name}": server.log.read_bytes() for name, server in machines.running.items()}
    written |= {f"database {name}": dump(machines, name) for name in ("mlflow", "prefect")}
    written |= {f"s3://{bucket}/{name}": content for bucket, name, content in stored(machines)}
    written |= {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    found = [
        f"{mark} in {place}"
        for place, content in written.items()
        for mark in machines.marks
        if machines.marks[mark].encode() in content
    ]
    assert not found
    assert b"train@scenes-baseline-0" in written["database mlflow"]  # so that the search does read what is there
    assert b"train@scenes-baseline-0" in written["database prefect"]


def test_no_artifact_is_a_pickle(machines, flow, completed):
    folder, _ = flow
    made = {f"s3://{bucket}/{name}": content for bucket, name, content in stored(machines)}
    made |= {str(path): path.read_bytes() for path in (folder / "results").rglob("*") if path.is_file()}
    assert len(made) > 20
    release = [
        path.read_bytes() for path in (folder / "data").rglob("refs(*).p")
    ]  # REFER's, of plain lists: plain_pickle
    assert not [name for name, content in made.items() if is_pickle(name, content) and content not in release]


def test_a_model_that_is_registered_there_is_found(completed):
    """Last: the signed address of its file, by which the store gives it, names the key, and is in the store's log."""
    with store.opened() as opened:
        (made,) = store.search(opened, "tags.variant = 'alignformer'")
        (model,) = store.models_of(opened, made)
        opened.client.create_registered_model("best")
        store.register(opened, "best", model)
        opened.client.set_registered_model_alias("best", "champion", "1")
    weights = store.downloaded("models:/best@champion") / flavour.FOLDER / "model.safetensors"
    assert weights.read_bytes() == Path("results/models/scenes/alignformer/0/model.safetensors").read_bytes()


def stored(machines: Machines) -> Iterator[tuple[str, str, bytes]]:
    """Every object of the store: bucket, name, content."""
    client = boto3.client(
        "s3",
        endpoint_url=machines.running["store"].url,
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        region_name="us-east-1",
    )
    for bucket in ("dvc", "mlflow"):
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for item in page.get("Contents", []):
                yield bucket, item["Key"], client.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()


def dump(machines: Machines, database: str) -> bytes:
    """A whole database: as SQL, or the files of SQLite."""
    if "postgres" not in machines.running:
        return b"".join(path.read_bytes() for path in machines.folder.rglob(f"{database}.db*"))
    command = [servers.postgres_program("pg_dump"), f"{machines.running['postgres'].url}/{database}"]
    return subprocess.run(command, env=dict(os.environ), check=True, capture_output=True).stdout


def is_pickle(name: str, content: bytes) -> bool:
    """By name, by what protocol 2 and later begin with, or inside a zip, as `torch.save` writes it."""
    if zipfile.is_zipfile(io.BytesIO(content)):
        return any(inner.endswith((".pkl", ".pickle")) for inner in zipfile.ZipFile(io.BytesIO(content)).namelist())
    begins = content[:1] == b"\x80" and content[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05") and content[-1:] == b"."
    return begins or name.endswith((".pkl", ".pickle", ".pt", ".pth", ".joblib"))
