"""The best model of a dataset as a registered model of MLflow with the alias `champion`, where the comparison has one.

Candidates are the variants whose difference to the reference is above 0 and supported (`stages.ablate`) on val, in the
metric that picked the epochs. The champion has the variant with the largest mean among them, and its best seed on val.
Where no difference is supported, there is no champion.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from stages.runtime import layout
from stages.runtime.run import Run
from stages.statistics.evidence import is_val
from stages.tracking.store import Store, all_pages

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel

ALIAS = "champion"


class Champion(NamedTuple):
    """A run, and the numbers that made it the champion."""

    run: Run
    reference: str
    metric: str
    mean: float  # over seeds, on val
    difference: float
    low: float
    high: float
    p: float  # after Holm's adjustment
    of_seed: float  # on val
    seeds: int

    def description(self) -> str:
        return (
            f"`{self.run.variant}`, seed {self.run.seed}: {self.metric} {self.of_seed:.4f} on val. Its variant has "
            f"{self.mean:.4f} over {self.seeds} seeds, {self.difference:+.4f} [{self.low:+.4f}, {self.high:+.4f}] "
            f"against `{self.reference}` (95 % interval, p = {self.p:.3g} after Holm's adjustment): the largest mean "
            "among the differences that are supported."
        )

    def tags(self) -> dict[str, str]:
        numbers = {
            f"val.{self.metric}": self.of_seed,
            f"val.{self.metric}.mean": self.mean,
            "difference": self.difference,
            "difference.low": self.low,
            "difference.high": self.high,
            "difference.p": self.p,
        }
        return {"reference": self.reference, "seeds": str(self.seeds)} | {
            name: repr(value) for name, value in numbers.items()
        }


def choose(dataset: str, runs: Sequence[Run], reference: str, metric: str) -> Champion | str:
    """The champion by `results/comparison`, or a text that says why there is none.

    In a mixture of sets, a difference must be supported on the val of each set, and means are over these.
    """
    rows = [row for row in _rows(layout.comparison(dataset)) if row["metric"] == metric and is_val(row["split"])]
    supported = {}
    for variant in dict.fromkeys(run.variant for run in runs if run.variant != reference):
        own = [row for row in rows if row["variant"] == variant]
        if own and all(row["supported"] == "True" and float(row["difference"]) > 0 for row in own):
            supported[variant] = own
    if not supported:
        return _why_none(rows, reference, metric)
    best = max(supported, key=lambda variant: _mean(supported[variant], "mean"))
    run = max((run for run in runs if run.variant == best), key=lambda run: _on_val(run, metric))
    own = supported[best]
    return Champion(
        run,
        reference,
        metric,
        *(_mean(own, name) for name in ("mean", "difference", "difference_low", "difference_high")),
        p=max(float(row["p_holm"]) for row in own),
        of_seed=_on_val(run, metric),
        seeds=sum(run.variant == best for run in runs),
    )


def _why_none(rows: Sequence[Mapping[str, str]], reference: str, metric: str) -> str:
    others = [row for row in rows if row["variant"] != reference and row["difference"]]
    if not others:
        return f"nothing is compared with {reference}"
    best = max(others, key=lambda row: float(row["difference"]))
    interval = (
        f"[{float(best['difference_low']):+.4f}, {float(best['difference_high']):+.4f}]" if best["p_holm"] else ""
    )
    return (
        f"no variant is above {reference} by a supported difference in {metric} on val; the largest is "
        f"{best['variant']}, {float(best['difference']):+.4f} {interval}".strip()
    )


def crown(opened: Store, champion: Champion, model: "LoggedModel", key: str) -> str | None:
    """Register the champion's logged model, once, and give it the alias. Returns what of that was new, or None."""
    name, client, new = registered_name(champion.run.dataset), opened.client, []
    registered = _registered(opened, name) or client.create_registered_model(
        name, {"dataset": champion.run.dataset}, f"The best AlignFormer on {champion.run.dataset}"
    )
    if (version := _version(opened, name, model)) is None:
        source = f"models:/{model.model_id}"
        of = {"run_id": model.source_run_id, "model_id": model.model_id, "await_creation_for": 0}
        version = client.create_model_version(name, source, **of)
        new.append(f"version {version.version}")
    tags = {name: str(value) for name, value in champion.run._asdict().items()}
    tags |= {"key": key, "protocol": model.tags["protocol"], **champion.tags()}
    if version.description != champion.description() or not tags.items() <= version.tags.items():
        client.update_model_version(name, version.version, champion.description())
        for tag, value in tags.items():
            client.set_model_version_tag(name, version.version, tag, value)
        new.append("its numbers")
    if str(registered.aliases.get(ALIAS)) != str(version.version):
        client.set_registered_model_alias(name, ALIAS, version.version)
        new.append(f"the alias {ALIAS}")
    return ", ".join(new) or None


def dethrone(opened: Store, dataset: str) -> bool:
    """Take the alias away. Returns whether there was one."""
    registered = _registered(opened, registered_name(dataset))
    if registered is None or ALIAS not in registered.aliases:
        return False
    opened.client.delete_registered_model_alias(registered.name, ALIAS)
    return True


def registered_name(dataset: str) -> str:
    return f"alignformer-{dataset}"


def _registered(opened: Store, name: str):
    """The registered model, or None."""
    found = opened.client.search_registered_models(f"name = '{name}'")
    return opened.client.get_registered_model(name) if found else None


def _version(opened: Store, name: str, model: "LoggedModel"):
    """The latest version that was made of a logged model, or None."""
    versions = all_pages(lambda token: opened.client.search_model_versions(f"name = '{name}'", page_token=token))
    own = [version for version in versions if version.source == f"models:/{model.model_id}"]
    return max(own, key=lambda version: int(version.version), default=None)


def _rows(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _mean(rows: Sequence[Mapping[str, str]], column: str) -> float:
    return fmean(float(row[column]) for row in rows)


def _on_val(run: Run, metric: str) -> float:
    metrics = json.loads(layout.metrics(*run).read_text(encoding="utf-8"))
    return fmean(values[metric] for split, values in metrics.items() if split != "protocol" and is_val(split))
