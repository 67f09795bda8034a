"""What the report's tables are made of, without any run: a comparison, contrasts, slices and diagnoses as files.

The numbers are made up, or where there are scores, made of them by plain means and normal intervals: another way than
that of `stages.ablate`.
"""

import html
import io
import json
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.figure import Figure as Canvas

from stages.data import prepared
from stages.report import dataset_numbers, dataset_results
from stages.report.dataset_numbers import DatasetNumbers
from stages.report.figures import rendering
from stages.report.figures.figure import Figure
from stages.runtime import layout
from stages.runtime.params import Params
from stages.runtime.params import read as read_params
from stages.scoring.metrics import METRICS, summarise
from stages.scoring.protocols import PROTOCOLS
from stages.statistics import evidence, factorial

PARAMS = Path(__file__).parents[2] / "params.yaml"
MEANS = {  # of a comparison in which VLBA is supported and the contrasts are not
    "baseline": 0.55,
    "text_to_pixel": 0.56,
    "pixel_to_text": 0.55,
    "vlba": 0.581,
    "vlba_pixel": 0.55,
    "alignformer": 0.583,
}
MIXED_MEANS = {  # where variants are above, below and beside the reference
    "baseline": 0.55,
    "text_to_pixel": 0.6104,
    "pixel_to_text": 0.5496,
    "vlba": 0.61,
    "vlba_pixel": 0.5,
    "alignformer": 0.62,
}
WHAT = {
    ("vlba", "text_to_pixel"): "text-to-pixel VLBA",
    ("vlba", "pixel_to_text"): "pixel-to-text VLBA",
    ("vlba", "bidirectional"): "bidirectional VLBA",
    ("contrastive", "pixel"): "pixel contrast",
    ("contrastive", "instance"): "instance contrast",
}
BETTER = dict(zip(dataset_numbers.IMPROVEMENT, (0.6, 0.5, 0.7), strict=True))
PROFILES = "profiles.csv"
NO_TEST = {
    **dict.fromkeys(("images_error", "seeds_error"), 0.005),
    **{"degrees": 1, "p": math.nan, "p_holm": math.nan, "no_verdict": "", "supported": False},
}
DIFFERENCES = ("difference", "difference_low", "difference_high", "p", "p_holm")


def params(tmp_path: Path, dataset: str = "scenes", **experiment) -> Params:
    """The project's parameters with another experiment; `protocol` and `also` stand among its keys."""
    content = yaml.safe_load(PARAMS.read_text())
    content["evaluation"] |= {"protocol": experiment.pop("protocol", "original"), "also": experiment.pop("also", [])}
    content["experiment"] |= {"datasets": [dataset], **experiment}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    return read_params(tmp_path / "params.yaml")


def numbers(
    settings: Params, means: dict[str, float], splits: Iterable[str] = ("val", "testA"), **changes
) -> DatasetNumbers:
    """Tables' input where every metric of a variant is its mean, everywhere; see `files`."""
    (name,) = settings.experiment.datasets
    return dataset_numbers.from_files(name, settings, files(settings, means, splits, **changes))


