"""The injections: the fault, the process, the moment, and what must hold afterwards."""

import json
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from benchmarks.faults import moments, processes
from benchmarks.faults.moments import Moment
from benchmarks.faults.scene import FINISH, FLOW, PLAIN, TARGET, InjectionError, Scene, fill, trained
from benchmarks.servers import Server, free_port, mlflow
from stages.runtime import experiments, keys, layout
from stages.runtime.parent import alive

EVALUATE, DIAGNOSE, ABLATE = "evaluate@scenes-alignformer-0", "diagnose@scenes-alignformer-0", "ablate@scenes"
PATIENCE = 60  # seconds for a flow or dvc to end by itself after a stage failed
CUT_OFF = (moments.LOCK, moments.LOCK_PART, moments.RWLOCK)  # the flow repairs these files, plain dvc refuses them
NAMES = {signal.SIGINT: "SIGINT", signal.SIGTERM: "SIGTERM", signal.SIGKILL: "SIGKILL", signal.SIGSTOP: "SIGSTOP"}
STARTED = {FLOW: "flow", PLAIN: "dvc repro"}


@dataclass(frozen=True)
class Injection:
    """One row of the table.

    Attributes:
        fault, process, signal, when: columns of the table; together they name the injection.
        inject: injects the fault and checks what must hold.
        state: the state of the project before it, `empty` or a key of `place.STATES`.
        disk: size in MB of a file system for the project alone, which needs the right to mount; None for none.
    """

    fault: str
    process: str
    signal: str
    when: str
    inject: Callable[[Scene], None]
    state: str = "prepared"
    disk: int | None = None

    @property
    def name(self) -> str:
        return " / ".join(filter(None, (self.fault, self.process, self.signal, self.when)))


def all_injections() -> list[Injection]:
    """All injections, in the order of the table."""
    return [
        *ended_flows(),
        *ended_dvcs(),
        *ended_trainers(),
        *ended_stages(),
        *paused(),
        *full_disks(),
        *two_at_once(),
        *changed(),
        *beside(),
        *damaged(),
        *databases(),
        *deployed(),
    ]


def ended(
    kind: str, number: int, moment: Moment, command=FLOW, resumes: str | None = None, target: str = TARGET, **named
) -> Injection:
    """A process gets a signal that ends it while it, or another process, waits at a moment."""

    def inject(scene: Scene) -> None:
        targets = [target] if target else []
        process = scene.start(*command, *targets, moment=moment)
        scene.end_together(scene.interrupt(process) if kind == "group" else scene.signal(kind, number))
        scene.ends(process, f"the {STARTED[command]}", PATIENCE)
        scene.nothing_left()
        scene.nothing_half_written()
        scene.finish(*(FLOW if moment in CUT_OFF else PLAIN), *targets, resumes=resumes)
        scene.as_undisturbed(target)

    who = {"group": f"the terminal's group of {STARTED[command]} (Ctrl-C)"}.get(kind, kind)
    under = "" if kind in ("flow", "plain dvc", "group") else f" under {STARTED[command]}"
    of = "" if moment.process in (moments.REPRO,) else f" ({_stage_of(moment)})"
    return Injection("ended", f"{who}{under}", NAMES[number], f"{moment.text}{of}", inject, **named)


def _stage_of(moment: Moment) -> str:
    return moment.process.split()[0].removeprefix("stages.")


def ended_flows() -> Iterator[Injection]:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        yield ended("flow", number, moments.STEP, resumes="epoch 2")
    yield ended("group", signal.SIGINT, moments.STEP, resumes="epoch 2")
    yield ended("flow", signal.SIGKILL, moments.IMPORT)
    yield ended("flow", signal.SIGKILL, moments.HISTORY, resumes="the end")
    yield ended("flow", signal.SIGKILL, moments.LOCK)
    yield ended("flow", signal.SIGTERM, moments.COMMIT)


