"""The scene of one injection: a project, its processes, what happened to them, and what was checked."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Collection
from contextlib import closing
from pathlib import Path

import psutil

from benchmarks.faults import place as places
from benchmarks.faults import processes
from benchmarks.faults.moments import Moment
from stages.runtime import dvc_internals, experiments, keys, layout
from stages.runtime.dvc_internals import DvcError
from stages.runtime.parent import alive

FLOW = (sys.executable, "-m", "pipelines.experiment")
PLAIN = (sys.executable, "-m", "dvc", "repro")
TARGET = "train@scenes-alignformer-0"
AT_MOST = 10  # seconds that a process may outlive its parent
REACH, FINISH = 300, 400  # seconds
RESUMED = re.compile(r"resuming at (epoch \d+|the end)")
TRAINING = re.compile(  # of DVC, of the flow
    r"^(?:.*Running stage '|[\w+-]+/)?(train@[^\s':]+)(?:'|: ran in )", re.MULTILINE
)


class InjectionError(Exception):
    """The fault could not be injected, so the injection has no result."""


class Scene:
    """A copy of the project, with methods to injure and check it. A failed check is noted and does not stop the scene.

    Attributes:
        place: the folder of the project.
        happened, failed: events and failed checks in words, in their order.
        checked: the checks that were made.
    """

    def __init__(self, made: places.Places, folder: Path, state: str = "prepared"):
        self.made, self.folder = made, folder
        self.place = made.copy(state, folder / "disk" / "project")
        self.mark = uuid.uuid4().hex
        self.happened: list[str] = []
        self.failed: list[str] = []
        self.checked: list[str] = []
        self.starts = 0

    def start(
        self, *command: str, moment: Moment | None = None, later: Moment | None = None, **environment: str
    ) -> subprocess.Popen:
        """Start a command. With `moment`, return when a process waits there; `later` sets one without waiting."""
        self.starts += 1
        waits = (moment or later).environment(self.folder) if moment or later else {}
        env = places.environment({processes.MARK: self.mark}, **waits, **environment)
        process = places.start(self.place, *command, said=self.said(self.starts), env=env)
        if moment:
            self.wait_for(moment, process)
        return process

    def wait_for(self, moment: Moment, process: subprocess.Popen | None = None) -> None:
        """Return when a process waits at the moment. Raises InjectionError if none does or the command ends first."""
        ended = lambda: process is not None and process.poll() is not None  # noqa: E731
        if processes.within(REACH, lambda: self.waits or ended()) is None:
            raise InjectionError(f"no process reached {moment.text} in {REACH} s:\n{self.output()}")
        if not self.waits:
            raise InjectionError(f"the command ended before {moment.text}:\n{self.output()}")

    @property
    def waits(self) -> bool:
        return (self.folder / "reached").exists()

    def go(self) -> None:
        """Let the waiting process continue."""
        (self.folder / "go").touch()

    def said(self, number: int) -> Path:
        return self.folder / f"said-{number}"

    def output(self, number: int | None = None) -> str:
        """The output of a command, by default the last one."""
        return self.said(number or self.starts).read_text(errors="replace")

    def signal(self, kind: str, number: int) -> list[psutil.Process]:
        """Send a signal to every process of a kind in `processes.WORDS`; returns them and all their descendants.

        Raises:
            InjectionError: no process of that kind runs.
        """
        if not (found := processes.of_kind(kind, self.mark)):
            raise InjectionError(f"no {kind} runs; there are: {processes.shown(processes.marked(self.mark))}")
        family = processes.family(found)
        for process in found:
            process.send_signal(number)
        return family

    def interrupt(self, process: subprocess.Popen) -> list[psutil.Process]:
        """Ctrl-C: send SIGINT to the process group of a command; returns the command and all its descendants."""
        family = processes.family([psutil.Process(process.pid)])
        os.killpg(process.pid, signal.SIGINT)
        return family

    def note(self, text: str) -> None:
        self.happened.append(text)

    def check(self, what: str, holds: object, otherwise: str = "") -> None:
        """Note a check, and whether it failed."""
        if what not in self.checked:
            self.checked.append(what)
        if not holds:
            self.failed.append(f"NOT: {what}{f' ({otherwise})' if otherwise else ''}")

    def ends(self, process: subprocess.Popen, who: str, seconds: float = AT_MOST) -> int | None:
        """Check that a command ends in time; returns its exit code."""
        took = processes.within(seconds, lambda: process.poll() is not None)
        self.check(f"ended within {seconds:.0f} s", took is not None, who)
        if took is not None:
            self.note(f"{who} ended with code {process.returncode}")
        return process.returncode

    def end_together(self, family: list[psutil.Process]) -> None:
        """Check that the head of a family ends after its signal, and that none of the others outlives it by 10 s."""
        head, *others = family
        begin = time.monotonic()
        self.check("ended after the signal", processes.within(FINISH, lambda: not alive(head)) is not None)
        ended = time.monotonic() - begin
        took = processes.within(AT_MOST, lambda: not any(map(alive, others)))
        left = processes.shown(filter(alive, others)) if took is None else ""
        self.check(f"nothing outlives its parent by {AT_MOST} s (psutil, all descendants)", not left, left)
        if took is not None:
            self.note(f"it ended after {ended:.1f} s, the last of its {len(others)} descendants {took:.1f} s later")

    def nothing_left(self) -> None:
        """Check that no process of the injection runs 10 s from now, and kill those that do."""
        took = processes.within(AT_MOST, lambda: not processes.marked(self.mark))
        left = processes.shown(processes.marked(self.mark)) if took is None else ""
        self.check(f"no process left after {AT_MOST} s (psutil, by a mark in the environment)", not left, left)
        if took is not None:
            self.note(f"no process left after {took:.1f} s")
        processes.end(self.mark)

    def nothing_half_written(self) -> None:
        """Check that every output, and every entry of dvc.lock, is absent or as in an undisturbed run."""
        found = places.files(self.place)
        for path in places.declared(self.made.lock):
            there = places.below(path, found)
            self.check("no output half written (SHA-256)", there in ({}, places.below(path, self.made.files)), path)
        try:
            lock = keys.locked_entries(self.place / keys.LOCK)
        except DvcError:
            self.note("dvc.lock was cut off")
            return
        wrong = [stage for stage, entry in lock.items() if entry != self.made.lock.get(stage)]
        self.check("no entry of dvc.lock that an undisturbed run has not", not wrong, ", ".join(wrong))

    def finish(self, *command: str, resumes: str | None = None) -> None:
        """Start again, undisturbed. Check that it succeeds, and where the interrupted training resumes."""
        processes.within(AT_MOST, lambda: not self.held_by_the_dead())
        begin = time.monotonic()
        process = self.start(*command)
        self.wait(process, "the next start")
        self.note(f"the next start took {time.monotonic() - begin:.0f} s")
        found = RESUMED.search(self.output())
        where = found[1] if found else "the beginning" if TRAINING.search(self.output()) else "no training"
        self.note(f"training went on from {where}" if where != "no training" else "nothing was trained again")
        if resumes:
            self.check(f"goes on from {resumes}", where == resumes, where)

    def held_by_the_dead(self) -> bool:
        """Whether a zombie still holds DVC's rwlock: DVC takes it for a running process."""
        try:
            signed = dvc_internals.holders(self.place / dvc_internals.RWLOCK)
        except (FileNotFoundError, ValueError):
            return False
        return any(processes.dead_but_listed(info["pid"]) for info in signed)

    def wait(self, process: subprocess.Popen, who: str, code: int = 0) -> None:
        """Check that a command ends by itself with that exit code."""
        try:
            process.wait(FINISH)
        except subprocess.TimeoutExpired:
            self.check(f"{who} ended", False, f"not in {FINISH} s")
            processes.end(self.mark)
            process.wait()
        said = [line for line in self.output().splitlines() if "ERROR" in line or "rror:" in line][-3:]
        self.check(f"{who} ended with code {code}", process.returncode == code, f"{process.returncode}: {said}")

    def as_undisturbed(self, target: str = TARGET, trained_again: Collection[str] = ()) -> None:
        """Check that dvc.lock and all output files are those of an undisturbed run, and that no other file is there.

        Args:
            target: the target that ran; empty for everything.
            trained_again: stages whose runs keep their checkpoints, since their models came out the same and were not
                evaluated again.
        """
        lock = keys.locked_entries(self.place / keys.LOCK)
        ran = {*lock, target} if target else {*lock, *self.made.lock}
        wrong = sorted(stage for stage in ran if lock.get(stage) != self.made.lock.get(stage))
        self.check("dvc.lock as of an undisturbed run", not wrong, ", ".join(wrong))
        files = {}
        for path in places.declared(lock):
            files |= places.below(path, self.made.files)
        found = places.files(self.place)
        other = sorted(name for name in {*files, *found} if files.get(name) != found.get(name))
        self.check("every output as of an undisturbed run (SHA-256)", not other, ", ".join(other[:4]))
        if not target:
            kept = {path.parts[-3] for path in self.place.glob("checkpoints/*/*/*")}
            own = {stage.removeprefix("train@") for stage in trained_again}
            what = f"no checkpoint left{', but of runs trained again' if trained_again else ''}"
            self.check(what, kept == own, ", ".join(kept))

    def default_experiment(self) -> dict[str, object]:
        """What is the default experiment's: its outputs, its other files, and its runs in MLflow with every value."""
        found: dict[str, object] = dict(places.files(self.place))
        for name in (keys.LOCK, experiments.DAG, layout.PARAMS):
            found[str(name)] = (self.place / name).read_bytes()
        with closing(sqlite3.connect(self.place / "mlflow.db")) as connection:
            for table in ("runs", "metrics", "params", "tags"):
                found[table] = connection.execute(
                    f"select * from {table} where run_uuid in (select run_uuid from runs join experiments e"
                    " using (experiment_id) where e.name = 'alignformer') order by 1, 2, 3"
                ).fetchall()
        return found

    def sync(self, **environment: str) -> None:
        """Sync MLflow, as the flow and `make ui` do."""
        self.wait(self.start(sys.executable, "-m", "pipelines.sync", **environment), "the sync")
        self.note("a sync followed")

    def one_finished_run(self, database: Path | None = None) -> None:
        """Check that MLflow has one run of the training, FINISHED, with the metrics of every epoch."""
        with closing(sqlite3.connect(database or self.place / "mlflow.db")) as connection:
            found = connection.execute(
                "select r.status, (select count(*) from metrics m where m.run_uuid = r.run_uuid"
                " and m.key = 'by_epoch/val_mIoU')"
                " from runs r join tags t on t.run_uuid = r.run_uuid and t.key = 'stage' and t.value = ?"
                " where r.lifecycle_stage = 'active'",
                (TARGET,),
            ).fetchall()
        self.check("MLflow has one run, finished, with every epoch", found == [("FINISHED", places.EPOCHS)], str(found))

    def close(self) -> None:
        """Kill all processes that are left."""
        processes.end(self.mark)


def trained(text: str) -> list[str]:
    """The trainings that a command ran, from its output."""
    return TRAINING.findall(text)


def fill(folder: Path) -> Path:
    """Fill the file system of a folder to the last byte; returns the file to remove afterwards."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while file.write(b"\0" * size) == size:
                    pass
            except OSError:
                continue
    os.sync()
    return ballast
