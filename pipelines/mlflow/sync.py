"""Brings MLflow into step with what DVC keeps of one experiment, whatever MLflow has lost or was never told.

Every training in `dvc.lock` whose outputs lie in the working tree gets its run, and every comparison gets its parent
run, as the stages would have written them. A run that lacks something is completed, and the best model of each dataset
is registered. A second sync changes nothing.
"""

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.dvc import recorded, working_tree
from pipelines.dvc.recorded import Entries, RecordedComparison, RecordedEvaluation, RecordedTraining
from pipelines.dvc.working_tree import Tree
from pipelines.mlflow import champion, complete_run, descriptions, views
from stages.runtime import experiments, keys, layout
from stages.runtime.dvc_internals import DvcError
from stages.runtime.errors import UserError
from stages.tracking import mlruns, owner, store
from stages.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun

    from stages.data.prepared import PreparedDataset

Say = Callable[[str], None]
NAMED = 5  # stages of one command

RUN = "run"
MADE, COMPLETED, UNCHANGED, KILLED, LEFT, CHAMPION = (
    "made", "completed", "unchanged", "marked as KILLED", "left alone", "champion"
)  # fmt: skip


class SyncError(UserError):
    """MLflow, or `dvc.lock`, cannot be used; the message says what is wrong and what to do."""


def sync(say: Say) -> str:
    """Bring MLflow up to what DVC keeps of the experiment in the current folder.

    Args:
        say: gets one line for each change, and for what is left alone or missing.

    Returns:
        One line with the totals.

    Raises:
        SyncError: MLflow or `dvc.lock` cannot be used. What was done before stays.
    """
    from filelock import Timeout
    from mlflow.exceptions import MlflowException

    try:
        with working_tree.opened() as tree:
            return _Sync(tree, keys.locked_entries(), say).all()
    except DvcError as error:
        raise SyncError(f"DVC cannot read this project: {store.in_words(error)}") from error
    except store.StoreError as error:
        raise SyncError(str(error)) from error
    except Timeout as error:
        raise SyncError(f"{error.lock_file} is held by another process; sync again when that has ended") from error
    except (MlflowException, sqlite3.Error) as error:
        raise SyncError(
            f"MLflow could not be told everything: {store.in_words(error)}. What was told stays. See that the store "
            "answers (the server of MLFLOW_TRACKING_URI, or mlflow.db here) and sync again. A damaged mlflow.db may be "
            "deleted, with mlartifacts: the sync makes both again"
        ) from error


