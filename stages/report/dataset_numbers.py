"""What the tables and sentences about one dataset are made of, read from a few small files and checked.

The report keeps a copy of those files in `reports/data/D`: a clone without DVC's outputs makes the same tables again.
"""

import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from stages.data import prepared
from stages.data.lost import CUT, VANISHED, sentences
from stages.runtime import experiments, layout
from stages.runtime.errors import UserError
from stages.runtime.params import Other, Params, Report, Variant
from stages.runtime.run import Run
from stages.scoring.metrics import METRICS
from stages.scoring.protocols import PROTOCOLS, Protocol
from stages.statistics import averages, evidence, factorial, language
from stages.statistics.factorial import Factorial

COMPARISON, CONTRASTS, SLICES, FACTORIAL = "comparison.csv", "contrasts.csv", "slices.csv", "factorial.csv"
AVERAGES, DIAGNOSIS, SUMMARY, LEARNING = "averages.csv", "diagnosis.csv", "dataset.json", "learning.csv"
LANGUAGE = "language.csv"
UNDER_EACH = "protocols.csv"  # kept where `evaluation.also` names a protocol
OTHERS = "others.json"

DIFFERENCE = ("difference", "difference_low", "difference_high")
ERROR = ("shared_seeds", "images_error", "seeds_error", "degrees")  # of a difference, see `planning`
IMPROVEMENT = ("improvement", "improvement_low", "improvement_high")
COLUMNS = {
    COMPARISON: {
        *("protocol", "variant", "split", "metric", "seeds", "missing", "expressions", "images", "mean", "low"),
        *("high", "std", "min", "max", *DIFFERENCE, *ERROR, "p", "p_holm", "no_verdict", *IMPROVEMENT, "supported"),
        "verdict",
    },
    CONTRASTS: {
        *("protocol", "split", "metric", "variant", "against", "aspect", "what", *DIFFERENCE),
        *(*ERROR, "p", "p_holm", "no_verdict", "supported", "verdict"),
    },
    FACTORIAL: {*factorial.COLUMNS},
    AVERAGES: {*averages.COLUMNS},
    LANGUAGE: {*language.COLUMNS},
    SLICES: {
        *("protocol", "metric", "split", "family", "slice", "variant", "expressions", "images", "mean", "low"),
        *("high", *DIFFERENCE),
    },
    DIAGNOSIS: {"variant", "seed", "parameters", "parts.vision.parameters", "parts.text.parameters", "flops"},
    LEARNING: {"variant", "seed", "epoch", "metric", "val"},
    UNDER_EACH: {"variant", "seed", "protocol", "split", "metric", "value"},
}


class ReportError(UserError):
    """An input of the report is missing or belongs to another experiment; the message names the command to run."""


class MissingInputError(ReportError):
    """An output of another stage is not there."""


