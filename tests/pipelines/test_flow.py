"""The flow in this process, on a temporary Prefect server, with stages that are not DVC's."""

import logging
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from contextvars import copy_context

import httpx
import joblib
import psutil
import pytest
from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, LogFilter
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_HOME,
    PREFECT_PROFILES_PATH,
    get_current_settings,
    temporary_settings,
)
from prefect.states import Cancelling, Running

from pipelines.dvc import dag, remote, reproduce
from pipelines.dvc.dag import Pipeline
from pipelines.dvc.reproduce import LockedError, Outcome, StageFailedError, StorageError
from pipelines.flow import flow_run, form, up_to_date, view
from pipelines.flow import tasks as flow_tasks
from pipelines.flow.experiment import experiment
from pipelines.flow.scheduler import StageScheduler
from pipelines.prefect import claims, flow_runs, internals, server
from pipelines.prefect.claims import ClaimedError
from pipelines.prefect.server import ServerError
from stages.runtime import dvc_internals, experiments, params
from tests.project import EACH_TIME, PREPARED

DAG = {"prepare": set(), "train@a": {"prepare"}, "train@b": {"prepare"}, "report": {"train@a", "train@b"}}


@pytest.fixture(scope="module")
def prefect(tmp_path_factory, prefect_database):
    home = tmp_path_factory.mktemp("prefect")
    shutil.copy(prefect_database, home)
    with pytest.MonkeyPatch.context() as patch, temporary_settings({PREFECT_HOME: home, PREFECT_API_URL: None}):
        for name, value in {**PREPARED, "PREFECT_HOME": str(home)}.items():
            patch.setenv(name, value)
        patch.delenv("PREFECT_API_URL", raising=False)
        with server.temporary():
            yield


