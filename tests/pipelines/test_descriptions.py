"""What MLflow says of variants: labels and differences of a comparison, worked out by hand."""

from pipelines.mlflow import descriptions
from stages.tracking import mlruns


def row(variant: str, split: str, mean: float, difference: float | None = None, verdict: str = "", low: str = "-0.1"):
    compared = {"difference": "", "difference_low": "", "difference_high": "", "verdict": ""}
    if difference is not None:
        compared = {"difference": str(difference), "difference_low": low, "difference_high": "0.2", "verdict": verdict}
    return {"variant": variant, "split": split, "metric": "mIoU", "mean": str(mean), "low": "", "high": "", **compared}


ROWS = [
    row("baseline", "val", 0.5),
    row("baseline", "testA", 0.5),
    row("baseline", "testB", 0.5),
    row("both", "val", 0.9, 0.4, "undecided"),  # chose the epoch: the label leaves it out
    row("both", "testA", 0.62, 0.121, "better"),
    row("both", "testB", 0.56, 0.0615, "better"),
    row("half", "testA", 0.621, 0.121, "undecided"),
    row("half", "testB", 0.59, 0.0976, "better"),
]


def test_a_label_says_the_verdict_once_or_with_the_split_that_it_is_about():
    labels = {variant: tags[mlruns.COMPARED_AS] for variant, tags in descriptions.labels(ROWS, "baseline").items()}
    assert labels == {
        "half": "half: testA +12.1 undecided, testB +9.8 better",
        "both": "both: better (testA +12.1, testB +6.2)",
        "baseline": "baseline: the reference",
    }


def test_a_difference_that_rounds_to_zero_has_no_sign():
    rows = [row("baseline", "testA", 0.5), row("same", "testA", 0.4999, -0.0001, "undecided", low="-0.0002")]
    assert descriptions.differences(rows, "baseline") == {"difference.same": "testA 0.0 [0.0, 20.0] undecided"}
    assert "| `same` | 50.0 | 0.0 [0.0, 20.0] | undecided |" in descriptions.of_comparison(rows, [], None)
