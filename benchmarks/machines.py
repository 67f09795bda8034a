"""Do two machines that share only servers produce the same as one machine, even if one of them dies?

Starts PostgreSQL and an S3 store (moto), an MLflow server and a Prefect server that use them, and one Prefect worker in
each of two clones of the project. Two flow runs of one deployment share an ablation. SIGKILL ends one worker and its
flow in the middle of its second training; the other flow run finishes everything, the killed training included. Then
the dead worker starts again and brings its clone up to date. `dvc.lock` and `reports/` of both clones are compared with
those of a clone that ran `dvc repro` alone. Prefect's logs show which stage ran where, MLflow which runs it has.

With `--experiments`, nobody is killed, and each flow run is of two experiments in a smaller setting: the default one,
and `more`, which has one more variant. What both have is to be computed once, by one of the two workers. A flow run of
the default experiment alone follows, which has nothing to compute.

Needs PostgreSQL and 10 to 30 minutes, or 5 to 10 with `--experiments`. Adds a row to `benchmarks/results/machines.csv`,
or to `machines_experiments.csv` beside it. The exit code is 1 if something differs.
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
from benchmarks.clones import clone, run, set_params, tiny
from pipelines.dvc import stage_name
from pipelines.prefect import daemons
from stages.runtime import experiments, keys, layout
from stages.runtime.experiments import DEFAULT

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path("benchmarks/results/machines.csv")
RESULTS_OF_EXPERIMENTS = RESULTS.with_name("machines_experiments.csv")
VARIANTS, SEEDS = ["baseline", "alignformer"], [0, 1]
IMAGES = {"train": 200, "val": 8, "testA": 8, "testB": 8}
EPOCHS = 6
IN_THE_MIDDLE = (
    "epoch 2/"  # in the output of a training; at its second occurrence, the worker is in its second training
)
PATIENCE = 1200  # seconds for the whole ablation
RUNNING = re.compile(r"^(\S+): Running stage '.+':$")
OVER = {"COMPLETED", "FAILED", "CRASHED"}
EACH_TIME = {"params", "fingerprint@scenes"}
BY_EACH = {*EACH_TIME, "report"}  # in every clone: the outputs of the report are in git, not in DVC's cache
PER_RUN = ("train", "evaluate", "diagnose", "card")
TWO = {DEFAULT: ["baseline"], "more": ["baseline", "vlba"]}  # experiment -> its variants, with one seed


def main() -> None:
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that the servers end too
    parser = argparse.ArgumentParser(prog="python -m benchmarks.machines", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--keep", type=Path, help="folder that keeps clones and logs; an existing `alone` in it is used again"
    )
    parser.add_argument("--experiments", action="store_true", help="two experiments in each flow run, and no kill")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        found = (side_by_side if arguments.experiments else proof)(folder.resolve(), stack)
    surroundings = table.surroundings("torch", "dvc", "mlflow", "prefect", "moto")
    if arguments.experiments:
        command = {"command": "python -m benchmarks.machines --experiments"}
        table.append(RESULTS_OF_EXPERIMENTS, [surroundings | found | command])
    else:
        described = {"trainings": len(VARIANTS) * len(SEEDS), "epochs": EPOCHS, "images": IMAGES["train"]}
        table.append(RESULTS, [surroundings | described | found | {"command": "python -m benchmarks.machines"}])
    print(json.dumps(found, indent=1))
    if "no" in found.values():
        sys.exit("error: see the columns with no")


def proof(folder: Path, stack: ExitStack) -> dict[str, object]:
    """The results, by column."""
    alone = _alone(folder, _project)
    first, second = _project(folder / "first"), _project(folder / "second")
    shared = stack.enter_context(shared_servers(folder))
    lasting, doomed = (stack.enter_context(_worker(place, shared)) for place in (first, second))
    _prefect(first, shared, "deploy", "--name", "on-demand")
    runs = [_flow_run(shared) for _ in range(2)]

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
    third = _flow_run(shared)
    ended = _wait(lambda: OVER & {_state(shared, third)}, "the second clone, brought up to date")
    again = _ran(shared, third)
    if "COMPLETED" not in ended:
        print(f"the second clone, brought up to date, ended as {ended}:\n{log.read_text(errors='replace')}", flush=True)

    times = Counter(name for stages in ran.values() for name in stages if name.startswith("train@"))
    once = len(times) == len(VARIANTS) * len(SEEDS) and times == Counter([*times, stage])
    results |= {"each trained once, the killed one twice": _yes(once)}
    results |= {"nothing trained again at the restart": _yes(not _trained(again))}
    results |= {f"{place.name} as alone": _yes(_same(alone, place)) for place in (first, second)}
    trainings = sorted((variant, str(seed)) for variant in VARIANTS for seed in SEEDS)
    results |= {"MLflow has each training once": _yes(_in_mlflow(shared) == {"alignformer": trainings})}
    return results


def side_by_side(folder: Path, stack: ExitStack) -> dict[str, object]:
    """The results of two experiments in each flow run, by column."""
    alone = _alone(folder, _two_experiments)
    first, second = _two_experiments(folder / "first"), _two_experiments(folder / "second")
    shared = stack.enter_context(shared_servers(folder))
    for place in (first, second):
        stack.enter_context(_worker(place, shared))
    _prefect(first, shared, "deploy", "--name", "on-demand")
    begun = time.monotonic()
    runs = [_flow_run(shared, experiments=list(TWO)) for _ in range(2)]
    ended = [_wait(lambda each=each: OVER & {_state(shared, each)}, "a flow run of two experiments") for each in runs]
    took = time.monotonic() - begun
    ran = [[stage for stage in _ran(shared, each) if stage_name.bare(stage) not in BY_EACH] for each in runs]
    print(*ran, sep="\n", flush=True)
    told = _in_mlflow(shared)

    again = _flow_run(shared, experiments=[DEFAULT])
    ended.append(_wait(lambda: OVER & {_state(shared, again)}, "a flow run of the default experiment"))

    made = Counter(stage_name.bare(stage) for stages in ran for stage in stages)
    per_run = [f"{stage}@scenes-{variant}-0" for stage in PER_RUN for variant in TWO["more"]]
    expected = Counter({"prepare@scenes": 1, **dict.fromkeys(per_run, 1), "ablate@scenes": 2})
    names = {DEFAULT: "alignformer", "more": "alignformer-more"}
    trainings = {names[experiment]: [(variant, "0") for variant in variants] for experiment, variants in TWO.items()}
    return {
        "experiments": 2,
        "computed by one": len(ran[0]),
        "by the other": len(ran[1]),
        "both done after, s": round(took),
        "flow runs completed": _yes(ended == [{"COMPLETED"}] * 3),
        "what both experiments have computed once, by one worker": _yes(made == expected),
        "default again: nothing computed": _yes(set(_ran(shared, again)) <= EACH_TIME),
        "first as alone": _yes(_same(alone, first)),
        "second as alone": _yes(_same(alone, second)),
        "MLflow has both experiments, each training once": _yes(told == trainings),
        "the same runs after default again": _yes(_in_mlflow(shared) == told),
    }


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


def _alone(folder: Path, make: Callable[[Path], Path]) -> Path:
    """A clone in which `dvc repro --all-pipelines` has run."""
    alone = folder / "alone"
    if not (alone / "reports" / "provenance.json").exists():
        make(alone)
        command = ["dvc", "repro", "--all-pipelines"]
        with (folder / "alone.log").open("wb") as log:
            subprocess.run(command, cwd=alone, env=servers.environment(), check=True, stdout=log, stderr=log)
    return alone


def _new(folder: Path) -> Path:
    folder.mkdir()
    clone(ROOT, folder)
    run(folder, "dvc", "remote", "add", "--quiet", "--local", "--default", "store", "s3://dvc/alignformer")
    return folder


def _two_experiments(folder: Path) -> Path:
    tiny(_new(folder))
    run(folder, sys.executable, "-m", "stages.params", "--new", "more")
    for experiment, variants in TWO.items():
        changes = {"experiment__variants": variants, "experiment__highlight": variants[-1]}
        set_params(folder / experiments.folder(experiment), **changes)
    return folder


def _project(folder: Path) -> Path:
    _new(folder)
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


def _flow_run(shared: Shared, **parameters: object) -> str:
    """Create a run of the deployment, which any worker may take; returns its id."""
    deployment = httpx.get(f"{shared.prefect}/deployments/name/experiment/on-demand").raise_for_status().json()
    url = f"{shared.prefect}/deployments/{deployment['id']}/create_flow_run"
    wanted = {"state": {"type": "SCHEDULED"}, "parameters": parameters}
    return httpx.post(url, json=wanted).raise_for_status().json()["id"]


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
    """Whether dvc.lock and all files of reports/ of every experiment are the same, byte for byte."""
    locks = sorted(path.relative_to(alone) for path in (alone / keys.LOCK, *alone.glob(f"experiments/*/{keys.LOCK}")))
    reports = [path for lock in locks for path in (alone / lock.parent / layout.REPORTS).rglob("*") if path.is_file()]
    names = [*map(str, locks), *(str(path.relative_to(alone)) for path in reports)]
    _, different, absent = filecmp.cmpfiles(alone, place, names, shallow=False)
    print(f"{place.name}: {len(names)} files compared; different: {different}; absent: {absent}", flush=True)
    return not different and not absent


def _in_mlflow(shared: Shared) -> dict[str, list[tuple[str, str]]]:
    """MLflow experiment -> variant and seed of its trainings; none where one is not finished or has no scores."""
    mlflow.set_tracking_uri(shared.variables["MLFLOW_TRACKING_URI"])
    found = {}
    for experiment in mlflow.search_experiments(filter_string="name LIKE 'alignformer%'"):
        runs = mlflow.search_runs([experiment.experiment_id], output_format="list")
        print(experiment.name, Counter((each.info.status, each.data.tags.get("stage")) for each in runs), flush=True)
        children = [each for each in runs if "mlflow.parentRunId" in each.data.tags]
        whole = all("val/mIoU" in each.data.metrics and each.info.status == "FINISHED" for each in children)
        pairs = sorted((each.data.tags["variant"], each.data.tags["seed"]) for each in children)
        found[experiment.name] = pairs if whole else []
    return found


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
