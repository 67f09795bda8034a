"""What the report is made of, read and checked: every listed dataset, its comparison, diagnoses, histories and scores.

Tables and words are made of small files alone, of which the report keeps a copy in `reports/data/D`: a clone without
DVC's outputs makes the same tables again from those.
"""

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import pandas as pd

from stages.data import prepared
from stages.data.prepared import PreparedDataset
from stages.runtime import layout
from stages.runtime.params import Params
from stages.scoring.protocols import PROTOCOLS, Protocol

COMPARISON, CONTRASTS, SLICES = "comparison.csv", "contrasts.csv", "slices.csv"
DIAGNOSIS, SUMMARY = "diagnosis.csv", "dataset.json"
MEASURED = Path("benchmarks/results/steps.csv")
PLACES = ("root", "images", "instances", "expressions")  # of a source on this machine
TOLD = ("name", "source", "counts", "partial", "warnings", "notes", "checks", "fingerprint")  # of dataset.json

DIFFERENCE = ("difference", "difference_low", "difference_high")
IMPROVEMENT = ("improvement", "improvement_low", "improvement_high")
COLUMNS = {
    COMPARISON: {
        *("protocol", "variant", "split", "metric", "seeds", "missing", "expressions", "images", "mean", "low"),
        *("high", "std", "min", "max", *DIFFERENCE, "p", "p_holm", *IMPROVEMENT, "supported"),
    },
    CONTRASTS: {
        *("protocol", "split", "metric", "variant", "against", "aspect", "what", "seeds", *DIFFERENCE),
        *("p", "p_holm", "supported"),
    },
    SLICES: {
        *("protocol", "metric", "split", "family", "slice", "variant", "expressions", "images", "mean", "low"),
        *("high", *DIFFERENCE),
    },
    DIAGNOSIS: {"variant", "seed", "parameters", "flops"},
}
MEASURED_COLUMNS = {
    *("setting", "model", "measure", "itself", "ratio", "lowest", "highest", "device", "precision", "compiled"),
    *("date", "machine", "versions", "command"),
}


class ReportError(Exception):
    """An input of the report is missing or belongs to another experiment; the message names the command to run."""


class MissingInputError(ReportError):
    """An output of another stage is not there."""


@dataclass(frozen=True)
class Numbers:
    """What tables and words about one dataset are made of.

    Attributes:
        name: name of the dataset.
        protocol: that every number was computed under.
        recipe: name of the recipe that every variant was trained with.
        reference: the variant that differences are taken to.
        variants: listed variants, in the listed order.
        seeds: listed seeds, in the listed order.
        splits: evaluation splits, in the order of the prepared dataset.
        summary: `dataset.json` of the prepared dataset, without places on this machine.
        comparison: results/comparison, fractions, indexed by (variant, split, metric).
        contrasts: results/contrasts, a row a pair of variants, split and metric.
        slices: results/slices, a row a split, slice and variant.
        diagnosis: one row a run that was diagnosed: variant, seed, parameters, flops, and what else is one number.
        measured: the rows of benchmarks/results/steps.csv about the recipe and the listed variants.
    """

    name: str
    protocol: Protocol
    recipe: str
    reference: str
    variants: list[str]
    seeds: list[int]
    splits: list[str]
    summary: dict
    comparison: pd.DataFrame
    contrasts: pd.DataFrame
    slices: pd.DataFrame
    diagnosis: pd.DataFrame
    measured: pd.DataFrame

    @property
    def metric(self) -> str:
        """The metric that differences are headlined in."""
        return self.protocol.headline[0]

    @property
    def source(self) -> dict:
        """What the dataset was prepared from: `kind`, and what else its section of `params.yaml` said."""
        return self.summary.get("source", {})

    @cached_property
    def counts(self) -> dict[str, int]:
        """Expressions of each evaluation split."""
        return self._of_splits("expressions")

    @cached_property
    def images(self) -> dict[str, int]:
        """Images of each evaluation split."""
        return self._of_splits("images")

    @property
    def partial(self) -> bool:
        """Whether the data are a part of what was published."""
        return self.summary.get("partial", False)

    @property
    def warnings(self) -> list[str]:
        """What a reader must know of the data before comparing numbers."""
        return self.summary.get("warnings", [])

    @cached_property
    def missing(self) -> dict[str, list[int]]:
        """Variant -> the listed seeds without scores, for the variants that have such."""
        column = self.comparison["missing"].groupby(level="variant").first()
        return {name: [int(seed) for seed in column[name].split()] for name in self.variants if column[name]}

    @cached_property
    def scored(self) -> list[str]:
        """The listed variants that have scores of at least one seed."""
        return [name for name in self.variants if len(self.missing.get(name, [])) < len(self.seeds)]

    @cached_property
    def richest(self) -> str:
        """The last listed variant with scores that is not the reference; the reference where it is alone."""
        return [self.reference, *(variant for variant in self.scored if variant != self.reference)][-1]

    def cell(self, variant: str, split: str, metric: str) -> pd.Series:
        """The row of the comparison."""
        return self.comparison.loc[(variant, split, metric)]

    def _of_splits(self, column: str) -> dict[str, int]:
        by_split = self.comparison[column].groupby(level="split").first()
        return {split: int(by_split[split]) for split in self.splits}


