"""The best model of a dataset as a registered model of MLflow with the alias `champion`, where the comparison has one.

There is one registered model for each dataset, recipe and protocol of an experiment. Candidates are the variants whose
difference to the reference is above 0 and supported (`stages.ablate`) on every split that chose no epoch. The champion
has the variant with the largest mean on these among them, and of its seeds the best on val. Where there is none, the
description of the registered model says why.

A champion stays until a comparison on other data, a comparison with its own run, or a model with a larger mean takes
the alias.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from stages.runtime import layout
from stages.runtime.experiments import DEFAULT
from stages.runtime.run import Run
from stages.statistics.evidence import is_val, unseen
from stages.tracking import store
from stages.tracking.store import Store, all_pages

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

ALIAS = "champion"


class Title(NamedTuple):
    """What a model is the champion of. All but the experiment are keys of `params.yaml`, or values there."""

    dataset: str
    recipe: str
    protocol: str
    experiment: str = DEFAULT

    @property
    def name(self) -> str:
        """Of the registered model. A `-` in a part is doubled, so that no two titles have one name."""
        parts = [*self.other, self.dataset, self.recipe, self.protocol]
        return "-".join(["alignformer", *(part.replace("-", "--") for part in parts)])

    @property
    def words(self) -> str:
        own = [f"experiment {name}" for name in self.other]
        return ", ".join([self.dataset, f"recipe {self.recipe}", f"protocol {self.protocol}", *own])

    @property
    def other(self) -> list[str]:
        """The experiment, where it is not the default one."""
        return [] if self.experiment == DEFAULT else [self.experiment]


class Evidence(NamedTuple):
    """The numbers on one split that chose no epoch."""

    split: str
    of_seed: float
    mean: float  # over seeds
    difference: float
    low: float
    high: float
    p: float  # after Holm's adjustment

    def words(self) -> str:
        interval = f"[{self.low:+.4f}, {self.high:+.4f}], p = {self.p:.3g}"
        return f"{self.split} {self.mean:.4f}, {self.difference:+.4f} {interval}; this seed {self.of_seed:.4f}"


class Champion(NamedTuple):
    """A run, and the numbers that made it the champion."""

    run: Run
    reference: str
    metric: str
    seeds: int
    evidence: tuple[Evidence, ...]

    @property
    def mean(self) -> float:
        """Of the variant, over seeds and splits."""
        return fmean(of.mean for of in self.evidence)

    def description(self) -> str:
        return (
            f"`{self.run.variant}`, seed {self.run.seed}, the best of {self.seeds} seeds on val. {self.metric} of the "
            f"variant and its difference to `{self.reference}` (95 % interval, p after Holm's adjustment): "
            f"{'. '.join(of.words() for of in self.evidence)}. It has the largest mean, {self.mean:.4f}, among the "
            "variants whose difference is supported on each of these splits."
        )

    def tags(self) -> dict[str, str]:
        numbers = {"mean": self.mean}
        for of in self.evidence:
            numbers |= {
                f"{of.split}.{self.metric}": of.of_seed,
                f"{of.split}.{self.metric}.mean": of.mean,
                f"{of.split}.difference": of.difference,
                f"{of.split}.difference.low": of.low,
                f"{of.split}.difference.high": of.high,
                f"{of.split}.difference.p": of.p,
            }
        described = {"reference": self.reference, "metric": self.metric, "seeds": str(self.seeds)}
        return described | {store.legal(name): repr(value) for name, value in numbers.items()}


def choose(dataset: str, runs: Sequence[Run], reference: str, metric: str) -> Champion | str:
    """The champion by `results/comparison`, or a text that says why there is none."""
    trained = {run.variant for run in runs}  # not the systems that others made
    rows = [row for row in _rows(layout.comparison(dataset)) if row["metric"] == metric and row["variant"] in trained]
    splits = unseen(list(dict.fromkeys(row["split"] for row in rows)))
    rows = [row for row in rows if row["split"] in splits]
    supported = {}
    for variant in dict.fromkeys(run.variant for run in runs if run.variant != reference):
        own = [row for row in rows if row["variant"] == variant]
        if own and all(row["supported"] == "True" and float(row["difference"]) > 0 for row in own):
            supported[variant] = own
    if not supported:
        return _why_none(rows, splits, reference, metric)
    best = max(supported, key=lambda variant: _mean(supported[variant], "mean"))
    seeds = {run: _metrics(run) for run in runs if run.variant == best}
    chosen = max(seeds, key=lambda run: _on_val(seeds[run], metric))
    numbers = ("mean", "difference", "difference_low", "difference_high", "p_holm")
    evidence = tuple(
        Evidence(row["split"], seeds[chosen][row["split"]][metric], *(float(row[name]) for name in numbers))
        for row in supported[best]
    )
    return Champion(chosen, reference, metric, len(seeds), evidence)


def _why_none(rows: Sequence[Mapping[str, str]], splits: Sequence[str], reference: str, metric: str) -> str:
    compared: dict[str, list] = {}
    for row in rows:
        if row["variant"] != reference and row["difference"]:
            compared.setdefault(row["variant"], []).append(row)
    if not compared:
        return f"nothing is compared with {reference}"
    judged = {variant: own for variant, own in compared.items() if not any(row.get("no_verdict") for row in own)}
    if not judged:
        reasons: dict[str, list[str]] = {}
        for row in rows:
            if (why := row.get("no_verdict")) and row["split"] not in reasons.setdefault(why, []):
                reasons[why].append(row["split"])
        return "; ".join(f"{', '.join(of)}: {why}" for why, of in reasons.items())
    best = max(judged, key=lambda variant: _mean(judged[variant], "difference"))
    shown = [f"{row['split']} {float(row['difference']):+.4f} {_interval(row)}".strip() for row in judged[best]]
    return (
        f"no variant is above {reference} by a difference in {metric} that is supported on {_each(splits)}; the "
        f"largest is that of {best}: {', '.join(shown)}"
    )


def _each(splits: Sequence[str]) -> str:
    return splits[0] if len(splits) == 1 else f"each of {', '.join(splits)}"


def _interval(row: Mapping[str, str]) -> str:
    if not row["p_holm"]:
        return ""
    return (
        f"[{float(row['difference_low']):+.4f}, {float(row['difference_high']):+.4f}], p = {float(row['p_holm']):.3g}"
    )


class Held(NamedTuple):
    """The version that has the alias."""

    version: str
    tags: Mapping[str, str]

    @property
    def metric(self) -> str | None:
        return self.tags.get("metric")

    @property
    def mean(self) -> float:
        return float(self.tags.get("mean", "nan"))

    def stays(self, data: str, compared: set[str]) -> bool:
        """Whether a comparison says nothing about it: it has the same data, and other runs.

        Args:
            data: hash of the prepared dataset that was compared on.
            compared: keys of the runs.
        """
        return self.tags.get("data") == data and self.tags.get("key") not in compared

    def words(self) -> str:
        tags = self.tags
        return f"version {self.version}, {tags.get('variant')}, seed {tags.get('seed')}: {tags.get('metric')} " + (
            f"{self.mean:.4f}"
        )


def held(opened: Store, title: Title) -> Held | None:
    """The champion that MLflow has, if its model is there too."""
    from mlflow.exceptions import MlflowException

    registered = _registered(opened, title)
    if registered is None or ALIAS not in registered.aliases:
        return None
    version = opened.client.get_model_version(title.name, str(registered.aliases[ALIAS]))
    try:
        opened.client.get_logged_model(version.source.removeprefix("models:/"))
    except MlflowException:
        return None
    return Held(str(version.version), version.tags)


def crown(opened: Store, title: Title, champion: Champion, model: "LoggedModel", more: Mapping[str, str]) -> str | None:
    """Register the champion's logged model, once, and give it the alias.

    Args:
        more: tags of the version: what its run was made from.

    Returns:
        What of that was new, or None.
    """
    client, new = opened.client, []
    registered = _described(opened, title, f"The best AlignFormer of {title.words}")
    if (version := _version(opened, title.name, model)) is None:
        version = store.register(opened, title.name, model)
        new.append(f"version {version.version}")
    tags = {name: str(value) for name, value in champion.run._asdict().items()}
    tags |= {**title._asdict(), **more, **champion.tags()}
    words = " ".join([*(f"Experiment {name}:" for name in title.other), champion.description()])
    if version.description != words or not tags.items() <= version.tags.items():
        client.update_model_version(title.name, version.version, words)
        for tag, value in tags.items():
            client.set_model_version_tag(title.name, version.version, tag, value)
        new.append("its numbers")
    if str(registered.aliases.get(ALIAS)) != str(version.version):
        client.set_registered_model_alias(title.name, ALIAS, version.version)
        new.append(f"the alias {ALIAS}")
    return ", ".join(new) or None


def dethrone(opened: Store, title: Title, why: str) -> bool:
    """Write down why there is no champion, and take the alias away. Returns whether there was one."""
    registered = _described(opened, title, f"No {ALIAS} of {title.words}: {why}")
    if ALIAS not in registered.aliases:
        return False
    opened.client.delete_registered_model_alias(title.name, ALIAS)
    return True


def _described(opened: Store, title: Title, words: str) -> "RegisteredModel":
    """The registered model of a title, made where there is none, with a description."""
    found = _registered(opened, title)
    if found is None:
        return opened.client.create_registered_model(title.name, title._asdict(), words)
    if found.description != words:
        opened.client.update_registered_model(title.name, words)
    for tag, value in title._asdict().items() - found.tags.items():
        opened.client.set_registered_model_tag(title.name, tag, value)
    return found


def _registered(opened: Store, title: Title) -> "RegisteredModel | None":
    found = opened.client.search_registered_models(f"name = '{title.name}'")
    return opened.client.get_registered_model(title.name) if found else None


def _version(opened: Store, name: str, model: "LoggedModel") -> "ModelVersion | None":
    """The latest version that was made of a logged model, or None."""
    versions = all_pages(lambda token: opened.client.search_model_versions(f"name = '{name}'", page_token=token))
    own = [version for version in versions if version.source == f"models:/{model.model_id}"]
    return max(own, key=lambda version: int(version.version), default=None)


def _rows(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _mean(rows: Sequence[Mapping[str, str]], column: str) -> float:
    return fmean(float(row[column]) for row in rows)


def _metrics(run: Run) -> dict[str, dict[str, float]]:
    """Split -> metric -> value."""
    metrics = json.loads(layout.metrics(*run).read_text(encoding="utf-8"))
    return {split: values for split, values in metrics.items() if split != "protocol"}


def _on_val(metrics: Mapping[str, Mapping[str, float]], metric: str) -> float:
    return fmean(values[metric] for split, values in metrics.items() if is_val(split))
