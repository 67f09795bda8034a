"""Do two machines that share only servers produce the same as one machine, even if one of them dies?

Starts PostgreSQL and an S3 store (moto), an MLflow server and a Prefect server that use them, and one Prefect worker in
each of two clones of the project. Two flow runs of one deployment share an ablation. SIGKILL ends one worker and its
flow in the middle of its second training; the other flow run finishes everything, the killed training included. Then
the dead worker starts again and brings its clone up to date. `dvc.lock` and `reports/` of both clones are compared with
those of a clone that ran `dvc repro` alone. Prefect's logs show which stage ran where, MLflow which runs it has.

Needs PostgreSQL and 10 to 30 minutes. Adds a row to `benchmarks/results/machines.csv`. The exit code is 1 if something
differs.
"""

import argparse
import filecmp
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import mlflow
import psutil

from benchmarks import servers, table
from benchmarks.clones import clone, run, set_params
from pipelines.prefect import daemons

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path("benchmarks/results/machines.csv")
VARIANTS, SEEDS = ["baseline", "alignformer"], [0, 1]
IMAGES = {"train": 200, "val": 8, "testA": 8, "testB": 8}
EPOCHS = 6
IN_THE_MIDDLE = (
    "epoch 2/"  # in the output of a training; at its second occurrence, the worker is in its second training
)
PATIENCE = 1200  # seconds for the whole ablation
RUNNING = re.compile(r"^\S+: Running stage '(.+)':$")


def main() -> None:
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that the servers end too
    parser = argparse.ArgumentParser(prog="python -m benchmarks.machines", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--keep", type=Path, help="folder that keeps clones and logs; an existing `alone` in it is used again"
    )
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        found = proof(folder.resolve(), stack)
    described = {"trainings": len(VARIANTS) * len(SEEDS), "epochs": EPOCHS, "images": IMAGES["train"]}
    surroundings = table.surroundings("torch", "dvc", "mlflow", "prefect", "moto")
    table.append(RESULTS, [surroundings | described | found | {"command": "python -m benchmarks.machines"}])
    print(json.dumps(found, indent=1))
    if "no" in found.values():
        sys.exit("error: see the columns with no")


def proof(folder: Path, stack: ExitStack) -> dict[str, object]:
    """The results, by column."""
    alone = folder / "alone"
    if not (alone / "reports" / "provenance.json").exists():
        _project(alone)
        with (folder / "alone.log").open("wb") as log:
            subprocess.run(["dvc", "repro"], cwd=alone, env=servers.environment(), check=True, stdout=log, stderr=log)

    first, second = _project(folder / "first"), _project(folder / "second")
    shared = stack.enter_context(shared_servers(folder))
    for place in (first, second):
        run(place, "dvc", "remote", "add", "--quiet", "--local", "--default", "store", "s3://dvc/alignformer")
    lasting = stack.enter_context(_worker(first, shared))
    doomed = stack.enter_context(_worker(second, shared))
    _prefect(first, shared, "deploy", "--name", "on-demand")
    runs = [_flow_run(first, shared) for _ in range(2)]

    log = folder / "second.log"
    _wait(lambda: log.read_text(errors="replace").count(IN_THE_MIDDLE) == 2, "a second training in the second clone")
    stage = _trainer(doomed).environ()["DVC_STAGE"]
    left = _kill(doomed)
    print(f"killed in {stage}; what it had started was gone after {left:.1f} s", flush=True)
    killed = time.monotonic()
    survivor = _wait(lambda: next((each for each in runs if _state(shared, each) == "COMPLETED"), None), "the survivor")
    results = {"killed in": stage, "its processes gone after, s": round(left, 1)}
    ran = {name: _ran(shared, each) for each in runs for name in [("second", "first")[each == survivor]]}
    results |= {"done after the kill, s": round(time.monotonic() - killed)}
    results |= {"trained by the first": _trained(ran["first"]), "trained by the second": _trained(ran["second"])}

    daemons.end([lasting])
    stack.enter_context(_worker(second, shared))
    third = _flow_run(second, shared)
    over = {"COMPLETED", "FAILED", "CRASHED"}
    ended = _wait(lambda: over & {_state(shared, third)}, "the second clone, brought up to date")
    again = _ran(shared, third)
    if "COMPLETED" not in ended:
        print(f"the second clone, brought up to date, ended as {ended}:\n{log.read_text(errors='replace')}", flush=True)

    times = Counter(name for stages in ran.values() for name in stages if name.startswith("train@"))
    once = len(times) == len(VARIANTS) * len(SEEDS) and times == Counter([*times, stage])
    results |= {"each trained once, the killed one twice": _yes(once)}
    results |= {"nothing trained again at the restart": _yes(not _trained(again))}
    results |= {f"{place.name} as alone": _yes(_same(alone, place)) for place in (first, second)}
    results |= {"MLflow has each training once": _yes(_in_mlflow(shared))}
    return results


@dataclass
class Shared:
    """The environment variables that tell the clones about the servers."""

    variables: dict[str, str]

    @property
    def prefect(self) -> str:
        return self.variables["PREFECT_API_URL"]


