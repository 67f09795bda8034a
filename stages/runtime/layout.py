"""The path of every stage's output, relative to the experiment's folder. `dvc.yaml` declares the same paths.

The default experiment's folder is the project itself, that of another is `experiments/NAME`: the current folder of all
that works on one experiment.
"""

import os
from pathlib import Path

PARAMS = Path("params.yaml")
DATA = Path("data")
RESULTS = Path("results")
ALL_PARAMS = RESULTS / "params.json"
LINKS = RESULTS / "links.json"
PREDICTIONS = RESULTS / "predictions.json"  # what the files of predictions of others look like now
REPORTS = Path("reports")
PAGE = REPORTS / "index.html"
SOURCES = Path("sources")
CHECKPOINTS = Path("checkpoints")
EXPERIMENTS = Path("experiments")
MODEL_FILES = ("config.json", "model.safetensors", "processor_config.json", "tokenizer.json", "tokenizer_config.json")


def root() -> Path:
    """The project's folder: the current one, or the nearest above it that DVC knows. The current one if there is none.

    For an experiment that DVC runs in a temporary copy of the project, this is the copy.
    """
    here = Path.cwd()
    found = next((folder for folder in (here, *here.parents) if (folder / ".dvc").is_dir()), here)
    return Path(os.path.relpath(found))


def project() -> Path:
    """The same, but the original where DVC runs an experiment in a temporary copy.

    `dvc exp run --temp` and `--queue` make such copies of the files that git tracks, in `.dvc/tmp` of the project.
    """
    original = Path(os.environ.get("DVC_ROOT", ".")).resolve()  # DVC sets it for every stage, and what that starts
    return original if Path.cwd().is_relative_to(original / ".dvc" / "tmp") else root()


def from_root(path: Path) -> Path:
    """The same path, from the project's folder: for messages, as that is where commands are given."""
    return Path(os.path.relpath(path, root()))


def result(dataset: str) -> Path:
    """The result of a dataset in sentences, as its report says it first: a list in JSON."""
    return REPORTS / "data" / dataset / "result.json"


def source(path: str | Path) -> Path:
    """Where a path that `params.yaml` names lies: in the current folder, or else in `root`, or else in `project`."""
    places = [Path(), root(), project()]
    return next((place / path for place in places if (place / path).exists()), places[-1] / path)


def prepared(dataset: str) -> Path:
    """The prepared dataset: tables, `dataset.json`, and `refer/` if the project renders the images itself."""
    return DATA / dataset


def prepared_hash(dataset: str) -> Path:
    """A hash of all files of the prepared dataset."""
    return RESULTS / "prepared" / f"{dataset}.json"


def fingerprint(dataset: str) -> Path:
    """Names, sizes and hashes of a dataset's files outside the project."""
    return SOURCES / f"{dataset}.json"


def inspection(dataset: str) -> Path:
    """A page of samples, for people; not an output of a stage."""
    return RESULTS / "inspection" / f"{dataset}.html"


def model(dataset: str, variant: str, seed: int) -> Path:
    """The model folder of one run: `MODEL_FILES` and the model card."""
    return RESULTS / "models" / dataset / variant / str(seed)


def card(dataset: str, variant: str, seed: int) -> Path:
    """The model card, in the model folder."""
    return model(dataset, variant, seed) / "README.md"


def history(dataset: str, variant: str, seed: int) -> Path:
    """One row per epoch: losses, learning rate and validation metrics."""
    return RESULTS / "history" / dataset / variant / f"{seed}.csv"


def checkpoints(dataset: str, variant: str, seed: int) -> Path:
    """The checkpoints from which a run resumes; its lock lies beside them. Not an output of a stage."""
    return CHECKPOINTS / f"{dataset}-{variant}-{seed}"


def scores(dataset: str, variant: str, seed: int, on: str | None = None) -> Path:
    """One row per expression: intersection, union, IoU and the predicted mask.

    Args:
        on: a further dataset that the run is scored on, as for `controls`, `metrics` and `protocols`; None for the
            evaluation splits of its own.
    """
    return _of_run("scores", dataset, variant, seed) / f"{on or dataset}.parquet"


def controls(dataset: str, variant: str, seed: int, on: str | None = None) -> Path:
    """As `scores`, of the same model given expressions of other images, without the predicted mask."""
    return _of_run("controls", dataset, variant, seed) / f"{on or dataset}.parquet"


def others(dataset: str) -> Path:
    """The folder of all systems that others made: their scores, and `others.json`, which says what was scored."""
    return RESULTS / "others" / dataset


def scores_of_other(dataset: str, name: str) -> Path:
    """As `scores`, of a system that others made."""
    return others(dataset) / f"{name}.parquet"


def about_others(dataset: str) -> Path:
    """Name -> what was scored of each of the others, and its metrics by split."""
    return others(dataset) / "others.json"


def tried(dataset: str, name: str) -> Path:
    """The folder of scores and metrics of predictions that `params.yaml` does not list; not an output of a stage."""
    return RESULTS / "tried" / dataset / name


def metrics(dataset: str, variant: str, seed: int, on: str | None = None) -> Path:
    """Metrics of one run, by split."""
    return _of_run("metrics", dataset, variant, seed) / f"{on or dataset}.json"


def protocols(dataset: str, variant: str, seed: int, on: str | None = None) -> Path:
    """Metrics of one run, by split, under each protocol that it was scored under."""
    return _of_run("protocols", dataset, variant, seed) / f"{on or dataset}.csv"


def _of_run(kind: str, dataset: str, variant: str, seed: int) -> Path:
    """The folder of one run, with a file for each dataset that it is scored on."""
    return RESULTS / kind / dataset / variant / str(seed)


def diagnosis(dataset: str, variant: str, seed: int) -> Path:
    """The diagnosis of one run's model, a folder: alignment, calibration, thresholds, attention, costs."""
    return RESULTS / "diagnosis" / dataset / variant / str(seed)


def second_truth(dataset: str) -> Path:
    """Variants and seeds against two sets of masks; not an output of a stage."""
    return RESULTS / "second_truth" / f"{dataset}.csv"


def comparison(dataset: str) -> Path:
    """Variants x splits x metrics over all seeds, with differences to the reference."""
    return RESULTS / "comparison" / f"{dataset}.csv"


def contrasts(dataset: str) -> Path:
    """Pairs of variants that differ in one part of the method x splits x metrics."""
    return RESULTS / "contrasts" / f"{dataset}.csv"


def factorial(dataset: str) -> Path:
    """Effects of a factorial among the variants x splits x metrics; no row where there is none."""
    return RESULTS / "factorial" / f"{dataset}.csv"


def slices(dataset: str) -> Path:
    """Variants x splits x slices of the expressions."""
    return RESULTS / "slices" / f"{dataset}.csv"


def averages(dataset: str) -> Path:
    """Variants and pairs of variants x metrics, averaged over splits."""
    return RESULTS / "averages" / f"{dataset}.csv"


def language(dataset: str) -> Path:
    """Controls x splits x headline metrics: masks without a model, and variants given expressions of other images."""
    return RESULTS / "language" / f"{dataset}.csv"


def profiles(dataset: str) -> Path:
    """Variants x splits x thresholds of IoU: the share of expressions above."""
    return RESULTS / "profiles" / f"{dataset}.csv"