def ended_dvcs() -> Iterator[Injection]:
    for number in (signal.SIGTERM, signal.SIGKILL):
        yield ended("dvc", number, moments.STEP, resumes="epoch 2")
        yield ended("plain dvc", number, moments.STEP, PLAIN, resumes="epoch 2")
    yield ended("group", signal.SIGINT, moments.STEP, PLAIN, resumes="epoch 2")
    yield ended("plain dvc", signal.SIGKILL, moments.IMPORT, PLAIN)
    for moment in (moments.ENDED, moments.COMMIT, moments.CACHED, moments.LOCK, moments.LOCK_PART, moments.RWLOCK):
        resumes = "the end" if moment in (moments.ENDED, moments.COMMIT) else None
        yield ended("plain dvc", signal.SIGKILL, moment, PLAIN, resumes=resumes)
    yield ended("plain dvc", signal.SIGINT, moments.COMMIT, PLAIN)
    yield ended("dvc", signal.SIGKILL, moments.RWLOCK)


def ended_trainers() -> Iterator[Injection]:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        yield ended("trainer", number, moments.STEP, PLAIN, resumes="epoch 2")
    yield ended("trainer", signal.SIGKILL, moments.STEP, FLOW, resumes="epoch 2")
    yield ended("trainer", signal.SIGKILL, moments.IMPORT, PLAIN)
    yield ended("trainer", signal.SIGKILL, moments.VALIDATION, PLAIN, resumes="epoch 2")
    yield ended("trainer", signal.SIGKILL, moments.HALF, PLAIN, resumes="epoch 2")
    yield ended("trainer", signal.SIGTERM, moments.HALF, PLAIN, resumes="epoch 2")
    yield ended("trainer", signal.SIGKILL, moments.UNNAMED, PLAIN, resumes="epoch 2")
    yield ended("trainer", signal.SIGKILL, moments.MODEL, PLAIN, resumes="the end")
    yield ended("trainer", signal.SIGTERM, moments.MODEL, PLAIN, resumes="the end")
    yield ended("trainer", signal.SIGKILL, moments.HISTORY, PLAIN, resumes="the end")
    yield ended("trainer", signal.SIGKILL, moments.WRITTEN, PLAIN, resumes="the end")


def ended_stages() -> Iterator[Injection]:
    """The processes of the other stages, and all processes at once."""
    yield ended("evaluator", signal.SIGKILL, moments.SCORED, PLAIN, target=EVALUATE, state="trained")
    yield ended("diagnoser", signal.SIGKILL, moments.DIAGNOSED, PLAIN, target=DIAGNOSE, state="trained")
    yield ended("ablation", signal.SIGKILL, moments.COMPARED, PLAIN, target=ABLATE, state="evaluated")
    yield ended("report", signal.SIGKILL, moments.REPORTED, PLAIN, target="", state="compared")
    yield ended("preparer", signal.SIGKILL, moments.PREPARED, PLAIN, target=TARGET, state="empty")
    yield ended("everything", signal.SIGKILL, moments.STEP, FLOW, resumes="epoch 2", target="")


def paused() -> Iterator[Injection]:
    """A stopped process that wakes continues unharmed; one that never wakes is ended nevertheless."""

    def wakes(kind: str) -> Injection:
        def inject(scene: Scene) -> None:
            process = scene.start(*FLOW, TARGET, moment=moments.STEP)
            scene.signal(kind, signal.SIGSTOP)
            time.sleep(20)
            scene.signal(kind, signal.SIGCONT)
            scene.go()
            scene.wait(process, "the flow")
            scene.note("20 s later it went on to its end")
            scene.nothing_left()
            scene.as_undisturbed()

        return Injection("stopped for 20 s", kind, "SIGSTOP, SIGCONT", moments.STEP.text, inject)

    def sleeps(kind: str, number: int) -> Injection:
        def inject(scene: Scene) -> None:
            process = scene.start(*FLOW, TARGET, moment=moments.STEP)
            scene.signal(kind, signal.SIGSTOP)
            scene.end_together(scene.signal("flow", number))
            scene.ends(process, "the flow")
            scene.nothing_left()
            scene.finish(*PLAIN, TARGET, resumes="epoch 2")
            scene.as_undisturbed()

        return Injection(
            f"stopped for ever, then the flow ended ({NAMES[number]})", kind, "SIGSTOP", moments.STEP.text, inject
        )

    yield wakes("trainer")
    yield wakes("dvc")
    yield wakes("flow")
    yield sleeps("trainer", signal.SIGTERM)
    yield sleeps("trainer", signal.SIGKILL)
    yield sleeps("dvc", signal.SIGTERM)
    yield sleeps("dvc", signal.SIGKILL)