@contextmanager
def shared_servers(folder: Path) -> Iterator[Shared]:
    """PostgreSQL and S3, and MLflow and Prefect, which use them."""
    with ExitStack() as stack:
        database = stack.enter_context(servers.postgres("mlflow", "prefect"))
        driven = database.url.replace("postgresql:", "postgresql+{}:", 1)
        store = stack.enter_context(servers.s3(folder, "dvc", "mlflow"))
        keys = {**servers.S3_KEYS, "AWS_ENDPOINT_URL": store.url}
        tracking = stack.enter_context(
            servers.mlflow(folder, f"{driven.format('psycopg')}/mlflow", "s3://mlflow", **keys)
        )
        prefect = stack.enter_context(servers.prefect(folder, f"{driven.format('asyncpg')}/prefect"))
        yield Shared({**keys, "PREFECT_API_URL": prefect.url, "MLFLOW_TRACKING_URI": tracking.url})


def _project(folder: Path) -> Path:
    folder.mkdir()
    clone(ROOT, folder)
    set_params(
        folder,
        experiment__variants=VARIANTS,
        experiment__seeds=SEEDS,
        datasets__scenes__image_counts=IMAGES,
        recipes__small__training__epochs=EPOCHS,
    )
    return folder


@contextmanager
def _worker(place: Path, shared: Shared) -> Iterator[psutil.Popen]:
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "experiments", "--type", "process"]
    with (place.parent / f"{place.name}.log").open("ab") as log:
        process = psutil.Popen(
            [*command, "--limit", "1", "--name", f"{place.name}-{time.time():.0f}"],
            cwd=place,
            env=servers.environment(**shared.variables) | {"PWD": str(place)},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        pools = httpx.Client(base_url=shared.prefect)
        _wait(lambda: pools.get("/work_pools/experiments").status_code == 200, "the work pool")
        yield process
    finally:
        daemons.end([process])


def _prefect(place: Path, shared: Shared, *arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
        cwd=place,
        env=servers.environment(**shared.variables) | {"PWD": str(place)},
        check=True,
    )


def _flow_run(place: Path, shared: Shared) -> str:
    """Create a run of the deployment, which any worker may take; returns its id."""
    deployment = httpx.get(f"{shared.prefect}/deployments/name/experiment/on-demand").raise_for_status().json()
    url = f"{shared.prefect}/deployments/{deployment['id']}/create_flow_run"
    return httpx.post(url, json={"state": {"type": "SCHEDULED"}}).raise_for_status().json()["id"]


def _state(shared: Shared, flow_run: str) -> str:
    return httpx.get(f"{shared.prefect}/flow_runs/{flow_run}", timeout=60).raise_for_status().json()["state_type"]


def _ran(shared: Shared, flow_run: str) -> list[str]:
    """The stages that the flow run executed, from its log in Prefect."""
    query = {"logs": {"flow_run_id": {"any_": [flow_run]}}, "limit": 200, "sort": "TIMESTAMP_ASC"}
    found, page = [], None
    while page is None or page:
        page = httpx.post(f"{shared.prefect}/logs/filter", json=query | {"offset": len(found)}, timeout=60).json()
        found += page
    matches = [RUNNING.match(line["message"]) for line in found]
    return [match[1] for match in matches if match]


def _trained(stages: list[str]) -> int:
    return sum(stage.startswith("train@") for stage in stages)


def _trainer(worker: psutil.Process) -> psutil.Process:
    return next(each for each in worker.children(recursive=True) if each.cmdline()[1:3] == ["-m", "stages.train"])


def _kill(worker: psutil.Process) -> float:
    """Kill the worker and its flow; returns the seconds until all processes that they had started were gone."""
    everything = [worker, *worker.children(recursive=True)]
    flows = [each for each in everything if "prefect" in " ".join(each.cmdline())]
    for process in flows:
        process.kill()
    begun = time.monotonic()
    psutil.wait_procs(everything, timeout=60)
    return time.monotonic() - begun


def _same(alone: Path, place: Path) -> bool:
    """Whether dvc.lock and all files of reports/ are the same, byte for byte."""
    names = ["dvc.lock", *(str(path.relative_to(alone)) for path in (alone / "reports").rglob("*") if path.is_file())]
    _, different, absent = filecmp.cmpfiles(alone, place, names, shallow=False)
    print(f"{place.name}: {len(names)} files compared; different: {different}; absent: {absent}", flush=True)
    return not different and not absent


def _in_mlflow(shared: Shared) -> bool:
    """Whether MLflow has exactly one finished run, with its scores, for each variant and seed."""
    mlflow.set_tracking_uri(shared.variables["MLFLOW_TRACKING_URI"])
    runs = mlflow.search_runs(search_all_experiments=True, output_format="list")
    children = [each for each in runs if "mlflow.parentRunId" in each.data.tags]
    print(Counter((each.info.status, each.data.tags.get("stage")) for each in runs), flush=True)
    pairs = sorted((each.data.tags["variant"], each.data.tags["seed"]) for each in children)
    scored = all("val/mIoU" in each.data.metrics and each.info.status == "FINISHED" for each in children)
    return scored and pairs == sorted((variant, str(seed)) for variant in VARIANTS for seed in SEEDS)


def _wait(found: Callable[[], object], what: str):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if answer := found():
            return answer
        time.sleep(0.5)
    raise TimeoutError(f"{what}: not within {PATIENCE} s")


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"


if __name__ == "__main__":
    main()