def files(
    settings: Params,
    means: dict[str, float],
    splits: Iterable[str] = ("val", "testA"),
    missing: dict[str, list[int]] | None = None,
    supported: float = 0.02,
    summary: dict | None = None,
    images: dict[str, int] | None = None,
    rising: bool = False,
    contributes: dict[str, float] | None = None,
) -> dict[str, bytes]:
    """The files as `reports/data` keeps them.

    Args:
        means: variant -> its mean; intervals are 3 points to either side.
        missing: variant -> seeds without scores.
        supported: a difference of at least so much is, where seeds and images allow a verdict.
        images: split -> number of its images; by default 400 and more.
        rising: whether val still rises in the last of the four epochs.
        contributes: variant -> its mean minus that with expressions of other images; by default 0.3.
    """
    experiment, splits, missing = settings.experiment, list(splits), missing or {}
    (name,) = experiment.datasets
    described = {"dataset": name, "protocol": settings.evaluation.protocol}
    gone = {variant for variant in experiment.variants if len(missing.get(variant, [])) == len(experiment.seeds)}

    sizes = {split: 400 + place for place, split in enumerate(splits)} | (images or {})

    def difference(variant: str, against: str, split: str) -> dict:
        return combination({variant: 1, against: -1} if variant != against else {}, split)

    def combination(weights: dict[str, float], split: str) -> dict:
        error = {"images_error": 0.005, "seeds_error": 0.005, "degrees": len(experiment.seeds) - 1, "verdict": ""}
        error["shared_seeds"] = len(experiment.seeds)
        nothing = dict.fromkeys(DIFFERENCES, math.nan) | error | {"supported": False, "no_verdict": ""}
        if not weights or gone & weights.keys():
            return nothing | {"difference": math.nan if weights else 0.0}
        change = sum(weight * means[name] for name, weight in weights.items())
        reason = evidence.no_verdict(sizes[split], len(experiment.seeds) - 1)
        p = 0.01 if abs(change) >= supported else 0.5
        p_values = (math.nan, math.nan) if reason else (p, min(1.0, 2 * p))
        ends = (math.nan, math.nan) if sizes[split] < evidence.FEWEST_IMAGES else (change - 0.03, change + 0.03)
        values = dict(zip(DIFFERENCES, (change, *ends, *p_values), strict=True))
        holds = not reason and abs(change) >= supported
        if experiment.smallest_effect and not reason:
            equivalent = abs(change) < experiment.smallest_effect / 100 and not holds
            error["verdict"] = ("worse", "better")[change > 0] if holds else ("undecided", "equivalent")[equivalent]
        return {**values, **error, "supported": holds, "no_verdict": reason}

    comparison = [
        {
            **described,
            "variant": variant,
            "split": split,
            "metric": metric,
            "seeds": len(experiment.seeds) - len(missing.get(variant, [])),
            "missing": " ".join(map(str, missing.get(variant, []))),
            "expressions": 1000 + place,
            "images": sizes[split],
            **dict.fromkeys(("mean", "low", "high", "std", "min", "max"), math.nan),
            **({} if variant in gone else around(means[variant], sizes[split])),
            **difference(variant, experiment.reference, split),
            **dict.fromkeys(dataset_numbers.IMPROVEMENT, math.nan),
            **({} if variant in {*gone, experiment.reference} else BETTER),
        }
        for variant in experiment.variants
        for place, split in enumerate(splits)
        for metric in METRICS
    ]
    contrasts = [
        {
            **described,
            "split": split,
            "metric": metric,
            **pair,
            **difference(pair["variant"], pair["against"], split),
        }
        for pair in pairs(settings)
        for split in splits
        for metric in METRICS
    ]
    whole = factorial.find({name: settings.variants[name] for name in experiment.variants})
    effects = [
        {
            **described,
            "split": split,
            "metric": metric,
            **dict(zip(factorial.FIELDS, effect.levels, strict=True)),
            "what": effect.what,
            "seeds": 0 if gone & effect.weights.keys() else len(experiment.seeds),
            **combination(effect.weights, split),
        }
        for split in splits
        for metric in METRICS
        for effect in (factorial.effects(whole) if whole else [])
    ]
    slices = [
        {
            **described,
            "metric": settings_metric(settings),
            "split": split,
            "family": family,
            "slice": slice_name,
            "variant": variant,
            "expressions": 8 if few else 300,
            "images": 8 if few else 120,
            **dict.fromkeys(("mean", "low", "high", *DIFFERENCES[:3]), math.nan),
            **({} if few or variant in gone else {key: around(means[variant])[key] for key in ("mean", "low", "high")}),
            **({} if few else {key: difference(variant, experiment.reference, split)[key] for key in DIFFERENCES[:3]}),
        }
        for split in splits
        for family, names in {"length": ("1 to 2", "3 and more"), "distractors": ("0", "1", "2 and more")}.items()
        for slice_name in names
        for few in [slice_name == "2 and more"]
        for variant in experiment.variants
    ]
    unseen = [split for split in splits if split != "val"] or splits
    averages_rows = [
        {
            **described,
            "metric": metric,
            "splits": " ".join(unseen),
            "headline": False,
            **dict(zip(("variant", "against"), names, strict=True)),
            "seeds": 0 if gone & {*names} else len(experiment.seeds),
            **dict.fromkeys(("value", "low", "high", "std"), math.nan),
            **({} if gone & {*names} or names[1] else averaged(around(means[names[0]], min(sizes[s] for s in unseen)))),
            **(averaged(difference(*names, min(unseen, key=sizes.__getitem__))) if names[1] else NO_TEST),
        }
        for metric in METRICS
        for names in [
            *((variant, "") for variant in experiment.variants),
            *((variant, experiment.reference) for variant in experiment.variants if variant != experiment.reference),
            *(
                (pair["variant"], pair["against"])
                for pair in pairs(settings)
                if pair["against"] != experiment.reference
            ),
        ]
    ]
    diagnosis = [
        {
            "variant": variant,
            "seed": seed,
            "parameters": 1_000_000 + 1000 * place,
            "parts.vision.parameters": 500_000,
            "parts.text.parameters": 100_000,
            "flops": 2_000_000_000 + place,
        }
        for place, variant in enumerate(experiment.variants)
        for seed in experiment.seeds
        if seed not in missing.get(variant, [])
    ]
    learning = [
        {
            **{key: run[key] for key in ("variant", "seed")},
            "epoch": epoch,
            "metric": "mIoU",
            "val": share * means[run["variant"]] + 0.001 * run["seed"],
        }
        for run in diagnosis
        for epoch, share in enumerate((0.4, 0.8, 0.9, 0.98) if rising else (0.4, 0.8, 1.0, 1.0), start=1)
    ]
    named = [settings.evaluation.protocol, *settings.evaluation.also]
    under_each = [
        {
            **{key: run[key] for key in ("variant", "seed")},
            **{"protocol": protocol, "split": split, "metric": metric},
            "value": means[run["variant"]] - 0.02 * place + 0.001 * run["seed"],
        }
        for run in diagnosis
        for place, protocol in enumerate(named)
        for split in splits
        for metric in METRICS
    ]
    source = settings.datasets[name].model_dump(exclude=set(dataset_results.PLACES))
    told = {"name": name, "source": source, "splits": splits, "fingerprint": "f00d", **(summary or {})}
    columns = [
        "protocol",
        *(column for column in dataset_numbers.COLUMNS[dataset_numbers.CONTRASTS] if column != "protocol"),
    ]
    return {
        dataset_numbers.COMPARISON: csv(pd.DataFrame(comparison)),
        dataset_numbers.CONTRASTS: csv(pd.DataFrame(contrasts, columns=None if contrasts else sorted(columns))),
        **({dataset_numbers.FACTORIAL: csv(pd.DataFrame(effects))} if whole else {}),
        dataset_numbers.SLICES: csv(pd.DataFrame(slices)),
        dataset_numbers.AVERAGES: csv(pd.DataFrame(averages_rows)),
        dataset_numbers.LANGUAGE: csv(language_rows(settings, described, means, gone, sizes, contributes)),
        dataset_numbers.DIAGNOSIS: csv(pd.DataFrame(diagnosis)),
        dataset_numbers.LEARNING: csv(pd.DataFrame(learning, columns=["variant", "seed", "epoch", "metric", "val"])),
        **({dataset_numbers.UNDER_EACH: csv(pd.DataFrame(under_each))} if settings.evaluation.also else {}),
        dataset_numbers.SUMMARY: json.dumps(told).encode(),
    }