@dataclass(frozen=True)
class DatasetResults(Numbers):
    """Everything the report says about one dataset.

    Attributes:
        dataset: the prepared dataset.
        histories: variant -> seed -> one row an epoch; runs that are missing are left out, and so are variants without
            a run.
        scores: variant -> scores of the first seed that the shown variants have in common, indexed by sent_id, for the
            variants that the gallery shows.
        shown_seed: that seed.
    """

    dataset: PreparedDataset
    histories: dict[str, dict[int, pd.DataFrame]]
    scores: dict[str, pd.DataFrame]
    shown_seed: int


def read(name: str, params: Params) -> DatasetResults:
    """Read what the report says about one dataset.

    Raises:
        MissingInputError: an input is missing.
        ReportError: an input does not match the listed variants, seeds and splits, or the protocol.
        FileNotFoundError: there is no prepared dataset.
    """
    dataset, protocol = prepared.read(layout.prepared(name)), PROTOCOLS[params.evaluation.protocol]
    found = numbers(name, params, collect(name, params, dataset))
    seeds = {variant: _but(params.experiment.seeds, found.missing.get(variant, [])) for variant in found.variants}
    histories = {
        variant: {
            seed: _read_history(name, variant, seed, protocol)
            for seed in params.experiment.seeds
            if seed in seeds[variant] or layout.history(name, variant, seed).exists()
        }
        for variant in found.variants
    }
    shown, shown_seed = _shown(found, seeds)
    return DatasetResults(
        **{field.name: getattr(found, field.name) for field in fields(Numbers)},
        dataset=dataset,
        histories={variant: by_seed for variant, by_seed in histories.items() if by_seed},
        scores={variant: _read_scores(name, variant, shown_seed, dataset, protocol) for variant in shown},
        shown_seed=shown_seed,
    )


def collect(name: str, params: Params, dataset: PreparedDataset) -> dict[str, bytes]:
    """The files that tables and words are made of, by the names under which `reports/data/D` keeps them.

    Raises:
        MissingInputError: one is not there.
    """
    source = {key: value for key, value in dataset.summary.get("source", {}).items() if key not in PLACES}
    summary = {key: dataset.summary[key] for key in TOLD if key in dataset.summary} | {"source": source}
    summary["splits"] = dataset.evaluation_splits
    content = {SUMMARY: json.dumps(summary, indent=2, ensure_ascii=False).encode() + b"\n"}
    of_ablate = {COMPARISON: layout.comparison, CONTRASTS: layout.contrasts, SLICES: layout.slices}
    for file, path in of_ablate.items():
        content[file] = _bytes(path(name), f"{name} has no {file.removesuffix('.csv')}", f"ablate@{name}")
    comparison = _table(content[COMPARISON], layout.comparison(name), COMPARISON)
    return content | {DIAGNOSIS: _diagnosis(name, params, comparison).to_csv(index=False, lineterminator="\n").encode()}


