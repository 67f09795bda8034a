"""What a stage logs to MLflow while it runs.

MLflow is a view: deleting `mlflow.db` and `mlartifacts/` loses nothing that DVC keeps.

Each ablation has one parent run, for what all variants of a dataset share: data, code, recipe. Each variant x seed has
one child run. Runs are found by a key made of their inputs (`stages.runtime.keys`), so a stage that runs again replaces
its MLflow run.

No error here stops a stage. If something cannot be logged, one warning per run names it, and `python -m pipelines.sync`
logs it later from the outputs that DVC keeps. `stages.tracking.store` chooses the store.
"""

import logging
import os
import signal
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from stages.runtime import keys, layout
from stages.runtime import params as parameters
from stages.runtime.run import Run
from stages.tracking import machine, mlruns, store
from stages.tracking.store import Scalar, Store

WRITTEN = ("dvc.lock", "reports", "sources")  # by the pipeline, in git

log = logging.getLogger("stages.tracking")


@contextmanager
def training_run(dataset: str, variant: str, seed: int, params: Mapping[str, Scalar]) -> Iterator["TrainingRun"]:
    """The child run of one training, open while the block runs.

    It ends as FINISHED, as FAILED after an exception, or as KILLED after Ctrl-C or SIGTERM. The block turns SIGTERM
    into an exit with code 143, unless the caller handles the signal itself.
    """
    run = TrainingRun(dataset, variant, seed)
    with _sigterm_raised():
        try:
            run.start(params)
            yield run
        except (KeyboardInterrupt, _Terminated):
            run.end("KILLED")
            raise
        except BaseException:
            run.end("FAILED")
            raise
        run.end("FINISHED")


class TrainingRun:
    """The open child run. No method raises; `lost` collects what could not be logged."""

    def __init__(self, dataset: str, variant: str, seed: int):
        self._of = Run(dataset, variant, seed)
        self.name = self._of.name
        self.lost = _Lost(self._of.stage("train"))
        self._store, self._run, self._monitor = None, None, None
        self._waiting: list = []

    def start(self, params: Mapping[str, Scalar]) -> None:
        """Create the run, with its parent where there is none."""
        with self.lost.unless_lost("the run and everything in it"):
            inputs = keys.live_inputs(self._of.stage("train"))
            with store.opened() as self._store:
                self._run = _start_child(self._store, *self._of, inputs)
            store.send_params(self._store, self.run_id, mlruns.of_variant(params))
        if self._run:
            with self.lost.unless_lost("what the machine does"):
                self._monitor = machine.monitor(self._run.info.run_id)

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run; None if it could not be created. Do not write it into a file that DVC tracks."""
        return self._run.info.run_id if self._run else None

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log the metrics of one epoch. If a busy database refuses them, they are sent again with the next epoch."""
        if not self._run:
            return
        with self.lost.unless_lost(f"metrics from epoch {self._waiting[0].step if self._waiting else step} on"):
            self._waiting += store.points(mlruns.by_epoch(metrics), step)
            self._send()

    def log_folder(self, folder: Path, name: str) -> None:
        """Log the model folder as a logged model of this run, with its own page and metrics."""
        if not self._run:
            return
        with self.lost.unless_lost(f"the folder {folder}"):
            store.send_model(self._store, self._run, Path(folder), f"{self.name}-{name}")

    def end(self, status: str) -> None:
        """Close the run as FINISHED, FAILED or KILLED, and its parent if no other of its runs is open."""
        if not self._run:
            return
        with self.lost.unless_lost(f"the last {len(self._waiting)} metrics and that the run is {status}"):
            if self._monitor:
                self._monitor.finish()
            self._send()
            self._store.client.set_terminated(self.run_id, status)
            with store.opened() as opened:  # of trainings that end at once, the last to be here sees all ended
                mlruns.end_parent(opened, self._run.data.tags[mlruns.PARENT])

    def _send(self) -> None:
        store.send(self._store, self.run_id, self._waiting)
        self._waiting.clear()


def log_evaluation(
    dataset: str,
    variant: str,
    seed: int,
    metrics: Mapping[str, Mapping[str, float]],
    files: Iterable[Path] = (),
    on: str | None = None,
) -> None:
    """Log metrics of every split, and files, to the run that trained the model.

    If that run does not exist (the model came from DVC's cache, or the database was deleted), it is created.

    Args:
        metrics: by split; `{"val": {"mIoU": 0.5}}` becomes `val/mIoU`.
        on: the further dataset that they are of; None: the run's own evaluation splits.
    """
    train, evaluate = Run(dataset, variant, seed).stage("train"), Run(dataset, variant, seed).evaluation(on)
    lost = _Lost(evaluate)
    with lost.unless_lost("the metrics of every split"):
        inputs = _made_from(train)
        key = keys.key(evaluate, keys.live_inputs(evaluate))
        with store.opened() as opened:
            found = store.find(opened, keys.key(train, inputs))
            run = found[0] if found else _make_ended_child(opened, dataset, variant, seed, inputs)
        models = store.models_of(opened, run)
        mlruns.send_new(opened, run, mlruns.by_split(metrics), models[0] if models else None)
        for path in files:
            with lost.unless_lost(f"the file {path}"):
                store.send_file(opened, run.info.run_id, Path(path), mlruns.EVALUATION)
        complete = {} if lost.what else {mlruns.evaluated(on): key}
        store.send_tags(opened, run.info.run_id, complete | _conditions(dataset))


