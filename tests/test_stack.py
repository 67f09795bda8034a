"""The pinned packages work together: every one imports and is content. The servers: tests/test_no_calls_home.py."""

import importlib
import os
import shutil
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


def test_what_make_would_do_can_be_asked_in_an_empty_clone(root, tmp_path):
    for file in ("Makefile", "requirements.lock", "stages/runtime/startup.py"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / file, tmp_path / file)
    done = subprocess.run(["make", "-n", "repro"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "python -m pipelines.experiment" in done.stdout, done.stderr
    assert not (tmp_path / ".venv").is_file()  # an installation could not make its folder


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
