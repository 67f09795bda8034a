"""deploy/: what can be known of the files without starting a container or a cluster."""

import asyncio
import json
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
from kubernetes_asyncio.client import ApiClient, V1Job
from prefect.utilities.templating import apply_values
from prefect_kubernetes.worker import KubernetesWorker, KubernetesWorkerJobConfiguration
from ruamel.yaml import YAML

from pipelines.prefect import claims

VARIABLE = re.compile(r"\$\{(\w+)")
PIN = re.compile(r".+:v?\d+\.\d+(\.\d+)?(-[\w.-]+)?$")


@pytest.fixture(scope="module")
def deploy(root) -> Path:
    return root / "deploy"


@pytest.fixture(scope="module")
def compose(deploy) -> dict:
    return YAML(typ="safe").load(deploy / "compose.yaml")


@pytest.fixture(scope="module")
def settings(deploy) -> dict[str, str]:
    lines = (deploy / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_every_variable_of_compose_is_explained_and_no_secret_has_a_value(deploy, settings):
    used = set(VARIABLE.findall((deploy / "compose.yaml").read_text()))
    for_workers_elsewhere = {"PREFECT_API_URL", "MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL"}
    assert used | for_workers_elsewhere == set(settings)
    secret = {name for name in settings if re.search("PASSWORD|SECRET|AUTH|ACCESS_KEY", name)}
    assert len(secret) == 6 and {settings[name] for name in secret} == {""}


def test_what_is_empty_in_the_example_must_be_filled_in(deploy, settings):
    required = set(re.findall(r"\$\{(\w+):\?\}", (deploy / "compose.yaml").read_text()))
    assert {name for name, value in settings.items() if not value} - required == {"TORCH_INDEX"}


def test_images_are_pinned(compose, deploy, settings):
    images = {service["image"] for service in compose["services"].values()}
    assert settings["IMAGE"] == f"alignformer:{project_version(deploy.parent)}"
    own = "${IMAGE:?}"
    assert own in images and all(PIN.match(image) for image in images - {own})
    assert re.search(r"^FROM python:3\.11\.\d+-", (deploy / "Dockerfile").read_text(), re.MULTILINE)


def project_version(root: Path) -> str:
    return re.search(r'^version = "(.+)"', (root / "pyproject.toml").read_text(), re.MULTILINE)[1]


def test_ports_are_published_on_the_address_that_is_named(compose, settings):
    published = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert len(published) == 3 and all(port.startswith("${BIND:?}:") for port in published)
    assert settings["BIND"] == "127.0.0.1"
    assert "ports" not in compose["services"]["postgres"]


def test_servers_of_compose_ask_for_passwords_and_keep_claims(compose):
    mlflow, prefect = (compose["services"][name] for name in ("mlflow", "prefect"))
    assert mlflow["command"][-2:] == ["--app-name", "basic-auth"]
    assert mlflow["environment"]["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert "PREFECT_SERVER_API_AUTH_STRING" in prefect["environment"]
    assert prefect["environment"]["PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"].endswith(".filesystem")


def test_secrets_stay_out_of_git_and_of_the_image(root, deploy):
    ignored = subprocess.run(["git", "check-ignore", "--no-index", "deploy/.env"], cwd=root, capture_output=True)
    if (root / ".git").exists():
        assert ignored.returncode == 0
    left_out = (deploy / "Dockerfile.dockerignore").read_text().splitlines()
    assert {"**/.env", ".prefect", ".dvc/config.local"} <= set(left_out)


def test_the_job_template_is_prefects_own_with_what_the_project_adds(deploy):
    template = json.loads((deploy / "kubernetes" / "job-template.json").read_text())
    default = KubernetesWorker.get_default_base_job_template()
    assert set(template["variables"]["properties"]) - set(default["variables"]["properties"]) == {"gpus"}
    placeholders = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(template["job_configuration"])))
    assert placeholders == set(template["variables"]["properties"])


def job(template: dict, **values) -> dict:
    """As Prefect's worker makes it, without the server that it would ask for blocks and variables."""
    defaults = {
        name: found["default"] for name, found in template["variables"]["properties"].items() if "default" in found
    }
    filled = apply_values(template["job_configuration"], defaults | values, remove_notset=True)
    return KubernetesWorkerJobConfiguration(**filled).job_manifest


@pytest.mark.parametrize("gpus", [0, 4])
def test_a_job_made_of_the_template_is_one_that_kubernetes_knows(deploy, gpus):
    template = json.loads((deploy / "kubernetes" / "job-template.json").read_text())
    manifest = job(template, gpus=gpus, name="experiment", command="prefect flow-run execute")

    async def known() -> V1Job:
        async with ApiClient() as client:
            return client._ApiClient__deserialize(manifest, "V1Job")

    pod = asyncio.run(known()).spec.template.spec
    [container] = pod.containers
    assert container.image == "alignformer:0.1.0"
    assert container.resources.limits["nvidia.com/gpu"] == str(gpus)
    assert container.env_from[0].secret_ref.name == "alignformer"
    assert pod.security_context.run_as_non_root and not container.security_context.allow_privilege_escalation
    assert {mount.name for mount in container.volume_mounts} == {volume.name for volume in pod.volumes}


def test_charts_run_the_prefect_of_the_lock_and_keep_claims(deploy):
    worker, server, state = (
        YAML(typ="safe").load(deploy / "kubernetes" / name)
        for name in ("worker-values.yaml", "server-values.yaml", "state.yaml")
    )
    assert worker["worker"]["image"]["prefectTag"] == f"{version('prefect')}-python3.11-kubernetes"
    assert server["global"]["prefect"]["image"]["prefectTag"] == f"{version('prefect')}-python3.11"
    assert worker["worker"]["basicAuth"] == server["server"]["basicAuth"]
    leases = {item["name"]: item["value"] for item in server["server"]["env"]}
    assert leases["PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"].endswith(".filesystem")
    assert leases["PREFECT_HOME"] == server["server"]["extraVolumeMounts"][0]["mountPath"]
    assert server["server"]["extraVolumes"][0]["persistentVolumeClaim"]["claimName"] == state["metadata"]["name"]
    assert server["server"]["replicaCount"] == 1 and claims.LEASE >= 60