def language_rows(
    settings: Params,
    described: dict,
    means: dict[str, float],
    gone: set[str],
    sizes: dict[str, int],
    contributes: dict[str, float] | None,
) -> pd.DataFrame:
    """The controls: masks without a model at 0.1, and variants below their means."""
    nothing = dict.fromkeys(("mean", "low", "high", "difference", "difference_low", "difference_high"), math.nan)

    def ends(images: int, value: float) -> tuple[float, float]:
        return (math.nan, math.nan) if images < evidence.FEWEST_IMAGES else (value - 0.03, value + 0.03)

    rows = []
    for place, (split, images) in enumerate(sizes.items()):
        for metric in PROTOCOLS[settings.evaluation.protocol].headline:
            about = {**described, "split": split, "metric": metric, "expressions": 1000 + place, "images": images}
            for name in ("whole image", "center box"):
                values = around(0.1, images)
                mean = {key: values[key] for key in ("mean", "low", "high")}
                rows.append({**about, "system": name, "without_model": True, "seeds": 0, **nothing, **mean})
            for name in settings.experiment.variants:
                row = {
                    **about,
                    "system": name,
                    "without_model": False,
                    "seeds": len(settings.experiment.seeds),
                    **nothing,
                }
                if name not in gone:
                    change = (contributes or {}).get(name, 0.3)
                    low, high = ends(images, change)
                    values = around(means[name] - change, images)
                    row |= {key: values[key] for key in ("mean", "low", "high")}
                    row |= {"difference": change, "difference_low": low, "difference_high": high}
                rows.append(row)
    return pd.DataFrame(rows)