@pytest.fixture
def stages(prefect, tmp_path, monkeypatch):
    """What the stages do when they are run, by name, and the order in which they were; one core, no GPU."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvc").mkdir()
    does, ran = {}, []

    def run(stage, say, pull=False, environment=None):
        ran.append(stage)
        return does.get(stage, lambda: Outcome.RAN)()

    monkeypatch.setattr(flow_run, "reproduce", run)
    monkeypatch.setattr(flow_run, "PAUSES", (0.01, 0.1))
    monkeypatch.setattr(joblib, "cpu_count", lambda: 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(remote, "name", lambda: None)
    monkeypatch.setattr(dag, "look", lambda names: Pipeline(DAG, set(), {}))
    monkeypatch.setattr(dag, "sort_lock", lambda whole: None)
    does["ran"] = ran
    return does


def fail():
    raise StageFailedError("it ended with code 1")


def failing(*errors):
    """An error each time, then well."""
    left = list(errors)

    def run():
        if left:
            raise left.pop(0)
        return Outcome.RAN

    return run


def tasks(state) -> dict[str, str]:
    flow_runs.settle()
    with get_client(sync_client=True) as client:
        found = client.read_task_runs(
            flow_run_filter=FlowRunFilter.model_validate({"id": {"any_": [state.state_details.flow_run_id]}})
        )
    return {task.name: task.state.name for task in found}


def artifacts(state) -> dict[str, str]:
    return {item.key: str(item.data) for item in _artifacts(state)}


def _artifacts(state) -> list:
    with get_client(sync_client=True) as client:
        return [item for item in client.read_artifacts() if item.flow_run_id == state.state_details.flow_run_id]


def test_every_stage_in_order_and_what_the_ui_shows(stages, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://user:word@mlflow.example:5000/?token=secret")
    (tmp_path / "reports/tables").mkdir(parents=True)
    (tmp_path / "reports/tables/refcoco+.md").write_text("| variant | mIoU |\n| --- | --- |\n| vlba | 61.2 |\n")
    state = experiment(return_state=True)
    assert stages["ran"] == list(DAG)
    assert state.is_completed() and state.message == "4 ran, 0 cached, 0 unchanged, 0 failed, 0 skipped"
    assert {name: found for name, found in tasks(state).items() if name != "mlflow"} == dict.fromkeys(DAG, "Ran")
    shown = artifacts(state)
    assert shown["progress"] == "100.0" or shown["progress"] == "100"
    said = {item.key: item.description for item in _artifacts(state)}
    assert said["progress"].startswith("4 of 4 stages done in ")
    assert "| train@a | ran in 0 s |" in shown["stages"]
    assert "| vlba | 61.2 |" in shown["comparison-refcoco-plus"]
    assert f"`{tmp_path / 'reports/index.html'}` on the machine `{platform.node()}`" in shown["links"]
    assert not any("file://" in text for text in shown.values())  # which no other machine can open
    assert "https://mlflow.example:5000/" in shown["mlflow"] and "https://mlflow.example:5000/" in shown["links"]
    assert not any(secret in text for text in shown.values() for secret in ("word", "user:", "secret"))


def test_prefect_links_to_the_views_of_a_server_of_mlflow(stages, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://user:word@mlflow.example:5000")
    view = "https://mlflow.example:5000/#/experiments/1/runs?viewStateShareKey=scenes-variants"
    given = []

    def sync(called, module, *arguments, say):
        given.append((module, *arguments))
        return ["3 runs are new", f"scenes: variants: {view}"]

    monkeypatch.setattr(flow_tasks, "run", sync)
    state = experiment(return_state=True)
    assert given == [("pipelines.sync", "--experiment", "default", "--ui", "https://mlflow.example:5000")]
    assert artifacts(state)["views"] == f"- [scenes: variants]({view})\n"


@pytest.mark.parametrize(
    ("targets", "deployment", "name"),
    [
        ([], "", "experiment: d, 4 stages"),
        (["train"], "", "experiment: train"),
        ([], "nightly", "nightly: d, 4 stages"),
    ],
)
def test_a_flow_run_is_named_for_what_it_does(stages, monkeypatch, targets, deployment, name):
    named = {"prepare@d": set(), "train@a": {"prepare@d"}, "train@b": {"prepare@d"}, "report": {"train@a", "train@b"}}
    monkeypatch.setattr(dag, "look", lambda names: Pipeline(named, set(), {}))
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__NAME", deployment)
    state = experiment(targets, return_state=True)
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(state.state_details.flow_run_id).name == name


def test_every_line_of_prefects_log_names_its_stage(stages, monkeypatch):
    def run(stage, say, pull=False, environment=None):
        say("epoch 1/2")
        return Outcome.RAN

    monkeypatch.setattr(flow_run, "reproduce", run)
    state = experiment(["train@a"], return_state=True)

    def logged() -> list[str]:
        with get_client(sync_client=True) as client:
            logs = client.read_logs(LogFilter.model_validate({"flow_run_id": {"any_": [run_id]}}))
        return [log.message for log in logs]

    run_id = state.state_details.flow_run_id
    for _ in range(100):  # they are sent in batches
        if "train@a: epoch 1/2" in logged():
            break
        time.sleep(0.2)
    assert {"prepare: epoch 1/2", "train@a: epoch 1/2"} <= set(logged())


def test_a_terminal_gets_warnings_and_what_nobody_expected(stages, monkeypatch):
    def warn():
        get_run_logger().warning("few images")
        return Outcome.RAN

    def bug():
        raise KeyError("colour")

    said = []
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    internals.show_only_warnings(said.append)
    stages.update({"prepare": warn, "train@a": fail, "train@b": bug})
    with view.shown(shown := view.View()):
        assert experiment(return_state=True).is_failed()
    assert said[0] == "few images" and said[1].startswith("mlflow: MLflow is not in step") and len(said) == 2
    cause = shown.progress.cause("train@b")
    assert cause[0].startswith("Traceback") and cause[-1] == "KeyError: 'colour'"


def test_a_failed_training_is_not_tried_again_and_stops_only_what_waits_for_it(stages):
    stages["train@a"] = fail
    state = experiment(return_state=True)
    assert stages["ran"] == ["prepare", "train@a", "train@b"]
    assert state.is_failed()
    assert state.message == "2 ran, 0 cached, 0 unchanged, 1 failed, 1 skipped; failed: train@a; skipped: report"
    assert tasks(state)["report"] == "Skipped"
    assert artifacts(state)["progress"].startswith("50")


def test_nothing_starts_after_a_failure_where_it_is_not_to_keep_going(stages):
    stages["train@a"] = fail
    state = experiment(keep_going=False, return_state=True)
    assert stages["ran"] == ["prepare", "train@a"]
    assert state.is_failed() and "1 failed, 2 skipped" in state.message
    assert tasks(state)["train@b"] == "Skipped"


def test_a_lock_a_claim_and_a_storage_are_waited_for_and_others_have_the_turn(stages):
    stages["train@a"] = failing(LockedError("busy"), ClaimedError("another machine"), StorageError("away"))
    state = experiment(return_state=True)
    assert state.is_completed(), state.message
    assert Counter(stages["ran"]) == {"prepare": 1, "train@a": 4, "train@b": 1, "report": 1}
    assert stages["ran"].index("train@b") < len(stages["ran"]) - 2  # with one job, while the other waited
    assert stages["ran"][-1] == "report"


def test_a_storage_that_stays_away_is_a_failure(stages, monkeypatch):
    monkeypatch.setattr(flow_run, "FAULTS", 3)
    stages["prepare"] = failing(*[StorageError("no route")] * 9)
    state = experiment(["prepare"], return_state=True)
    assert state.is_failed() and stages["ran"] == ["prepare"] * 3
    assert "mlflow" in tasks(state)  # it ends the run that a failed stage may have left open


def test_what_dvc_would_skip_is_not_asked_again_unless_something_before_it_ran(stages, monkeypatch):
    monkeypatch.setattr(dag, "look", lambda names: Pipeline(DAG, {"prepare", "train@a", "report"}, {}))
    state = experiment(return_state=True)
    assert stages["ran"] == ["train@b", "report"]
    assert state.message.startswith("2 ran, 0 cached, 2 unchanged")


@pytest.mark.parametrize(
    ("before", "after", "outcome"),
    [
        ({"data.json": "a1"}, {"data.json": "a1"}, "unchanged"),
        ({"data.json": "a1"}, {"data.json": "b2"}, "one"),
        (None, {"data.json": "a1"}, "one"),  # before, the file was not as dvc.lock has it
    ],
)
def test_what_runs_each_time_is_unchanged_where_its_outputs_are(stages, monkeypatch, before, after, outcome):
    """Then nothing that needs it is asked, and MLflow is left alone. Else, what needs it is looked at once more."""
    outputs = {} if before is None else {"prepare": before}
    unchanged = iter([{"train@a", "train@b", "report"}, {"train@b", "report"}])
    monkeypatch.setattr(dag, "look", lambda names: Pipeline(DAG, next(unchanged), outputs, {"prepare": "look"}))
    monkeypatch.setattr(dag, "recorded_outputs", lambda stage: after)
    state = experiment(return_state=True)
    if outcome == "unchanged":
        assert stages["ran"] == ["prepare"]
        assert state.message.startswith("0 ran, 0 cached, 4 unchanged")
        assert tasks(state) == dict.fromkeys(DAG, "Unchanged")
    else:
        assert stages["ran"] == ["prepare", "train@a", "report"]
        assert state.message.startswith("3 ran, 0 cached, 1 unchanged") and "mlflow" in tasks(state)


def test_a_stage_of_dvc_that_runs_each_time_is_unchanged_where_its_outputs_are(prefect, root, tmp_path, monkeypatch):
    """So says the flow, and what looks before it whether anything is to do. Here both look in this process."""

    def summary() -> str:
        assert not up_to_date.stages(["default"], [])
        return experiment(return_state=True).message

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(root))
    monkeypatch.setattr(dag, "_stages", lambda of, *look: dvc_internals.stages(look=bool(look)))
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    no_scm = True\n")
    (tmp_path / "dvc.yaml").write_text(EACH_TIME)
    (tmp_path / "source.txt").write_text("words")
    assert summary() == "2 ran, 0 cached, 0 unchanged, 0 failed, 0 skipped"
    stages, commands = {"look": set(), "prepare": {"look"}}, {"look": "cat source.txt > seen.txt"}
    assert dag.look(["default"]) == (stages, {"prepare"}, {"look": dag.recorded_outputs("look")}, commands)
    assert up_to_date.stages(["default"], []) == stages
    assert experiment(return_state=True).message == "0 ran, 0 cached, 2 unchanged, 0 failed, 0 skipped"
    (tmp_path / "source.txt").write_text("other words")
    assert summary() == "2 ran, 0 cached, 0 unchanged, 0 failed, 0 skipped"
    (tmp_path / "seen.txt").write_text("changed by hand")
    assert summary() == "1 ran, 0 cached, 1 unchanged, 0 failed, 0 skipped"
    assert (tmp_path / "seen.txt").read_text() == "other words"


def test_with_a_remote_a_stage_is_claimed_pulled_and_pushed(stages, monkeypatch):
    done, pushes = [], iter([StorageError("away"), None, None])

    class claimed:
        def __init__(self, stage, say):
            self.stage = stage

        def __enter__(self):
            done.append(f"claim {self.stage}")

        def __exit__(self, *error):
            done.append(f"release {self.stage}")

    def run(stage, say, pull=False, environment=None):
        done.append(f"repro {stage} {pull}")
        return Outcome.RAN if len(done) < 4 else Outcome.UNCHANGED

    def push(stage, say):
        done.append(f"push {stage}")
        if error := next(pushes):
            raise error

    monkeypatch.setattr(remote, "name", lambda: "storage")
    monkeypatch.setattr(server, "is_shared", lambda: True)
    monkeypatch.setattr(claims, "claimed", claimed)
    monkeypatch.setattr(remote, "push", push)
    monkeypatch.setattr(flow_run, "reproduce", run)
    state = experiment(["prepare"], return_state=True)
    assert done == ["claim prepare", "repro prepare True", "push prepare", "release prepare"] * 2
    assert state.message.startswith("1 ran, 0 cached, 0 unchanged")


def test_cancel_in_prefect_ends_it(stages, monkeypatch):
    stopped = threading.Event()

    def long():
        assert stopped.wait(120)
        fail()

    stages["train@a"] = long
    monkeypatch.setattr(flow_run, "stop", stopped.set)
    monkeypatch.setattr(flow_runs, "EVERY", 0.2)

    def cancel():
        while "train@a" not in stages["ran"]:
            time.sleep(0.05)
        with get_client(sync_client=True) as client:
            run = max(client.read_flow_runs(), key=lambda run: run.created)
            client.set_flow_run_state(run.id, Cancelling())

    threading.Thread(target=copy_context().run, args=(cancel,)).start()
    state = experiment(return_state=True)
    assert state.is_cancelled() and "stopped: train@a" in state.message
    assert stages["ran"] == ["prepare", "train@a"]
    assert tasks(state) == {"prepare": "Ran", "train@a": "Stopped", "train@b": "Skipped", "report": "Skipped"}


def test_a_run_whose_process_is_gone_is_set_to_crashed(stages):
    gone = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    labels = flow_runs._labels(psutil.Process(gone.pid))
    gone.communicate(b"\n")
    others = {**labels, "host": "another"}
    with get_client(sync_client=True) as client:
        ids = []
        for marks in (labels, others, flow_runs._labels(psutil.Process())):
            ids.append(client.create_flow_run(experiment, state=Running()).id)
            client.update_flow_run_labels(ids[-1], marks)
        experiment(["prepare"], return_state=True)
        assert [client.read_flow_run(run).state.type.value for run in ids] == ["CRASHED", "RUNNING", "RUNNING"]


def test_overrides_are_in_place_before_the_dag_is_read_and_wrong_ones_run_nothing(stages, root, tmp_path, monkeypatch):
    file = tmp_path / "params.yaml"
    file.write_bytes(before := (root / "tests" / "params.yaml").read_bytes())
    seen = []
    look = lambda names: seen.append(params.read().experiment.seeds) or Pipeline(DAG, set(), {})  # noqa: E731
    monkeypatch.setattr(dag, "look", look)
    stages["prepare"] = fail
    assert experiment(["prepare"], overrides=["experiment.seeds=[7]"], return_state=True).is_failed()
    assert seen == [[7]]
    assert file.read_bytes() == before.replace(b"seeds: [0, 1]", b"seeds: [7]")  # for good, whatever becomes of the run
    state = experiment(overrides=["experiment.seedz=[7]"], return_state=True)
    assert state.is_failed() and "did you mean seeds?" in state.message and stages["ran"] == ["prepare"]
    state = experiment(["nope"], return_state=True)
    assert state.is_failed() and state.message.startswith("no stage 'nope'")


def test_the_form_says_what_each_field_does():
    shown = experiment.parameters.properties
    assert list(shown) == ["targets", "experiments", "overrides", "save_as", "jobs", "keep_going"]
    assert all(field["description"] for field in shown.values())
    assert "for good" in shown["overrides"]["description"] and "stays as it is" in shown["save_as"]["description"]
    assert "of the one experiment that" in shown["overrides"]["description"]
    assert all(field["default"] is not None for field in shown.values())  # else a field is hidden behind "None"


def test_the_form_offers_experiments_and_kinds_of_stages(root, tmp_path, monkeypatch):
    monkeypatch.chdir(root)
    assert form.experiment()["enum"] == experiments.names() and "refcoco" in experiments.names()
    assert form.target()["enum"] == list(dvc_internals.read_yaml(root / "dvc.yaml")["stages"])
    monkeypatch.chdir(tmp_path)
    assert form.target() == {"type": "string"}  # the flow says that there is no dvc.yaml
    shown = experiment.parameters.properties
    assert [shown[name]["items"]["type"] for name in ("targets", "experiments")] == ["string", "string"]
    assert "refcoco" in shown["experiments"]["items"]["enum"] and "train" in shown["targets"]["items"]["enum"]


@pytest.mark.parametrize(
    ("given", "allowed", "at_once"), [({}, "", 3), ({}, "-1", 3), ({}, "0,1", 2), ({"jobs": 5}, "0,1", 5)]
)
def test_the_jobs_are_the_gpus_of_the_machine_or_else_its_cores(stages, monkeypatch, given, allowed, at_once):
    seen = []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", allowed)
    monkeypatch.setattr(joblib, "cpu_count", lambda: 3)
    scheduler = lambda dag, jobs: seen.append(jobs) or StageScheduler(dag, jobs)  # noqa: E731
    monkeypatch.setattr(flow_run, "StageScheduler", scheduler)
    assert experiment(return_state=True, **given).is_completed()
    assert seen == [at_once]


@pytest.mark.parametrize(
    ("named_by", "way_out"),
    [
        ("environment", "unset PREFECT_API_URL"),
        ("profile", "make unschedule"),
        ("file", "take its address out of .env"),
    ],
)
def test_a_server_that_does_not_answer_is_named_without_its_password(prefect, monkeypatch, tmp_path, named_by, way_out):
    url = "http://user:word@127.0.0.1:9/api"
    with temporary_settings({PREFECT_API_URL: url, PREFECT_PROFILES_PATH: tmp_path / "profiles.toml"}):
        if named_by == "environment":
            monkeypatch.setenv("PREFECT_API_URL", url)
        if named_by == "profile":
            internals.write_url_in_profile(url)
        with pytest.raises(ServerError, match=rf"http://127.0.0.1:9/api does not answer.*{way_out}"):
            server.check()
    server.check()


@pytest.mark.parametrize(
    ("name", "value", "stays"),
    [
        ("ALL_PROXY", "socks://127.0.0.1:9/", False),  # as GNOME writes it
        ("all_proxy", "socks5h://127.0.0.1:9", False),  # httpx needs a package for it
        ("HTTPS_PROXY", "http://[::1", False),
        ("http_proxy", "127.0.0.1:9", True),
        ("HTTP_PROXY", "http://user:word@127.0.0.1:9", True),
        ("NO_PROXY", "socks://", True),
    ],
)
def test_a_proxy_that_prefect_cannot_use_is_left_out(monkeypatch, capsys, name, value, stays):
    monkeypatch.setenv(name, value)
    server.leave_out_unusable_proxies()
    assert (name in os.environ) == stays
    assert capsys.readouterr().err.startswith("" if stays else f"{name} is left out")
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        get_client(sync_client=True)


def test_the_temporary_server_is_on_loopback_and_ends_with_its_flow(prefect):
    code = (
        "from pipelines.prefect import server\nwith server.temporary():\n print(server.address(), flush=True); input()"
    )
    flow = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    url = flow.stdout.readline().strip()
    assert url.startswith("http://127.0.0.1:")
    (child,) = psutil.Process(flow.pid).children()
    assert httpx.get(f"{url}/health", trust_env=False).is_success
    flow.kill()
    flow.communicate()
    _, alive = psutil.wait_procs([child], timeout=60)
    assert not alive
    assert get_current_settings().api.url and reproduce._stopping.is_set() is False