@dataclass(frozen=True)
class DatasetNumbers:
    """What the tables and sentences about one dataset are made of.

    Attributes:
        name: name of the dataset.
        protocol: the protocol that every number was computed under.
        recipe: name of the recipe that every variant was trained with.
        reference: the variant that the others are compared with.
        named_highlight: the variant that `params.yaml` says the report is about; it may have no scores.
        variants: listed variants, in the listed order.
        seeds: listed seeds, in the listed order.
        smallest_effect: in points; None where verdicts are only supported or not.
        splits: evaluation splits, in the order of the prepared dataset, then `further`.
        further: further datasets that the models are scored on, each one split.
        summary: `dataset.json` of the prepared dataset, without paths on this machine.
        comparison: results/comparison, fractions, indexed by (variant, split, metric).
        contrasts: results/contrasts, one row for each pair of variants, split and metric.
        factorial: the complete factorial of VLBA and contrast among the listed variants; None where there is none.
        effects: results/factorial, one row for each of its effects, split and metric; None where there is none.
        slices: results/slices, one row for each split, slice and variant.
        averages: results/averages, one row for each metric, choice of splits, variant and pair of variants.
        language: results/language, one row for each split, headline metric and control.
        diagnosis: one row for each run that was diagnosed: variant, seed, parameters, flops, and every other single
            number of its summary.
        learning: one row for each run with a history and epoch: variant, seed, epoch, metric (which selects the
            epoch), val (its value there, a fraction).
        protocols: every protocol that the models are scored under; `protocol`, that of all other numbers, comes first.
        under_each: one row for each run with scores, and each of the others, each of `protocols`, split and metric: its
            value, a fraction; None where there is one protocol alone. Of the others, seed is missing, and so is a
            protocol that cannot count their masks.
        made_of: what each listed variant is made of.
        written: labels of variants, and how tables give their numbers.
        others: systems that others made and that have predictions on the dataset, as `params.yaml` lists them.
        unpredicted: name of one of these -> split -> how many expressions have no prediction, scored as empty masks.
    """

    name: str
    protocol: Protocol
    recipe: str
    reference: str
    named_highlight: str
    variants: list[str]
    seeds: list[int]
    smallest_effect: float | None
    splits: list[str]
    further: list[str]
    summary: dict
    comparison: pd.DataFrame
    contrasts: pd.DataFrame
    factorial: Factorial | None
    effects: pd.DataFrame | None
    slices: pd.DataFrame
    averages: pd.DataFrame
    language: pd.DataFrame
    diagnosis: pd.DataFrame
    learning: pd.DataFrame
    protocols: list[Protocol]
    under_each: pd.DataFrame | None
    made_of: dict[str, Variant]
    written: Report
    others: dict[str, Other]
    unpredicted: dict[str, dict[str, int]]

    @property
    def systems(self) -> list[str]:
        """All rows of a comparison: the listed variants, then the others."""
        return [*self.variants, *self.others]

    @property
    def metric(self) -> str:
        """The protocol's first headline metric, in which differences are summarised."""
        return self.protocol.headline[0]

    @property
    def metrics(self) -> list[str]:
        """Every metric; the protocol's headline metrics come first."""
        return list(dict.fromkeys([*self.protocol.headline, "mIoU", *METRICS]))

    @property
    def source(self) -> dict:
        """What the dataset was prepared from: `kind`, and the rest of its section in `params.yaml` without paths."""
        return self.summary.get("source", {})

    @property
    def fingerprint(self) -> str:
        """The hash of what the dataset was prepared from."""
        return self.summary.get("fingerprint", "not recorded")

    @cached_property
    def counts(self) -> dict[str, int]:
        """Number of expressions of each evaluation split."""
        return self._of_splits("expressions")

    @cached_property
    def images(self) -> dict[str, int]:
        """Number of images of each evaluation split."""
        return self._of_splits("images")

    @property
    def unseen(self) -> list[str]:
        """The evaluation splits that the headline is about: those that chose no epoch, where there are any."""
        return evidence.unseen(self.splits)

    @cached_property
    def over(self) -> str:
        """What an interval of a mean covers."""
        return "images and seeds" if any(len(seeds) > 1 for seeds in self.scored_seeds.values()) else "images alone"

    def set_of(self, split: str) -> str:
        """The set that a split is named after where several are mixed; empty for a single set, or a further dataset."""
        return "" if split in self.further else prepared.set_of(split)

    def averages_in(self, metric: str) -> pd.DataFrame:
        """The rows of `averages` in a metric."""
        return self.averages[self.averages["metric"] == metric]

    def no_verdict(self, split: str) -> str:
        """Why differences of variants on a split have no verdict, the same for all; empty where they have one."""
        return self.comparison["no_verdict"].xs(split, level="split").loc[self.variants].max()

    @cached_property
    def learned(self) -> dict[str, dict[int, np.ndarray]]:
        """Variant -> seed -> the metric that selects the epoch, on val, after each epoch, (E,)."""
        rows = self.learning.sort_values(["variant", "seed", "epoch"])
        return {
            variant: {int(seed): of_run["val"].to_numpy(float) for seed, of_run in of_variant.groupby("seed")}
            for variant in self.variants
            for of_variant in [rows[rows["variant"] == variant]]
            if len(of_variant)
        }

    @property
    def partial(self) -> bool:
        """Whether the dataset is only a part of the published one."""
        return self.summary.get("partial", False)

    @property
    def warnings(self) -> list[str]:
        """What a reader must know about the data before comparing numbers."""
        return self.summary.get("warnings", [])

    @property
    def lost(self) -> list[str]:
        """What the models did not get to see of the data, in sentences: the same in every run of a recipe."""
        if not any(name.startswith(CUT) for name in self.diagnosis) or self.diagnosis.empty:
            return []
        first = self.diagnosis.iloc[0]
        counts = {
            kind: {name.removeprefix(f"{kind}."): int(first[name]) for name in first.index if name.startswith(kind)}
            for kind in (CUT, VANISHED)
        }
        return sentences(counts, int(first["words"]), int(first["image_size"]))

    @cached_property
    def missing(self) -> dict[str, list[int]]:
        """Variant -> its listed seeds that have no scores; variants that have all scores are left out."""
        column = self.comparison["missing"].groupby(level="variant").first()
        return {name: [int(seed) for seed in column[name].split()] for name in self.variants if column[name]}

    @cached_property
    def scored_seeds(self) -> dict[str, list[int]]:
        """Variant -> its listed seeds that have scores, for every listed variant."""
        return {name: [seed for seed in self.seeds if seed not in self.missing.get(name, [])] for name in self.variants}

    @cached_property
    def scored(self) -> list[str]:
        """The listed variants that have scores of at least one seed."""
        return [name for name in self.variants if self.scored_seeds[name]]

    @property
    def highlight(self) -> str:
        """The variant that the report is about: the named highlight, or the reference where that has no scores."""
        return self.named_highlight if self.named_highlight in self.scored else self.reference

    def label(self, variant: str) -> str:
        """The name of a variant, or of one of the others, in tables."""
        if variant in self.others:
            return self.others[variant].label or variant
        return self.written.labels.get(variant, variant)

    def latex_label(self, variant: str) -> str:
        """The same in LaTeX tables, as LaTeX; empty where it follows from the label."""
        if variant in self.others:
            return self.others[variant].latex_label or ""
        return self.written.latex_labels.get(variant, "")

    def row(self, variant: str, split: str, metric: str) -> pd.Series:
        """The row of the comparison about a variant, split and metric."""
        return self.comparison.loc[(variant, split, metric)]

    def _of_splits(self, column: str) -> dict[str, int]:
        by_split = self.comparison[column].groupby(level="split").first()
        return {split: int(by_split[split]) for split in self.splits}