class _Sync:
    """One sync: what it reads, and what it did."""

    def __init__(self, tree: Tree, entries: Entries, say: Say):
        self.tree, self.entries, self.say = tree, entries, say
        self.trainings = {training.run: training for training in recorded.trainings(entries)}
        self.done: Counter[str] = Counter()
        self.absent: defaultdict[str, list[str]] = defaultdict(list)  # the command of DVC that brings them -> stages
        self.left: set[str] = set()  # stages whose runs others are writing
        self.parents: dict[str, MlflowRun] = {}  # by key, as they were before this sync
        self.made: set[str] = set()  # ids of new parent runs
        self.held: dict[tuple, bool] = {}  # prepared dataset and its hash -> whether it lies here
        self.datasets: dict[str, PreparedDataset] = {}
        self.shown: set[str] = set()  # keys of the trainings that comparisons have
        self.compared: set[str] = set()  # datasets with a comparison

    def all(self) -> str:
        for training in self.trainings.values():
            try:
                self.training(training)
            except FileNotFoundError as error:
                self.say(
                    f"{training.stage}: {error.filename} was removed meanwhile; sync again when its stage has ended"
                )
        for comparison in recorded.comparisons(self.entries):
            self.comparison(comparison)
        self.unfinished()
        self.outdated()
        return self.summary()

    def training(self, training: RecordedTraining) -> None:
        """The run of one training, with its evaluation."""
        if not self.here(training.stage, training.outs):
            return
        with store.opened() as opened:
            mlflow_run = self.only_run(opened, keys.key(training.stage, training.inputs))
            if mlflow_run and mlflow_run.info.status == "RUNNING" and owner.fate(mlflow_run.data.tags) != "dead":
                self.leave(mlflow_run)
                return
            try:
                lacked = self.complete(opened, training, mlflow_run)
            except complete_run.ContradictedError:
                store.delete(opened, mlflow_run)
                lacked = self.complete(opened, training, None)
        self.tell(training.stage, lacked)

    def complete(self, opened: Store, training: RecordedTraining, mlflow_run: "MlflowRun | None") -> list[str]:
        """What the run lacked and now has. Raises ContradictedError."""
        lacked, given = [], self.conditions(training)
        key = mlruns.parent_key(training.run.dataset, training.recipe, training.inputs)
        parent = self.parents[key] = self.parents.get(key) or self.parent(opened, training)
        if mlflow_run is None:
            more = given | mlruns.rebuilt("stages.train")
            mlflow_run = mlruns.make_child(opened, *training.run, training.inputs, parent, more)
            lacked.append(RUN)
        curves = complete_run.send_curves(opened, mlflow_run, layout.history(*training.run))
        tags = {mlruns.PARENT: parent.info.run_id, **given}
        tags[mlruns.NOTE] = descriptions.of_training(training.run.variant, layout.card(*training.run))
        lacked += ["tags"] * complete_run.send_tags(opened, mlflow_run, tags)
        lacked += ["params"] * complete_run.send_params(opened, mlflow_run, mlruns.of_variant(training.params))
        lacked += ["curves"] * curves
        lacked += ["model"] * complete_run.send_model(opened, mlflow_run, training.run)
        lacked += ["card"] * complete_run.send_card(opened, mlflow_run, training.run)
        lacked += ["evaluation"] * self.evaluation(opened, mlflow_run, training)
        lacked += ["data"] * self.data(opened, mlflow_run, training)
        lacked += ["pictures"] * self.pictures(opened, mlflow_run, training)
        if mlflow_run.info.status != "FINISHED":
            opened.client.set_terminated(mlflow_run.info.run_id, "FINISHED")
            lacked.append("end")
        return lacked

    def evaluation(self, opened: Store, mlflow_run: "MlflowRun", training: RecordedTraining) -> bool:
        """Scores of the model, on its run, and the files that have all of them. Returns whether some were missing."""
        own = recorded.evaluation(training, self.entries)
        found = [*([own] if own else []), *recorded.further_evaluations(training, self.entries)]
        return any([self.one_evaluation(opened, mlflow_run, each) for each in found])

    def one_evaluation(self, opened: Store, mlflow_run: "MlflowRun", evaluation: RecordedEvaluation) -> bool:
        """Scores on the own splits, or on a further dataset. Returns whether some were missing."""
        if not self.here(evaluation.stage, evaluation.outs):
            return False
        scores = json.loads(evaluation.metrics.read_text(encoding="utf-8"))
        values = mlruns.by_split({split: values for split, values in scores.items() if split != "protocol"})
        model = next(iter(store.models_of(opened, mlflow_run)), None)
        tags = {mlruns.evaluated(evaluation.on): evaluation.key}
        again = not tags.items() <= mlflow_run.data.tags.items()
        new = mlruns.send_new(opened, mlflow_run, values, model)
        files = [(Path(out["path"]), mlruns.EVALUATION) for out in evaluation.outs]
        new += complete_run.send_files(opened, mlflow_run, files, again)
        return bool(new + complete_run.send_tags(opened, mlflow_run, tags))

    def data(self, opened: Store, mlflow_run: "MlflowRun", training: RecordedTraining) -> bool:
        """The prepared dataset, as inputs of the run, where it lies here as the training had it."""
        dataset = training.run.dataset
        summary = layout.prepared(dataset) / "dataset.json"
        if not self.has_data(training) or not summary.exists():
            return False
        digest = recorded.prepared_md5(dataset, self.entries)
        return complete_run.send_data(opened, mlflow_run, dataset, digest, summary)

    def pictures(self, opened: Store, mlflow_run: "MlflowRun", training: RecordedTraining) -> bool:
        """Predictions on the same expressions for every run of a dataset, where scores and data lie here."""
        from pipelines.mlflow import pictures
        from stages.data import prepared

        evaluation, scores = recorded.evaluation(training, self.entries), layout.scores(*training.run)
        if evaluation is None or not self.has_data(training) or not self.tree.holds(*evaluation.scores):
            return False
        dataset = training.run.dataset
        try:
            self.datasets[dataset] = self.datasets.get(dataset) or prepared.read(layout.prepared(dataset))
        except FileNotFoundError:
            return False
        return pictures.send(opened, mlflow_run, self.datasets[dataset], scores)

    def comparison(self, comparison: RecordedComparison) -> None:
        """The parent run of an ablation, and the champion of its dataset."""
        if not self.here(comparison.stage, comparison.outs):
            return
        trainings = [self.trainings[run] for run in comparison.runs if run in self.trainings]
        evaluations = [recorded.evaluation(training, self.entries) for training in trainings]
        shared = {mlruns.parent_key(comparison.dataset, one.recipe, one.inputs) for one in trainings}
        complete = len(trainings) == len(comparison.runs) and all(evaluations) and len(shared) == 1
        if not complete or not self.tree.holds(comparison.scores):
            self.say(
                f"{comparison.stage}: its comparison is not of the trainings and scores that are here: left out. "
                f"{experiments.dvc('repro', comparison.stage)} makes it again"
            )
            return
        with store.opened() as opened:
            parent = self.parent(opened, trainings[0])
            lacked = [RUN] * (parent.info.run_id in self.made)
            lacked += ["params"] * complete_run.send_params(opened, parent, _shared_params(trainings[0]))
            lacked += ["report"] * self.report(opened, parent, comparison.dataset)
            lacked += ["differences"] * self.differences(opened, parent, comparison, trainings)
            trained = {child.info.status for child in mlruns.children(opened, parent.info.run_id)}
            if parent.info.status != "FINISHED" and "RUNNING" not in trained:
                opened.client.set_terminated(parent.info.run_id, "FINISHED")
                lacked.append("end")
        self.tell(comparison.stage, lacked)
        if all([self.here(evaluation.stage, evaluation.outs) for evaluation in evaluations]):
            self.champion(comparison, trainings)

    def differences(
        self,
        opened: Store,
        parent: "MlflowRun",
        comparison: RecordedComparison,
        trainings: Sequence[RecordedTraining],
    ) -> bool:
        """The comparison in words, on its run and on those of its trainings, and the views of the dataset."""
        from pipelines.mlflow import pictures

        dataset, metric = comparison.dataset, trainings[0].select_by
        rows = descriptions.rows_of(layout.comparison(dataset), metric)
        if not rows:
            return False
        reported = mlruns.is_reported(dataset, parent.data.tags["key"])
        page = views.artifact(opened, parent.info.run_id, "report/index.html")
        said = descriptions.result(layout.result(dataset)) if reported else []
        note = descriptions.of_comparison(rows, said, page if reported else None)
        tags = {mlruns.NOTE: note, **descriptions.differences(rows, comparison.reference)}
        new = complete_run.send_tags(opened, parent, tags)
        trained = {run.variant for run in comparison.runs}  # not the systems that others made
        labels = descriptions.labels([row for row in rows if row["variant"] in trained], comparison.reference)
        for training in trainings:
            key = keys.key(training.stage, training.inputs)
            self.shown.add(key)
            for child in store.find(opened, key)[:1]:
                tags = {mlruns.CURRENT: "true", **labels.get(training.run.variant, {})}
                complete_run.send_tags(opened, child, tags)
        self.compared.add(dataset)
        data = self.datasets.get(dataset)
        shown = views.Shown(
            dataset,
            splits=list(dict.fromkeys(row["split"] for row in rows)),
            metric=metric,
            labels=[label[mlruns.COMPARED_AS] for label in labels.values()],
            pictures=pictures.keys(data) if data else [],
            seed=comparison.runs[0].seed,
        )
        return bool(new + views.send(opened, shown))

    def report(self, opened: Store, parent: "MlflowRun", dataset: str) -> bool:
        """The file of the comparison, and those of its report. Returns whether some were missing."""
        files = [(layout.comparison(dataset), mlruns.COMPARISON)]
        tags = {mlruns.COMPARED: mlruns.md5(layout.comparison(dataset))}
        entry = self.entries.get("report")
        if entry and mlruns.is_reported(dataset, parent.data.tags["key"]) and self.tree.holds(*entry["outs"]):
            there = filter(Path.is_file, sorted(layout.REPORTS.rglob("*")))
            files += mlruns.report_files(dataset, there)
            tags |= {mlruns.REPORTED: keys.key("report", keys.inputs_of(entry))}
        again = not tags.items() <= parent.data.tags.items()
        sent = complete_run.send_files(opened, parent, files, again)
        return bool(sent + complete_run.send_tags(opened, parent, tags))

    def champion(self, comparison: RecordedComparison, trainings: Sequence[RecordedTraining]) -> None:
        """The registered model of a dataset, recipe and protocol: one version has the alias, or none."""
        first, data = trainings[0], trainings[0].data
        title = champion.Title(comparison.dataset, first.recipe, first.protocol, experiments.current())
        chosen = champion.choose(comparison.dataset, comparison.runs, comparison.reference, first.select_by)
        compared = {keys.key(training.stage, training.inputs) for training in trainings}
        with store.opened() as opened:
            held = champion.held(opened, title)
            stays = held is not None and held.stays(data, compared)
            if isinstance(chosen, str):
                if stays:
                    self.done[CHAMPION] += 1
                    self.say(f"{title.name}: {held.words()} stays {CHAMPION}: this comparison has none: {chosen}")
                    return
                taken = "; the alias is taken away" if champion.dethrone(opened, title, chosen) else ""
                self.say(f"{title.name} has no {CHAMPION}: {chosen}{taken}")
                return
            if stays and held.metric == chosen.metric and chosen.mean < held.mean:
                self.done[CHAMPION] += 1
                new = f"{chosen.run.variant}, seed {chosen.run.seed}: {chosen.metric} {chosen.mean:.4f}"
                self.say(f"{title.name}: {held.words()} stays {CHAMPION}, on the same data. The new best is {new}")
                return
            training = self.trainings[chosen.run]
            key = keys.key(training.stage, training.inputs)
            models = [model for found in store.find(opened, key)[:1] for model in store.models_of(opened, found)]
            if not models or models[0].status != "READY":
                self.say(f"{title.name}: its {CHAMPION}, {training.stage}, is registered when MLflow has its model")
                return
            self.done[CHAMPION] += 1
            if new := champion.crown(opened, title, chosen, models[0], {"key": key, "data": data}):
                before = ""
                if held and held.tags.get("key") != key:
                    on = "" if held.tags.get("data") == data else ", on other data"
                    before = f" Before: {held.words()}{on}. Now: {chosen.mean:.4f}"
                self.say(f"{title.name}: {new}: {chosen.description()}{before}")

    def unfinished(self) -> None:
        """Runs that never ended: KILLED where their process has ended, left alone where it lives or is elsewhere."""
        with store.opened() as opened:
            running = store.search(opened, "attributes.status = 'RUNNING'")
            for mlflow_run in running:
                if mlruns.PARENT not in mlflow_run.data.tags:
                    continue
                if owner.fate(mlflow_run.data.tags) == "dead":
                    opened.client.set_terminated(mlflow_run.info.run_id, "KILLED")
                    self.done[KILLED] += 1
                    self.say(f"{mlflow_run.data.tags.get('stage')}: its process is gone without a word: KILLED")
                elif mlflow_run.data.tags.get("stage") not in self.left:
                    self.leave(mlflow_run)
            for mlflow_run in running:
                if mlruns.PARENT not in mlflow_run.data.tags:
                    mlruns.end_parent(opened, mlflow_run.info.run_id)

    def here(self, stage: str, outs: Sequence[Mapping]) -> bool:
        """Whether outputs lie in the working tree. Where they do not, that is noted for the summary."""
        if held := self.tree.holds(*outs):
            return held
        stages = self.absent[self.tree.way_back(outs)]
        stages += [stage] * (stage not in stages)
        return False

    def parent(self, opened: Store, training: RecordedTraining) -> "MlflowRun":
        """The run of the training's ablation, made where there is none."""
        key = mlruns.parent_key(training.run.dataset, training.recipe, training.inputs)
        found, given = self.only_run(opened, key), self.conditions(training)
        if found and found.data.metrics:  # as an earlier version of the project wrote them
            store.delete(opened, found)
            found = None
        if found is None:
            more = given | mlruns.rebuilt("stages.ablate")
            found = mlruns.make_parent(opened, training.run.dataset, training.recipe, training.inputs, more)
            self.made.add(found.info.run_id)
        complete_run.send_tags(opened, found, given)
        return found

    def only_run(self, opened: Store, key: str) -> "MlflowRun | None":
        """The run with a key. Two machines may each have made one: the finished one stays, or the latest."""
        found = sorted(store.find(opened, key), key=lambda one: one.info.status not in ("RUNNING", "FINISHED"))
        for other in found[1:]:
            for child in mlruns.children(opened, other.info.run_id):
                store.send_tags(opened, child.info.run_id, {mlruns.PARENT: found[0].info.run_id})
            store.delete(opened, other)
        return found[0] if found else None

    def conditions(self, training: RecordedTraining) -> dict[str, str]:
        """Protocol of a training, and the state of its data where the data here are still the same."""
        if not self.has_data(training):
            return {"protocol": training.protocol}
        return mlruns.conditions(training.protocol, layout.prepared(training.run.dataset) / "dataset.json")

    def has_data(self, training: RecordedTraining) -> bool:
        """Whether the prepared dataset lies here as the training had it."""
        dataset, hashed = known = training.run.dataset, training.data
        if known not in self.held:
            made = self.entries.get(f"prepare@{dataset}", {}).get("outs", [])
            self.held[known] = hashed in [out.get("md5") for out in made] and self.tree.holds(*made)
        return self.held[known]

    def outdated(self) -> None:
        """Take runs out of the views that the comparison of their dataset does not have, unless they are at work."""
        with store.opened() as opened:
            for mlflow_run in store.search(opened, f"tags.{mlruns.CURRENT} = 'true'"):
                of = mlflow_run.data.tags
                if (
                    of["dataset"] in self.compared
                    and of["key"] not in self.shown
                    and mlflow_run.info.status != "RUNNING"
                ):
                    store.send_tags(opened, mlflow_run.info.run_id, {mlruns.CURRENT: "false"})

    def leave(self, mlflow_run: "MlflowRun") -> None:
        stage, host = mlflow_run.data.tags.get("stage"), mlflow_run.data.tags.get(owner.HOST, "an unknown host")
        self.left.add(stage)
        self.done[LEFT] += 1
        if owner.fate(mlflow_run.data.tags) == "alive":
            self.say(f"{stage}: process {mlflow_run.data.tags[owner.PID]} is at it: left alone")
        else:
            self.say(f"{stage}: still RUNNING on {host}: left alone. Where that has died, delete the run in MLflow")

    def tell(self, stage: str, lacked: Sequence[str]) -> None:
        self.done[MADE if RUN in lacked else COMPLETED if lacked else UNCHANGED] += 1
        if lacked:
            self.say(f"{stage}: {MADE if RUN in lacked else f'{COMPLETED}: ' + ', '.join(lacked)}")

    def summary(self) -> str:
        absent = 0
        for command, stages in self.absent.items():
            if stages := [stage for stage in stages if stage not in self.left]:
                absent += len(stages)
                way_back = experiments.dvc(command, "STAGE")
                named = [*stages[:NAMED], *[f"{len(stages) - NAMED} more"] * (len(stages) > NAMED)]
                self.say(f"not in the working tree as dvc.lock has them; {way_back} brings: {', '.join(named)}")
        told = [f"{self.done[kind]} runs {kind}" for kind in (MADE, COMPLETED, UNCHANGED)]
        told += [f"{self.done[kind]} {kind}" for kind in (KILLED, LEFT) if self.done[kind]]
        champions = self.done[CHAMPION]
        told += [f"{champions} {CHAMPION}{'s' * (champions > 1)}"] * bool(champions)
        return "MLflow: " + ", ".join(told + [f"{absent} stages absent"] * bool(absent))


def _shared_params(training: RecordedTraining) -> dict:
    """What all trainings of an ablation have in common."""
    recipe = {name: value for name, value in training.params.items() if not name.startswith("variant.")}
    return {"dataset": training.run.dataset, "protocol": training.protocol, "recipe": training.recipe, **recipe}
