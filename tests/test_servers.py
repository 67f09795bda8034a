"""What several machines share, with the real servers: PostgreSQL, an S3 store, MLflow and Prefect."""

import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmarks import servers

pytestmark = pytest.mark.programs

CONFIG = """
[core]
    no_scm = True
    remote = store
['remote "store"']
    url = s3://dvc/alignformer
    endpointurl = {url}
"""
PIPELINE = """
stages:
  prepare:
    cmd: echo prepared >> ran.log; cat words.txt > data.txt
    deps:
      - words.txt
    outs:
      - data.txt
  train:
    cmd: echo trained >> ran.log; mkdir -p model; cp data.txt model/weights; cp data.txt model/config
    deps:
      - data.txt
    outs:
      - model
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with servers.s3(tmp_path_factory.mktemp("s3"), "dvc") as running:
        yield running


def clone(folder: Path, url: str) -> Path:
    (folder / ".dvc").mkdir(parents=True)
    (folder / ".dvc" / "config").write_text(CONFIG.format(url=url))
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / "words.txt").write_text("words\n")
    return folder


MADE_AND_PUSHED = """
from dvc.repo import Repo
with Repo() as repo:
    repo.reproduce()
    repo.push(run_cache=True)
"""
REPRODUCED = """
import sys
from pipelines.dvc import remote
from pipelines.dvc.reproduce import StorageError, reproduce
for stage in sys.argv[1:]:
    try:
        outcome = reproduce(stage, print, pull=True)
        remote.push(stage)
        print("OUTCOME", stage, outcome)
    except StorageError as error:
        print("OUTCOME", stage, "StorageError", error)
"""


def reproduced(folder: Path, root: Path, *stages: str) -> list[str]:
    """Outcomes of the stages in a process of its own."""
    lines = said(folder, root, REPRODUCED, *stages)
    return [line.removeprefix("OUTCOME ") for line in lines if line.startswith("OUTCOME")]


def said(folder: Path, root: Path, script: str, *arguments: str) -> list[str]:
    """The lines of a script; all that DVC says is shown where the test fails."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=folder,
        env=servers.environment(PYTHONPATH=str(root), **servers.S3_KEYS),
        capture_output=True,
        text=True,
        timeout=200,
    )
    print(done.stdout, done.stderr)
    return done.stdout.splitlines()


def test_a_second_clone_takes_from_s3_what_the_first_made(root, tmp_path, store):
    first, second = clone(tmp_path / "first", store.url), clone(tmp_path / "second", store.url)
    said(first, root, MADE_AND_PUSHED)
    assert reproduced(second, root, "prepare", "train") == ["prepare cached", "train cached"]
    assert not (second / "ran.log").exists()
    assert (second / "model" / "weights").read_text() == "words\n"
    assert (second / "dvc.lock").read_bytes() == (first / "dvc.lock").read_bytes()


def test_a_store_that_is_away_is_an_outage_not_a_failure(root, tmp_path):
    folder = clone(tmp_path / "clone", f"http://127.0.0.1:{servers.free_port()}")
    [outcome] = reproduced(folder, root, "prepare")
    assert outcome.startswith("prepare StorageError")
    assert not (folder / "ran.log").exists()


@pytest.mark.parametrize("status", [500, 503, None], ids=["error", "busy", "connection cut"])
def test_a_store_in_trouble_is_an_outage_too(root, tmp_path, status):
    class Troubled(BaseHTTPRequestHandler):
        def answer(self):
            self.close_connection = True
            if status:
                self.send_error(status)

        do_GET = do_HEAD = do_PUT = do_POST = answer

    with ThreadingHTTPServer(("127.0.0.1", 0), Troubled) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        folder = clone(tmp_path / "clone", f"http://127.0.0.1:{server.server_port}")
        [outcome] = reproduced(folder, root, "prepare")
        server.shutdown()
    assert outcome.startswith("prepare StorageError")
    assert not (folder / "ran.log").exists()