def full_disks() -> Iterator[Injection]:
    """The project's file system is full from a moment on until the command has ended."""

    def full(moment: Moment, resumes: str | None = None, target: str = TARGET, state: str = "prepared") -> Injection:
        targets = [target] if target else []

        def inject(scene: Scene) -> None:
            process = scene.start(*PLAIN, *targets, moment=moment)
            ballast = fill(scene.place)
            scene.go()
            scene.ends(process, "dvc repro", PATIENCE)
            scene.check("dvc repro ended with an error", process.returncode)
            scene.check("the error names the disk", "space" in scene.output(), scene.output()[-300:])
            scene.nothing_left()
            scene.nothing_half_written()
            ballast.unlink()
            scene.finish(*(FLOW if moment in CUT_OFF else PLAIN), *targets, resumes=resumes)
            scene.as_undisturbed(target)

        who = "dvc" if moment.process == moments.REPRO else _stage_of(moment)
        return Injection("disk full", who, "", f"from on: {moment.text}", inject, state, disk=100)

    yield full(replace(moments.VALIDATION, text="checkpoint of epoch 2"), resumes="epoch 2")
    yield full(replace(moments.MODEL, after=False, text="writing the model"), resumes="the end")
    yield full(moments.ENDED)
    yield full(moments.COMMIT)
    yield full(moments.LOCK)
    yield full(replace(moments.SCORED, after=False, text="writing the scores"), target=EVALUATE, state="trained")
    yield full(replace(moments.REPORTED, text="writing the report"), target="", state="compared")


def two_at_once() -> Iterator[Injection]:
    def two(first: tuple, second: tuple, refused: tuple[int, str] | None = None) -> Injection:
        """`refused`: exit code and message of the second command, if it must give way to the first."""

        def inject(scene: Scene) -> None:
            begin = time.monotonic()
            one = scene.start(*first)
            other = scene.start(*second)
            scene.wait(one, "the first")
            took = time.monotonic() - begin
            code, words = refused or (0, "")
            scene.wait(other, "the second", code)
            if refused:
                scene.check("the second says who is at it", words in scene.output(2), scene.output(2)[-300:])
            said = scene.output(1) + scene.output(2)
            scene.check("each training ran once", len(trained(said)) == len(set(trained(said))), str(trained(said)))
            scene.note(f"the first ended after {took:.0f} s, the second {'gave way' if refused else 'too'}")
            scene.note(f"{len(trained(said))} trainings in all")
            scene.nothing_left()
            scene.as_undisturbed("")

        names = [" ".join(command[1:]).removeprefix("-m ") for command in (first, second)]
        return Injection("two at once", f"{names[0]} | {names[1]}", "", "from the start", inject)

    def second_trainer(scene: Scene) -> None:
        process = scene.start(*FLOW, TARGET, moment=moments.STEP)
        by_hand = [
            sys.executable,
            "-m",
            "stages.train",
            "--dataset",
            "scenes",
            "--variant",
            "alignformer",
            "--seed",
            "0",
        ]
        second = scene.start(*by_hand)
        scene.wait(second, "the second trainer", code=1)
        scene.check("it says who trains", "is being trained already, by process" in scene.output(), scene.output())
        scene.go()
        scene.wait(process, "the flow")
        scene.note("the second was refused at once, with the first's process number; the first went on")
        scene.nothing_left()
        scene.as_undisturbed()

    yield two((*FLOW, "--jobs", "2"), (*FLOW, "--jobs", "2"))
    yield two(FLOW, PLAIN, refused=(255, "is busy, it is being blocked by"))
    yield Injection("two at once", "a second trainer by hand", "", moments.STEP.text, second_trainer)