def from_files(name: str, params: Params, files: Mapping[str, bytes]) -> DatasetNumbers:
    """The numbers of a dataset from the content of the files that the report keeps, by their names.

    Raises:
        ReportError: they do not match the listed variants, seeds and splits, or the protocol.
    """
    experiment, summary = params.experiment, json.loads(files[SUMMARY])
    about = _about_others(name, params, files)
    again = f"Make it with: {experiments.dvc('repro', f'ablate@{name}')}"
    of_ablate = tables_of_ablate(params)
    tables = {file: read_table(files[file], path(name), file) for file, path in of_ablate.items()}
    _check_experiment(tables[COMPARISON], params, summary["splits"], layout.comparison(name), again)
    for file, table in tables.items():
        if len(table):
            check_protocol(table, PROTOCOLS[params.evaluation.protocol], of_ablate[file](name), again)
    return DatasetNumbers(
        name=name,
        protocol=PROTOCOLS[params.evaluation.protocol],
        recipe=experiment.recipe,
        reference=experiment.reference,
        named_highlight=experiment.highlight,
        variants=experiment.variants,
        seeds=experiment.seeds,
        smallest_effect=experiment.smallest_effect,
        splits=summary["splits"],
        further=experiment.evaluate_on,
        summary=summary,
        comparison=tables[COMPARISON].set_index(["variant", "split", "metric"]).sort_index(),
        contrasts=tables[CONTRASTS],
        factorial=_factorial(params),
        effects=tables.get(FACTORIAL),
        slices=tables[SLICES],
        averages=tables[AVERAGES],
        language=tables[LANGUAGE],
        diagnosis=read_table(files[DIAGNOSIS], layout.REPORTS / "data" / name / DIAGNOSIS, DIAGNOSIS),
        learning=read_table(files[LEARNING], layout.REPORTS / "data" / name / LEARNING, LEARNING),
        protocols=[PROTOCOLS[each] for each in params.evaluation.protocols],
        under_each=_under_each(files[UNDER_EACH], about, name, params) if params.evaluation.also else None,
        made_of={variant: params.variants[variant] for variant in experiment.variants},
        written=params.report,
        others={other: experiment.others[other] for other in experiment.predictions(name)},
        unpredicted={other: said["missing"] for other, said in about.items()},
    )