def log_card(dataset: str, variant: str, seed: int, card: Path) -> None:
    """Add the model card to the logged model. If MLflow has no such model, `pipelines.sync` logs both later."""
    run = Run(dataset, variant, seed)
    train = run.stage("train")
    with _Lost(run.stage("card")).unless_lost(f"the file {card}"):
        inputs = _made_from(train)
        with store.opened() as opened:
            for trained in store.find(opened, keys.key(train, inputs))[:1]:
                for model in store.models_of(opened, trained):
                    store.add_to_model(opened, model, card)
                store.send_tags(opened, trained.info.run_id, {mlruns.CARD: mlruns.md5(card)})


def log_report(dataset: str, comparison: Path, files: Iterable[Path] = ()) -> None:
    """Log the comparison and the report to the parent run of the dataset's ablation, and finish that run.

    Args:
        files: files of the report; those of other datasets are skipped.
    """
    lost = _Lost(f"report of {dataset}")
    with lost.unless_lost(f"the comparison {comparison}"):
        experiment = parameters.read().experiment
        first = Run(dataset, experiment.variants[0], experiment.seeds[0])
        inputs, key = _made_from(first.stage("train")), keys.key("report", keys.live_inputs("report"))
        with store.opened() as opened:
            parent = _parent(opened, dataset, inputs)
        run_id = parent.info.run_id
        for path, folder in [(Path(comparison), mlruns.COMPARISON), *mlruns.report_files(dataset, files)]:
            with lost.unless_lost(f"the file {path}"):
                store.send_file(opened, run_id, path, folder)
        if not lost.what:
            store.send_tags(opened, run_id, {mlruns.REPORTED: key, mlruns.COMPARED: mlruns.md5(Path(comparison))})
        opened.client.set_terminated(run_id, "FINISHED")


class _Lost:
    """Collects what could not be logged in one run of one stage, and warns when the first item is lost."""

    def __init__(self, who: str):
        self.who = who
        self.what: list[str] = []

    @contextmanager
    def unless_lost(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not self.what:
                log.warning(
                    "%s: MLflow did not get %s. The first reason: %s. The stage goes on; its outputs and "
                    "dvc.lock are complete without MLflow, and `python -m pipelines.sync` logs the rest later.",
                    self.who, what, store.in_words(error),
                )  # fmt: skip
            self.what.append(what)


class _Terminated(SystemExit):
    """SIGTERM, as an exception."""


@contextmanager
def _sigterm_raised() -> Iterator[None]:
    """Let SIGTERM raise inside the block, unless a handler is set already or this is not the main thread."""

    def terminate(number, frame):
        raise _Terminated(128 + number)

    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _made_from(train_stage: str) -> dict | None:
    """Inputs of the training whose model is in the results: from dvc.lock if DVC runs this stage, else computed."""
    locked = keys.locked_inputs(train_stage) if "DVC_STAGE" in os.environ else None
    return locked or keys.live_inputs(train_stage)


def _start_child(opened: Store, dataset: str, variant: str, seed: int, inputs: dict | None):
    """Create the run of a training that begins, under its parent; an earlier run with the same key is deleted."""
    parent = _parent(opened, dataset, inputs)
    for earlier in store.find(opened, keys.key(Run(dataset, variant, seed).stage("train"), inputs)):
        store.delete(opened, earlier)
    more = _conditions(dataset) | _code("stages.train")
    child = mlruns.make_child(opened, dataset, variant, seed, inputs, parent, more)
    opened.client.update_run(parent.info.run_id, status="RUNNING")
    return child


def _make_ended_child(opened: Store, dataset: str, variant: str, seed: int, inputs: dict | None):
    """Create the run of an earlier training that MLflow does not have; `pipelines.sync` completes it."""
    parent, more = _parent(opened, dataset, inputs), _conditions(dataset) | mlruns.rebuilt("stages.train")
    run = mlruns.make_child(opened, dataset, variant, seed, inputs, parent, more)
    opened.client.set_terminated(run.info.run_id, "FINISHED")
    mlruns.end_parent(opened, parent.info.run_id)
    return run


def _parent(opened: Store, dataset: str, inputs: dict | None):
    recipe, given = parameters.read().experiment.recipe, _conditions(dataset)
    return mlruns.find_or_make_parent(opened, dataset, recipe, inputs, given, _code("stages.ablate"))


def _conditions(dataset: str) -> dict[str, str]:
    return mlruns.conditions(parameters.read().evaluation.protocol, layout.prepared(dataset) / "dataset.json")


def _code(module: str) -> dict[str, str]:
    """Tags on the origin of the code. Dirty: a file that the pipeline does not write itself differs from the commit."""
    tags, commit = mlruns.source(module), _git("rev-parse", "HEAD")
    if commit is None:
        return tags
    project = [":(top)", ":(top,exclude)experiments", *(f":(top,exclude){path}" for path in WRITTEN)]
    own = [".", ":!experiments", *(f":!{path}" for path in WRITTEN)]
    dirty = str(any(_git("status", "--porcelain", "--", *paths) for paths in (project, own))).lower()
    return {**tags, "git.commit": commit, "git.dirty": dirty, "mlflow.source.git.commit": commit}


def _git(*arguments: str) -> str | None:
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