def changed() -> Iterator[Injection]:
    """A flow is killed while `--set` changes the parameters of its experiment, or makes another experiment of it."""

    def killed(moment: Moment, *options: str, is_new: bool) -> Injection:
        command = (*FLOW, "--set", "experiment.seeds=[1]", *options, "prepare")

        def inject(scene: Scene) -> None:
            file = scene.place / "params.yaml"
            old = file.read_bytes()
            new = old.replace(b"seeds:\n  - 0\n", b"seeds: [1]\n")
            process = scene.start(*command, moment=moment)
            scene.signal("flow", signal.SIGKILL)
            scene.ends(process, "the flow")
            scene.nothing_left()
            whole = new if is_new else old
            scene.check("params.yaml whole, the old or the new one", new != old and file.read_bytes() == whole)
            scene.note(f"params.yaml is {'the new one' if is_new else 'as before'}")
            scene.finish(*command)
            if options:
                made = experiments.folder(options[-1])
                scene.check("the experiment itself as before", file.read_bytes() == old)
                prepared = layout.prepared("scenes") / "expressions.parquet"
                same = (scene.place / made / prepared).read_bytes() == (scene.place / prepared).read_bytes()
                scene.check("the other one is made at the next start", same)
                scene.as_undisturbed("prepare@scenes")
            else:
                scene.check("params.yaml as set after the next start", file.read_bytes() == new)

        return Injection("ended", f"flow --set{' --as' if options else ''}", "SIGKILL", moment.text, inject)

    yield killed(moments.CHANGE, is_new=False)
    yield killed(moments.CHANGED, is_new=True)
    yield killed(moments.LINKED, "--as", "second", is_new=False)


def beside() -> Iterator[Injection]:
    """A second experiment is killed in the middle; the first must not notice."""

    def inject(scene: Scene) -> None:
        scene.sync()
        first = scene.default_experiment()
        command = (*FLOW, "--set", "experiment.seeds=[1]", "--as", "second", "train@scenes-alignformer-1")
        process = scene.start(*command, moment=moments.STEP)
        scene.end_together(scene.signal("flow", signal.SIGKILL))
        scene.ends(process, "the flow", PATIENCE)
        scene.nothing_left()
        untouched = "the first experiment untouched: outputs, dvc.lock, params.yaml, runs in MLflow"
        scene.check(untouched, scene.default_experiment() == first)
        scene.finish(*command, resumes="epoch 2")
        scene.check(untouched, scene.default_experiment() == first)
        scene.as_undisturbed("")
        lock = keys.locked_entries(scene.place / experiments.folder("second") / keys.LOCK)
        scene.check("the second has its training", "train@scenes-alignformer-1" in lock)

    yield Injection("ended", "flow in a second experiment", "SIGKILL", f"{moments.STEP.text} (train)", inject, "whole")


