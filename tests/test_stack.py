"""The pinned packages work together: every one imports, is content, and every server starts and answers a read."""

import importlib
import os
import subprocess
import sys
import tomllib

import pytest


@pytest.mark.parametrize(
    "package", ["torch", "transformers", "accelerate", "dvc.api", "mlflow", "prefect", "pycocotools"]
)
def test_imports(package):
    importlib.import_module(package)


def test_a_test_that_starts_a_program_needs_the_mark():
    with pytest.raises(pytest.fail.Exception, match=f"{__name__.rpartition('.')[2]}.* needs the mark `programs`"):
        subprocess.run([sys.executable, "-c", ""])


@pytest.mark.programs
def test_pip_is_content():
    done = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.programs
def test_no_switch_against_calls_home_is_missing():
    script = (
        "import os; from stages.runtime import startup; startup.start(); "
        "print(all(os.environ[name] for name in startup.SWITCHES))"
    )
    clean = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}
    done = subprocess.run([sys.executable, "-c", script], env=clean, capture_output=True, text=True)
    assert done.stdout.strip() == "True", done.stderr


@pytest.mark.programs
def test_importing_the_project_does_nothing():
    script = (
        "import gc, os, threading; before = gc.get_threshold(), dict(os.environ), threading.active_count(); "
        "import models, stages, pipelines, stages.runtime.startup; "
        "print((gc.get_threshold(), dict(os.environ), threading.active_count()) == before)"
    )
    environment = os.environ | {"DVC_STAGE": "train", "MLFLOW_TRACKING_URI": "http://a:b@host"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "True", done.stderr


@pytest.mark.programs
def test_a_password_in_the_address_of_mlflow_is_taken_out_of_it():
    """MLflow prints the address at the end of a run, and in errors."""
    script = (
        "import os; from stages.runtime.startup import start; start(); "
        "print(*(os.environ[f'MLFLOW_TRACKING_{name}'] for name in ('URI', 'USERNAME', 'PASSWORD')))"
    )
    address = {"MLFLOW_TRACKING_URI": "https://some%40one:pass%2Fword@host:5000/base"}
    done = subprocess.run([sys.executable, "-c", script], env=os.environ | address, capture_output=True, text=True)
    assert done.stdout.split() == ["https://host:5000/base", "some@one", "pass/word"], done.stderr


def test_make_finds_the_packages_where_the_users_python_does_not_look_into_the_folder(root):
    probe = "--eval=probe:;@python3 -c 'import stages.runtime.layout'"
    environment = os.environ | {"PYTHONSAFEPATH": "1", "PYTHONPATH": ""}
    done = subprocess.run(["make", probe, "probe"], cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.programs
def test_mlflow_server_reads_its_store(tmp_path):
    script = """
import os
os.environ["_MLFLOW_SERVER_FILE_STORE"] = "sqlite:///mlflow.db"
os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] = "mlartifacts"
from fastapi.testclient import TestClient
from mlflow.server.fastapi_app import app
with TestClient(app, base_url="http://127.0.0.1") as client:
    assert client.get("/health").text == "OK"
    found = client.get("/api/2.0/mlflow/experiments/search", params={"max_results": 5})
    assert found.json()["experiments"][0]["name"] == "Default", found.text
"""
    _run(script, tmp_path)


@pytest.mark.programs
def test_prefect_server_answers_filtered_reads(tmp_path):
    script = """
from fastapi.testclient import TestClient
from prefect.server.api.server import create_app
with TestClient(create_app(ephemeral=True)) as client:
    assert client.get("/api/health").json() is True
    for kind in ("flows", "flow_runs", "task_runs", "deployments"):
        found = client.post(f"/api/{kind}/filter", json={"limit": 5})
        assert (found.status_code, found.json()) == (200, []), (kind, found.text)
"""
    _run(script, tmp_path)


def _run(script, folder):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "PREFECT_API"))}
    environment |= {"PREFECT_HOME": str(folder), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "true"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_the_package_holds_every_folder_and_file(root):
    project = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    inits = [path for top in ("models", "stages", "pipelines") for path in (root / top).rglob("__init__.py")]
    assert sorted(project["packages"]) == sorted(".".join(path.parent.relative_to(root).parts) for path in inits)
    listed = {
        path
        for package, patterns in project["package-data"].items()
        for pattern in patterns
        for path in (root / package.replace(".", "/")).glob(pattern)
    }
    there = {path for top in ("models", "stages", "pipelines") for path in (root / top).rglob("*") if path.is_file()}
    assert {path for path in there if path.suffix not in (".py", ".pyc")} == listed