def committed(name: str) -> dict[str, bytes]:
    """The same files as the report keeps them, `reports/data/D`. Raises MissingInputError where one is not there."""
    folder = layout.REPORTS / "data" / name
    return {
        file: _bytes(folder / file, f"the report keeps no {file} of {name}", "report")
        for file in (SUMMARY, COMPARISON, CONTRASTS, SLICES, DIAGNOSIS)
    }


def numbers(name: str, params: Params, files: Mapping[str, bytes]) -> Numbers:
    """What tables and words are made of, from the content of the files.

    Raises:
        ReportError: they do not match the listed variants, seeds and splits, or the protocol.
    """
    experiment, summary = params.experiment, json.loads(files[SUMMARY])
    again = f"Make it with: dvc repro ablate@{name}"
    comparison, contrasts, slices = (
        _table(files[file], path(name), file)
        for file, path in ((COMPARISON, layout.comparison), (CONTRASTS, layout.contrasts), (SLICES, layout.slices))
    )
    _check_experiment(comparison, params, summary["splits"], layout.comparison(name), again)
    for table, path in ((contrasts, layout.contrasts(name)), (slices, layout.slices(name))):
        if len(table):
            _check_protocol(table, PROTOCOLS[params.evaluation.protocol], path, again)
    return Numbers(
        name=name,
        protocol=PROTOCOLS[params.evaluation.protocol],
        recipe=experiment.recipe,
        reference=experiment.reference,
        variants=experiment.variants,
        seeds=experiment.seeds,
        splits=summary["splits"],
        summary=summary,
        comparison=comparison.set_index(["variant", "split", "metric"]).sort_index(),
        contrasts=contrasts,
        slices=slices,
        diagnosis=_table(files[DIAGNOSIS], layout.REPORTS / "data" / name / DIAGNOSIS, DIAGNOSIS),
        measured=_measured(params),
    )


def _but(seeds: Iterable[int], missing: Iterable[int]) -> list[int]:
    gone = set(missing)
    return [seed for seed in seeds if seed not in gone]


def _shown(found: Numbers, seeds: Mapping[str, list[int]]) -> tuple[list[str], int]:
    """The variants that the gallery shows, and the first seed that they have in common."""
    if not found.scored:
        raise MissingInputError(f"no run of {found.name} has scores. Make them with: dvc repro ablate@{found.name}")
    variants = [name for name in dict.fromkeys([found.reference, found.richest]) if name in found.scored]
    for shown in (variants, variants[-1:]):
        if common := [seed for seed in found.seeds if all(seed in seeds[name] for name in shown)]:
            break
    return shown, common[0]


def _diagnosis(name: str, params: Params, comparison: pd.DataFrame) -> pd.DataFrame:
    """One row a run that has scores, a column a number of its summary; nested keys are joined by dots."""
    missing = comparison.groupby("variant")["missing"].first()
    rows = []
    for variant in params.experiment.variants:
        for seed in _but(params.experiment.seeds, map(int, missing.get(variant, "").split())):
            path = layout.diagnosis(name, variant, seed) / "summary.json"
            who = f"run {variant}, seed {seed} of {name} has no diagnosis"
            content = _bytes(path, who, f"diagnose@{name}-{variant}-{seed}")
            rows.append({"variant": variant, "seed": seed, **_flat(json.loads(content))})
    return pd.DataFrame(rows, columns=None if rows else sorted(COLUMNS[DIAGNOSIS]))


def _flat(value: dict, prefix: str = "") -> dict[str, float | int]:
    found = {}
    for key, inner in value.items():
        if isinstance(inner, dict):
            found |= _flat(inner, f"{prefix}{key}.")
        elif isinstance(inner, int | float) and not isinstance(inner, bool):
            found[f"{prefix}{key}"] = inner
    return found