def damaged() -> Iterator[Injection]:
    """The next start finds files that a crash, a disk or a person has damaged."""

    def broken_off(spoil: Callable[[Scene], str], what: str, resumes: str, command=PLAIN) -> Injection:
        """Damage after a training was killed in epoch 3."""

        def inject(scene: Scene) -> None:
            process = scene.start(*PLAIN, TARGET, moment=replace(moments.STEP, call=17))
            scene.signal("trainer", signal.SIGKILL)
            scene.ends(process, "dvc repro", PATIENCE)
            scene.note(spoil(scene))
            scene.finish(*command, TARGET, resumes=resumes)
            scene.as_undisturbed()

        return Injection("damaged", what, "", "after a kill in epoch 3", inject)

    def lying(spoil: Callable[[Scene], str], what: str) -> Injection:
        """Damage in a project where everything is up to date."""

        def inject(scene: Scene) -> None:
            scene.note(spoil(scene))
            scene.finish(*FLOW)
            scene.nothing_left()
            scene.as_undisturbed("", trained_again=trained(scene.output()))

        return Injection("damaged", what, "", f"before {STARTED[FLOW]}, all up to date", inject, "whole")

    def flip(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.chmod(0o644)
        path.write_bytes(data)

    def checkpoints(scene: Scene) -> list[Path]:
        if len(found := sorted(scene.place.glob("checkpoints/*/*/*.pt"))) != 2:
            raise InjectionError(f"two checkpoints expected: {found}")
        return found

    def newest(scene: Scene) -> str:
        flip(checkpoints(scene)[-1])
        return "one bit of the newest checkpoint flipped"

    def both(scene: Scene) -> str:
        for path in checkpoints(scene):
            path.write_bytes(path.read_bytes()[:5000])
        return "both checkpoints cut to 5,000 bytes"

    def lock(share: float) -> Callable[[Scene], str]:
        def cut(scene: Scene) -> str:
            path = scene.place / "dvc.lock"
            path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
            return f"dvc.lock cut to {share:.0%}"

        return cut

    def rwlock(content: str, what: str) -> Callable[[Scene], str]:
        def write(scene: Scene) -> str:
            (scene.place / ".dvc" / "tmp").mkdir(exist_ok=True)
            (scene.place / ".dvc" / "tmp" / "rwlock").write_text(content.replace("PLACE", str(scene.place)))
            return what

        return write

    def held(pid: int) -> str:
        holder = {"pid": pid, "cmd": "dvc repro"}
        paths = ("results/scores/scenes/baseline/0/scenes.parquet", "results/comparison/scenes.csv")
        return json.dumps({"write": {f"PLACE/{path}": holder for path in paths}})

    def model(scene: Scene) -> str:
        flip(scene.place / "results/models/scenes/alignformer/0/model.safetensors")
        return "one bit of a trained model flipped"

    def cached(scene: Scene) -> str:
        spoilt = 0
        for path in (scene.place / ".dvc/cache/files/md5").glob("*/*"):
            if path.stat().st_size > 100_000:
                path.chmod(0o644)
                path.write_bytes(path.read_bytes()[:1000])
                spoilt += 1
        (scene.place / "results/models/scenes/alignformer/0/model.safetensors").unlink()
        return f"{spoilt} files of DVC's cache cut to 1,000 bytes and a trained model deleted"

    def outputs(scene: Scene) -> str:
        (scene.place / "dvc.lock").unlink()
        return "dvc.lock deleted"

    yield broken_off(newest, "newest checkpoint, one bit", "epoch 2")
    yield broken_off(both, "both checkpoints, truncated", "the beginning")
    yield broken_off(
        rwlock(json.dumps({"write": {"PLACE/results/models/scenes/alignformer/0": {"pid": 1, "cmd": "dvc repro"}}}),
               "rwlock names process 1, as after a restart that gave a dead dvc's number to another program"),
        "rwlock, held by a number that is another program's", "epoch 3", FLOW,
    )  # fmt: skip
    yield lying(lock(0), "dvc.lock, empty")
    yield lying(lock(0.5), "dvc.lock, truncated in the middle")
    yield lying(outputs, "dvc.lock, deleted")
    yield lying(rwlock(held(99_999_999), "rwlock held by a process that is dead"), "rwlock, stale")
    yield lying(rwlock('{"write": {"', "rwlock cut off"), "rwlock, truncated")
    yield lying(rwlock("", "rwlock empty"), "rwlock, empty")
    yield lying(model, "a trained model, one bit")
    yield lying(cached, "DVC's cache, truncated, and the model away")


def databases() -> Iterator[Injection]:
    @contextmanager
    def locked(path: Path) -> Iterator[None]:
        with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            yield
            connection.execute("ROLLBACK")

    def mlflow_locked(scene: Scene) -> None:
        process = scene.start(*PLAIN, TARGET, moment=moments.STEP)
        with locked(scene.place / "mlflow.db"):
            scene.go()
            begin = time.monotonic()
            scene.wait(process, "dvc repro")
            scene.note(f"training ended well {time.monotonic() - begin:.0f} s later")
        scene.check("what MLflow did not get is named", "MLflow did not get" in scene.output())
        scene.nothing_left()
        scene.as_undisturbed()
        scene.sync()
        scene.one_finished_run()

    def mlflow_locked_for_a_while(scene: Scene) -> None:
        process = scene.start(*PLAIN, TARGET, moment=moments.STEP)
        with locked(scene.place / "mlflow.db"):
            scene.go()
            time.sleep(10)
        scene.wait(process, "dvc repro")
        scene.nothing_left()
        scene.as_undisturbed()
        scene.sync()
        scene.one_finished_run()

    def prefect_locked(scene: Scene) -> None:
        process = scene.start(*FLOW, TARGET, moment=moments.STEP)
        with locked(scene.place / ".prefect" / "prefect.db"):
            scene.go()
            time.sleep(45)
        scene.wait(process, "the flow")
        scene.note("the flow ended well after it was unlocked")
        scene.nothing_left()
        scene.as_undisturbed()

    def prefect_gone(scene: Scene) -> None:
        process = scene.start(*FLOW, TARGET, moment=moments.STEP)
        scene.signal("Prefect's server", signal.SIGKILL)
        scene.go()
        scene.ends(process, "the flow", 120)
        scene.nothing_left()
        scene.nothing_half_written()
        scene.finish(*FLOW, TARGET)
        scene.as_undisturbed()

    def mlflow_gone(back: bool) -> Callable[[Scene], None]:
        def inject(scene: Scene) -> None:
            port = free_port()
            with mlflow_server(scene, port) as server:
                process = scene.start(
                    *PLAIN, TARGET, moment=moments.STEP, MLFLOW_TRACKING_URI=f"http://127.0.0.1:{port}"
                )
                server.end(signal.SIGKILL)
            begin = time.monotonic()
            scene.go()
            if back:
                time.sleep(5)
                with mlflow_server(scene, port):
                    scene.wait(process, "dvc repro")
                    scene.sync(MLFLOW_TRACKING_URI=f"http://127.0.0.1:{port}")
                scene.one_finished_run(scene.folder / "mlflow.db")
            else:
                scene.wait(process, "dvc repro")
                scene.check("what MLflow did not get is named", "MLflow did not get" in scene.output())
            scene.note(f"training ended well {time.monotonic() - begin:.0f} s later")
            scene.nothing_left()
            scene.as_undisturbed()

        return inject

    yield Injection("database locked", "MLflow's SQLite", "", "from step 3 of epoch 2 to the end", mlflow_locked)
    yield Injection("database locked", "MLflow's SQLite", "", "10 s from step 3 of epoch 2", mlflow_locked_for_a_while)
    yield Injection("database locked", "Prefect's SQLite", "", "45 s from step 3 of epoch 2", prefect_locked)
    yield Injection("server gone", "Prefect's temporary server", "SIGKILL", moments.STEP.text, prefect_gone)
    yield Injection("server gone", "MLflow server", "SIGKILL", f"{moments.STEP.text}, for ever", mlflow_gone(False))
    yield Injection(
        "server gone", "MLflow server", "SIGKILL", f"{moments.STEP.text}, back after 5 s", mlflow_gone(True)
    )


def mlflow_server(scene: Scene, port: int) -> AbstractContextManager[Server]:
    """An MLflow server on loopback that stores runs and artifacts in the injection's folder."""
    return mlflow(scene.folder, f"sqlite:///{scene.folder}/mlflow.db", str(scene.folder / "mlartifacts"), port=port)


def deployed() -> Iterator[Injection]:
    """Flow runs that a worker starts for a server, both started as by `make schedule`."""

    def scheduled(act: Callable[[Scene, "Schedule", str], None], process: str, sent: str, when: str) -> Injection:
        def inject(scene: Scene) -> None:
            schedule = Schedule(scene)
            schedule.up(moments.STEP)
            run = schedule.start(TARGET)
            scene.wait_for(moments.STEP)
            act(scene, schedule, run)
            schedule.down()
            scene.nothing_left()
            scene.as_undisturbed()

        return Injection("ended, on make schedule", process, sent, when, inject)

    def again(scene: Scene, schedule: Schedule) -> None:
        run = schedule.start(TARGET)
        state = schedule.ends(run)
        scene.check("a new run of the deployment ends as COMPLETED", state == "COMPLETED", state)
        scene.note(f"a new run of the deployment ended as {state}")

    def over(scene: Scene, schedule: Schedule, run: str, expected: str) -> None:
        state = schedule.ends(run, 240)
        scene.check(f"Prefect shows the run as {expected}", state == expected, state)
        scene.note(f"Prefect shows the run as {state}")

    def worker(scene: Scene, schedule: Schedule, run: str) -> None:
        scene.end_together(scene.signal("worker", signal.SIGKILL))
        scene.nothing_half_written()
        schedule.up()
        over(scene, schedule, run, "CRASHED")
        again(scene, schedule)

    def flow(scene: Scene, schedule: Schedule, run: str) -> None:
        scene.end_together(scene.signal("flow run", signal.SIGKILL))
        scene.nothing_half_written()
        over(scene, schedule, run, "CRASHED")
        again(scene, schedule)

    def server(scene: Scene, schedule: Schedule, run: str) -> None:
        scene.end_together(scene.signal("server", signal.SIGKILL))
        time.sleep(30)
        scene.go()
        schedule.up()
        over(scene, schedule, run, "COMPLETED")

    def cancel(scene: Scene, schedule: Schedule, run: str) -> None:
        family = processes.family(processes.of_kind("dvc", scene.mark))
        schedule.ask("POST", f"flow_runs/{run}/set_state", state={"type": "CANCELLING", "name": "Cancelling"})
        gone = processes.within(20, lambda: not any(map(alive, family)))
        scene.check("dvc and trainer gone 20 s after the click", gone is not None)
        scene.note(f"dvc and trainer gone after {gone or 20:.1f} s")
        over(scene, schedule, run, "CANCELLED")
        again(scene, schedule)

    def everything(scene: Scene, schedule: Schedule, run: str) -> None:
        scene.end_together(scene.signal("everything", signal.SIGKILL))
        scene.nothing_half_written()
        schedule.up()
        again(scene, schedule)
        over(scene, schedule, run, "CRASHED")

    yield scheduled(worker, "worker", "SIGKILL", moments.STEP.text)
    yield scheduled(flow, "flow run", "SIGKILL", moments.STEP.text)
    yield scheduled(server, "server", "SIGKILL", f"{moments.STEP.text}, back after 30 s")
    yield scheduled(cancel, "Cancel, as in the UI", "", moments.STEP.text)
    yield scheduled(everything, "everything, as when the machine goes off", "SIGKILL", moments.STEP.text)


class Schedule:
    """`make schedule` in a scene: server, worker and deployments."""

    def __init__(self, scene: Scene):
        self.scene, self.port = scene, free_port()

    def up(self, moment: Moment | None = None) -> None:
        self._run("up", "--port", str(self.port), moment=moment)

    def down(self) -> None:
        self._run("down")

    def start(self, target: str) -> str:
        """Start a flow run of a target, as a click in the UI does; returns its id."""
        deployment = self.ask("GET", "deployments/name/experiment/on-demand")["id"]
        return self.ask("POST", f"deployments/{deployment}/create_flow_run", parameters={"targets": [target]})["id"]

    def ends(self, run: str, seconds: float = FINISH) -> str:
        """The state in which the flow run ended, or its state after `seconds`."""
        processes.within(seconds, lambda: self._state(run) in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"))
        return self._state(run)

    def ask(self, method: str, path: str, **body) -> dict:
        """The response of Prefect's API. Asks again while it answers 503: another transaction holds SQLite."""
        address = f"http://127.0.0.1:{self.port}/api/{path}"
        while (answer := httpx.request(method, address, json=body or None, timeout=60)).status_code == 503:
            time.sleep(0.5)
        return answer.raise_for_status().json()

    def _state(self, run: str) -> str:
        return self.ask("GET", f"flow_runs/{run}")["state"]["type"]

    def _run(self, *arguments: str, moment: Moment | None = None) -> None:
        command = (sys.executable, "-m", "pipelines.schedule", *arguments)
        process = self.scene.start(*command, later=moment, PREFECT_WORKER_QUERY_SECONDS="2")
        self.scene.wait(process, f"pipelines.schedule {arguments[0]}")