def _about_others(name: str, params: Params, files: Mapping[str, bytes]) -> dict[str, dict]:
    """What `score` says of each of the others, as listed.

    Raises:
        ReportError: it has scored others than those listed, or not under every protocol.
    """
    listed, path = params.experiment.predictions(name), layout.about_others(name)
    about = json.loads(files[OTHERS]) if listed else {}
    again = f"Make it with: {experiments.dvc('repro', f'score@{name}')}"
    if set(about) != set(listed):
        raise ReportError(f"{path} is about {[*about]}, params.yaml lists {[*listed]}. {again}")
    for other in listed:
        if (found := [*about[other].get("also", {})]) != params.evaluation.also:
            raise ReportError(f"{path}: {other} is also scored under {found}, not {params.evaluation.also}. {again}")
    return {other: about[other] for other in listed}


def tables_of_ablate(params: Params) -> dict[str, Callable[[str], Path]]:
    """The tables that `ablate` has written and the report keeps: name there -> dataset -> path."""
    found = {
        COMPARISON: layout.comparison,
        CONTRASTS: layout.contrasts,
        SLICES: layout.slices,
        AVERAGES: layout.averages,
        LANGUAGE: layout.language,
    }
    return found | ({FACTORIAL: layout.factorial} if _factorial(params) else {})


def kept_files(name: str, params: Params) -> dict[str, bytes]:
    """The content of the files in `reports/data/D`, by name. Raises MissingInputError where one is missing."""
    folder = layout.REPORTS / "data" / name
    of_runs = [DIAGNOSIS, LEARNING, *([UNDER_EACH] if params.evaluation.also else [])]
    return {
        file: read_bytes(folder / file, f"the report keeps no {file} of {name}", "report")
        for file in (SUMMARY, *tables_of_ablate(params), *of_runs, *files_of_others(name, params))
    }


def files_of_others(name: str, params: Params) -> list[str]:
    """The file about systems that others made, where there are some."""
    return [OTHERS] if params.experiment.predictions(name) else []


def read_bytes(path: Path, problem: str, stage: str) -> bytes:
    """The content of a file that a DVC stage makes. Raises MissingInputError where it is missing."""
    if not path.exists():
        raise MissingInputError(f"{problem}: {path} is missing. Make it with: {experiments.dvc('repro', stage)}")
    return path.read_bytes()


def read_table(content: bytes, path: Path, file: str) -> pd.DataFrame:
    """The content of one of the files of `COLUMNS`, found at `path`, as a table. Raises ReportError where one lacks."""
    texts = ("missing", "no_verdict", "verdict", "against", *factorial.FIELDS)
    table = pd.read_csv(io.BytesIO(content), dtype={**dict.fromkeys(texts, str), "family": str, "slice": str})
    of_runs = (DIAGNOSIS, LEARNING, UNDER_EACH)
    command = experiments.dvc("repro", "report" if file in of_runs else f"ablate@{path.stem}")
    table = _with_columns(table, COLUMNS[file], path, command)
    for column in table.columns.intersection(texts):
        table[column] = table[column].fillna("")
    if "supported" in table:
        table["supported"] = table["supported"].astype(str) == "True"
    return table


