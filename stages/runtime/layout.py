"""Where every stage's output lies, relative to the project's root. `dvc.yaml` declares the same paths."""

from pathlib import Path

PARAMS = Path("params.yaml")
DATA = Path("data")
RESULTS = Path("results")
REPORTS = Path("reports")
SOURCES = Path("sources")
CHECKPOINTS = Path("checkpoints")
MODEL_FILES = ("config.json", "model.safetensors", "processor_config.json", "tokenizer.json", "tokenizer_config.json")


def prepared(dataset: str) -> Path:
    """The prepared dataset: tables, `dataset.json`, and `refer/` where the project renders the images itself."""
    return DATA / dataset


def fingerprint(dataset: str) -> Path:
    """What lies outside the project for a dataset: names, sizes and hashes, not the files."""
    return SOURCES / f"{dataset}.json"


def inspection(dataset: str) -> Path:
    """A page of samples to look at; no stage's output."""
    return RESULTS / "inspection" / f"{dataset}.html"


def model(dataset: str, variant: str, seed: int) -> Path:
    """The model folder of one run: `MODEL_FILES` of its training, and the card of its evaluation."""
    return RESULTS / "models" / dataset / variant / str(seed)


def card(dataset: str, variant: str, seed: int) -> Path:
    """What a model is and how well it does, for people; in its folder."""
    return model(dataset, variant, seed) / "README.md"


def history(dataset: str, variant: str, seed: int) -> Path:
    """One row an epoch: losses, learning rate and validation metrics."""
    return RESULTS / "history" / dataset / variant / f"{seed}.csv"


def checkpoints(dataset: str, variant: str, seed: int) -> Path:
    """Where one run goes on from after a break, and beside it who trains it; no stage's output."""
    return CHECKPOINTS / f"{dataset}-{variant}-{seed}"


def scores(dataset: str, variant: str, seed: int) -> Path:
    """One row an expression: I, U, IoU and the predicted mask."""
    return RESULTS / "scores" / dataset / variant / f"{seed}.parquet"


def metrics(dataset: str, variant: str, seed: int) -> Path:
    """Metrics of one run, by split."""
    return RESULTS / "metrics" / dataset / variant / f"{seed}.json"


def diagnosis(dataset: str, variant: str, seed: int) -> Path:
    """A folder on one run's model: alignment, calibration, thresholds, attention, costs."""
    return RESULTS / "diagnosis" / dataset / variant / str(seed)


def comparison(dataset: str) -> Path:
    """Variants x splits x metrics over all seeds, and what they differ by from the reference."""
    return RESULTS / "comparison" / f"{dataset}.csv"


def contrasts(dataset: str) -> Path:
    """Pairs of variants that differ in one part of the method x splits x metrics."""
    return RESULTS / "contrasts" / f"{dataset}.csv"


def slices(dataset: str) -> Path:
    """Variants x splits x slices of the expressions."""
    return RESULTS / "slices" / f"{dataset}.csv"