def _measured(params: Params) -> pd.DataFrame:
    if not MEASURED.exists():
        return pd.DataFrame(columns=sorted(MEASURED_COLUMNS))
    table = _with_columns(pd.read_csv(MEASURED), MEASURED_COLUMNS, MEASURED, "python -m benchmarks.steps")
    chosen = (table["setting"] == params.experiment.recipe) & table["model"].isin(params.experiment.variants)
    return table[chosen].reset_index(drop=True)


def _bytes(path: Path, problem: str, stage: str) -> bytes:
    if not path.exists():
        raise MissingInputError(f"{problem}: {path} is missing. Make it with: dvc repro {stage}")
    return path.read_bytes()


def _table(content: bytes, path: Path, file: str) -> pd.DataFrame:
    table = pd.read_csv(io.BytesIO(content), dtype={"missing": str, "family": str, "slice": str})
    command = "dvc repro report" if file == DIAGNOSIS else f"dvc repro ablate@{path.stem}"
    table = _with_columns(table, COLUMNS[file], path, command)
    if "missing" in table:
        table["missing"] = table["missing"].fillna("")
    if "supported" in table:
        table["supported"] = table["supported"].astype(str) == "True"
    return table


def _with_columns(table: pd.DataFrame, wanted: set[str], path: Path, command: str) -> pd.DataFrame:
    if absent := sorted(wanted - set(table.columns)):
        raise ReportError(f"{path} lacks the columns {', '.join(absent)}. Make it again with: {command}")
    return table


def _check_experiment(table: pd.DataFrame, params: Params, splits: list[str], path: Path, again: str) -> None:
    listed = table["seeds"] + table["missing"].str.split().str.len()
    expected = {
        "variants": (params.experiment.variants, list(table["variant"].unique())),
        "splits": (splits, list(table["split"].unique())),
        "numbers of seeds": ([len(params.experiment.seeds)], list(listed.unique())),
        "protocols": ([params.evaluation.protocol], list(table["protocol"].unique())),
    }
    for what, (wanted, found) in expected.items():
        if set(wanted) != set(found):
            raise ReportError(f"{path} is of another experiment: its {what} are {found}, not {wanted}. {again}")


def _read_history(name: str, variant: str, seed: int, protocol: Protocol) -> pd.DataFrame:
    path, stage = layout.history(name, variant, seed), f"train@{name}-{variant}-{seed}"
    content = _bytes(path, f"run {variant}, seed {seed} of {name} has no history", stage)
    history = pd.read_csv(io.BytesIO(content))
    _check_protocol(history, protocol, path, f"Make it with: dvc repro {stage}")
    return history


def _read_scores(name: str, variant: str, seed: int, dataset: PreparedDataset, protocol: Protocol) -> pd.DataFrame:
    path, stage = layout.scores(name, variant, seed), f"evaluate@{name}-{variant}-{seed}"
    content, again = _bytes(path, f"run {variant}, seed {seed} of {name} has no scores", stage), f"dvc repro {stage}"
    scores = pd.read_parquet(io.BytesIO(content)).set_index("sent_id")
    _check_protocol(scores, protocol, path, f"Make it with: {again}")
    expressions = dataset.expressions
    expected = expressions.loc[expressions["split"].isin(dataset.evaluation_splits), "sent_id"]
    if set(scores.index) != set(expected):
        raise ReportError(
            f"{path} scores {len(scores)} expressions, the evaluation splits of {layout.prepared(name)} hold "
            f"{len(expected)}, and they are not the same. Make it with: {again}"
        )
    return scores


def _check_protocol(table: pd.DataFrame, protocol: Protocol, path: Path, again: str) -> None:
    found = list(table["protocol"].unique()) if "protocol" in table else "not named"
    if found != [protocol.name]:
        raise ReportError(f"{path} is of another experiment: its protocols are {found}, not {[protocol.name]}. {again}")