def check_protocol(table: pd.DataFrame, protocol: Protocol, path: Path, again: str) -> None:
    """Raises ReportError where a table, read from `path`, is not of the protocol alone; `again` says how to make it."""
    found = list(table["protocol"].unique()) if "protocol" in table else "not named"
    if found != [protocol.name]:
        raise ReportError(f"{path} is of another experiment: its protocols are {found}, not {[protocol.name]}. {again}")


def check_finite(table: pd.DataFrame, columns: Iterable[str], path: Path, again: str) -> None:
    """Raises ReportError where a number of a table, read from `path`, is missing or infinite."""
    for column in columns:
        values = pd.to_numeric(table[column], errors="coerce").to_numpy(float)
        if (wrong := ~np.isfinite(values)).any():
            raise ReportError(
                f"{path}: {column} is no finite number in {wrong.sum()} of {len(table)} rows, the first of them row "
                f"{wrong.argmax() + 1}. {again}"
            )


def _under_each(content: bytes, about: Mapping[str, dict], name: str, params: Params) -> pd.DataFrame:
    path, wanted = layout.REPORTS / "data" / name / UNDER_EACH, params.evaluation.protocols
    table = read_table(content, path, UNDER_EACH)
    for (variant, seed), rows in table.groupby(["variant", "seed"]):
        check_protocols(rows, wanted, path, Run(name, variant, int(seed)))
    of_others = [
        {"variant": other, "protocol": protocol, "split": split, "metric": metric, "value": values[metric]}
        for other, said in about.items()
        for protocol, splits in {said["protocol"]: said["splits"], **said["also"]}.items()
        for split, values in (splits or {}).items()
        for metric in METRICS
    ]
    return pd.concat([table, pd.DataFrame(of_others)]) if of_others else table


def check_protocols(table: pd.DataFrame, wanted: list[str], path: Path, run: Run) -> None:
    """Raises ReportError where metrics of a run, read from `path`, are of other protocols than those wanted."""
    if (found := list(table["protocol"].unique())) != wanted:
        again = experiments.dvc("repro", run.stage("evaluate"))
        raise ReportError(f"{path}: {run.name} is scored under {found}, not {wanted}. Score it with: {again}")


def _factorial(params: Params) -> Factorial | None:
    return factorial.find({name: params.variants[name] for name in params.experiment.variants})


def verdict(row: pd.Series) -> str:
    """The word for a difference, of a row of comparison, contrasts or averages; empty where it has no verdict."""
    if row["no_verdict"]:
        return ""
    return row.get("verdict") or ("supported" if row["supported"] else "not supported")


def _with_columns(table: pd.DataFrame, wanted: set[str], path: Path, command: str) -> pd.DataFrame:
    if absent := sorted(wanted - set(table.columns)):
        raise ReportError(f"{path} lacks the columns {', '.join(absent)}. Make it again with: {command}")
    return table


def _check_experiment(table: pd.DataFrame, params: Params, splits: list[str], path: Path, again: str) -> None:
    others = params.experiment.predictions(path.stem)
    of_variants = table[~table["variant"].isin(others)]
    listed = of_variants["seeds"] + of_variants["missing"].str.split().str.len()
    expected = {
        "variants": ([*params.experiment.variants, *others], list(table["variant"].unique())),
        "splits": (splits, list(table["split"].unique())),
        "numbers of seeds": ([len(params.experiment.seeds)], list(listed.unique())),
        "protocols": ([params.evaluation.protocol], list(table["protocol"].unique())),
    }
    for what, (wanted, found) in expected.items():
        if set(wanted) != set(found):
            raise ReportError(f"{path} is of another experiment: its {what} are {found}, not {wanted}. {again}")