def around(mean: float, images: int = 400) -> dict[str, float]:
    ends = (math.nan, math.nan) if images < evidence.FEWEST_IMAGES else (mean - 0.03, mean + 0.03)
    values = (mean, *ends, 0.01, mean - 0.01, mean + 0.01)
    return dict(zip(("mean", "low", "high", "std", "min", "max"), values, strict=True))


def averaged(row: dict) -> dict:
    """A mean or a difference under the names of the table of averages."""
    names = {"mean": "value", "difference": "value", "difference_low": "low", "difference_high": "high"}
    return {names.get(key, key): value for key, value in row.items() if key not in ("min", "max", "verdict")}


def profiles(settings: Params, splits: Iterable[str]) -> pd.DataFrame:
    """Straight lines from 1 to 0, one for each split and variant."""
    (name,) = settings.experiment.datasets
    rows = [
        {
            **{"dataset": name, "protocol": settings.evaluation.protocol, "split": split, "variant": variant},
            **{"threshold": place / 10, "share": 1 - place / 10, "low": 0.9 - place / 10, "high": 1 - place / 20},
        }
        for split in splits
        for variant in settings.experiment.variants
        for place in range(10)
    ]
    return pd.DataFrame(rows)


def settings_metric(settings: Params) -> str:
    return PROTOCOLS[settings.evaluation.protocol].headline[0]


def pairs(settings: Params) -> list[dict[str, str]]:
    """Listed variants that differ in one part of the method, which `against` does without."""
    found = []
    for name in settings.experiment.variants:
        for against in settings.experiment.variants:
            variant, other = settings.variants[name], settings.variants[against]
            for aspect, same in (("vlba", "contrastive"), ("contrastive", "vlba")):
                with_it, without = getattr(variant, aspect), getattr(other, aspect)
                if getattr(variant, same) == getattr(other, same) and without == "none" != with_it:
                    what = WHAT[aspect, with_it]
                    found.append({"variant": name, "against": against, "aspect": aspect, "what": what})
    return found


@contextmanager
def unrendered(but: str | tuple[str, ...] = ()) -> Iterator[None]:
    """For a report that is not about its figures: they are drawn, but become files of a few words, which is faster.

    Args:
        but: beginnings of DATASET-FIGURE. These figures become files as always.
    """
    files, inline = rendering.files, rendering.inline

    def in_words(figure: Figure) -> list[str]:
        for panel in figure.panels:
            panel.draw(Canvas().add_subplot())
        return [f'<svg role="img" aria-label="{html.escape(panel.alt)}"></svg>' for panel in figure.panels]

    def as_files(figure: Figure, salt: str) -> tuple[bytes, bytes]:
        if f"{salt}-{figure.key}".startswith(but):
            return files(figure, salt)
        content = "\n".join([salt, figure.caption, *in_words(figure)]).encode()
        return content, content

    def as_elements(figure: Figure, prefix: str) -> list[str]:
        return inline(figure, prefix) if prefix.startswith(but) else in_words(figure)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rendering, "files", as_files)
        patch.setattr(rendering, "inline", as_elements)
        yield


def csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False, lineterminator="\n").encode()


def write_results(settings: Params, name: str) -> None:
    """Comparison, contrasts, slices and diagnoses of runs that have scores, where the stages write them."""
    experiment, protocol = settings.experiment, PROTOCOLS[settings.evaluation.protocol]
    one = settings.model_copy(update={"experiment": experiment.model_copy(update={"datasets": [name]})})
    splits = prepared.read(layout.prepared(name)).evaluation_splits
    made = files(one, dict.fromkeys(experiment.variants, 0.5), splits)
    table = pd.read_csv(io.BytesIO(made[dataset_numbers.COMPARISON]))
    values = {
        (variant, split, metric): [
            summarise(rows, protocol)[metric]
            for seed in experiment.seeds
            for scores in [pd.read_parquet(layout.scores(name, variant, seed))]
            for rows in [scores[scores["split"] == split]]
        ]
        for variant in experiment.variants
        for split in splits
        for metric in METRICS
    }
    for index, row in table.iterrows():
        runs = np.array(values[row["variant"], row["split"], row["metric"]])
        change = runs.mean() - np.mean(values[experiment.reference, row["split"], row["metric"]])
        std = runs.std(ddof=1) if len(runs) > 1 else math.nan
        own = (runs.mean(), runs.mean() - 0.05, runs.mean() + 0.05, std, runs.min(), runs.max())
        table.loc[index, ["mean", "low", "high", "std", "min", "max"]] = own
        if row["variant"] != experiment.reference:
            p = 0.01 if abs(change) > 0.1 else 0.5
            table.loc[index, list(DIFFERENCES)] = (change, change - 0.08, change + 0.08, p, p)
            table.loc[index, "supported"] = p < 0.05
    made[dataset_numbers.COMPARISON] = csv(table)
    of_table = table.set_index(["variant", "split", "metric"])["mean"]
    contrasts = pd.read_csv(io.BytesIO(made[dataset_numbers.CONTRASTS]))
    for index, row in contrasts.iterrows():
        ends = [of_table[row[end], row["split"], row["metric"]] for end in ("variant", "against")]
        change = ends[0] - ends[1]
        p = 0.01 if abs(change) > 0.1 else 0.5
        contrasts.loc[index, list(DIFFERENCES)] = (change, change - 0.08, change + 0.08, p, p)
        contrasts.loc[index, "supported"] = p < 0.05
    made[dataset_numbers.CONTRASTS] = csv(contrasts)
    made[PROFILES] = csv(profiles(one, splits))
    for file, path in (
        (dataset_numbers.COMPARISON, layout.comparison(name)),
        (dataset_numbers.CONTRASTS, layout.contrasts(name)),
        (dataset_numbers.FACTORIAL, layout.factorial(name)),
        (dataset_numbers.SLICES, layout.slices(name)),
        (dataset_numbers.AVERAGES, layout.averages(name)),
        (dataset_numbers.LANGUAGE, layout.language(name)),
        (PROFILES, layout.profiles(name)),
    ):
        if file not in made:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(made[file])
    for place, variant in enumerate(experiment.variants):
        for seed in experiment.seeds:
            folder = layout.diagnosis(name, variant, seed)
            folder.mkdir(parents=True, exist_ok=True)
            parts = {"vision": {"parameters": 500_000}, "text": {"parameters": 100_000}}
            costs = {"parameters": 1_000_000 + place, "parts": parts, "flops": 2_000_000}
            costs["alignment"] = {"val": {"ap": 0.5}}
            (folder / "summary.json").write_text(json.dumps(costs))
