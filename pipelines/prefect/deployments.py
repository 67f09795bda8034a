"""What a Prefect server is told before it runs flows: the deployments, and when a run counts as dead."""

import os
import subprocess
import sys
from contextlib import suppress
from datetime import timedelta

from prefect.automations import Automation
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

SILENCE = timedelta(minutes=3)  # without a heartbeat, after which a run counts as dead
WATCH = "Runs whose process died"


class DeploymentError(Exception):
    """The deployments cannot be registered; the message holds Prefect's own."""


def deploy(url: str) -> None:
    """Register the deployments of `prefect.yaml` with a server.

    Without `PWD`: the folder of a flow must be filled in by its worker, not here once for every machine.

    Raises:
        DeploymentError: Prefect refuses.
    """
    variables = {name: value for name, value in os.environ.items() if name != "PWD"}
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
        env={**variables, "PREFECT_API_URL": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise DeploymentError(f"`prefect deploy --all` failed:\n{done.stdout.strip()}")


def crash_silent_runs() -> None:
    """Have the server in the settings mark a run as crashed when its heartbeat stops: its process or machine died.

    As in https://docs.prefect.io/v3/advanced/detect-zombie-flows. A run that only lost its connection, and completes
    later, is completed then.
    """
    with suppress(ValueError):  # what `read` raises where there is none
        Automation.read(name=WATCH)
        return
    ends = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed")}
    Automation(
        name=WATCH,
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.heartbeat", *ends},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=SILENCE,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                message=f"No heartbeat for {SILENCE.total_seconds():.0f} s: its process, or its machine, died.",
            )
        ],
    ).create()
