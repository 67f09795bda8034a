"""The model card: its numbers are those of the scores, its intervals those of the comparison of one run alone."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from huggingface_hub import ModelCard
from ruamel.yaml import YAML

from stages.card import model_facts
from stages.card.card import card, write
from stages.card.model_facts import ModelFacts
from stages.data import prepared
from stages.runtime import layout
from stages.runtime.params import Params
from stages.runtime.params import read as read_params
from stages.runtime.run import Run
from stages.scoring import trained
from stages.scoring.metrics import summarise_splits
from stages.scoring.protocols import PROTOCOLS
from stages.statistics import comparison, scored
from stages.statistics.evidence import FEWEST_IMAGES

PARAMS = Path(__file__).parents[2] / "params.yaml"
RUN = Run("scenes", "alignformer", 0)
LOST = {"cut_expressions": {"train": 1200, "val": 0}, "vanished_masks": {"train": 0, "val": 3}}
FACTS = ModelFacts(
    "swin",
    "bert",
    parameters=1234,
    image_size=32,
    max_tokens=8,
    vocabulary=11,
    lost=LOST,
    trained_with={"MKL_CBWR": "AVX2"},
)
SOURCES = {
    "refer": {"kind": "refer", "name": "refcoco", "split_by": "unc", "root": "refer", "sentence": "sent"},
    "mix": {"kind": "mix", "mix": ["refcoco", "refcocog"], "root": "refer", "sentence": "sent"},
    "coco": {"kind": "coco", "instances": "cups/instances.json", "expressions": "cups/said.csv", "images": "cups"},
}
SUMMARY = {
    "counts": {
        "train": {"images": 2000, "refs": 4, "expressions": 8},
        "val": {"images": 2, "refs": 4, "expressions": 4},
    },
    "warnings": ["Few images."],
    "notes": [],
    "fingerprint": "f00d" * 16,
}


@pytest.fixture(scope="module")
def content(root) -> dict:
    return YAML(typ="safe").load((root / "tests" / "params.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def scores() -> pd.DataFrame:
    random = np.random.default_rng(0)
    union = random.integers(50, 100, 120)
    return pd.DataFrame(
        {
            "sent_id": range(120),
            "image_id": np.arange(120) // 3,
            "split": np.repeat(["val", "testA"], 60),
            "intersection": random.integers(0, 50, 120),
            "union": union,
        }
    )


@pytest.fixture
def written(squares, content, scores):
    """The card as Markdown, for another source or another recipe where one is given."""

    def write(recipe: str = "small", **source) -> str:
        changed = {**content["experiment"], "recipe": recipe}
        datasets = content["datasets"]
        if source:
            datasets = {**datasets, "scenes": source}
        settings = Params.model_validate({**content, "experiment": changed, "datasets": datasets})
        dataset = replace(squares.prepared, summary=SUMMARY)
        return card(RUN, settings, dataset, FACTS, scores, PROTOCOLS["original"])

    return write


def test_hubs_read_its_metrics(written, scores):
    data = ModelCard(written()).data
    expected = summarise_splits(scores, PROTOCOLS["original"])
    found = {(result.dataset_split, result.metric_name): result.metric_value for result in data.eval_results}
    numbers = {
        (split, f"{metric}, protocol original"): values[metric]
        for split, values in expected.items()
        for metric in ("mIoU", "oIoU")
        if split == "testA"  # val chose the epoch
    }
    assert found == pytest.approx(numbers)
    assert data.datasets == ["scenes"]


def test_what_the_model_did_not_see_and_what_it_was_trained_with_are_said(written):
    said = written()
    assert "- Expressions of more than 8 tokens, whose end the model does not read: 1,200 in train.\n" in said
    assert "- Masks without a pixel at the model's input size, 32 x 32: 3 in val.\n" in said
    assert "| environment of the training | `MKL_CBWR=AVX2` |\n" in said


def test_its_intervals_are_those_of_the_comparison(written, scores, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "results/scores/scenes/alignformer/0/scenes.parquet"
    path.parent.mkdir(parents=True)
    scores.assign(protocol="original").to_parquet(path)
    alone = scored.read("scenes", PROTOCOLS["original"], ["alignformer"], [0], "alignformer")
    table, _ = comparison.compare(
        alone, comparison.estimates(alone), "alignformer", "alignformer", read_params(PARAMS).variants
    )
    table = table.set_index(["split", "metric"])
    lines = [line for line in written().splitlines() if line.startswith(("| val | ", "| testA | "))]
    assert len(lines) == 3  # a row of the data, two of the metrics
    for line in lines[1:]:
        split, *shown = (part.strip() for part in line.strip("|").split("|"))
        for metric, found in zip(("mIoU", "oIoU", "Pr@0.5", "Pr@0.7", "Pr@0.9"), shown, strict=True):
            row = table.loc[split, metric]
            assert found == f"{100 * row['mean']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"


def test_a_split_of_few_images_has_no_interval(written, scores, monkeypatch):
    few = scores["split"] == "testA"
    with monkeypatch.context() as patch:
        patch.setitem(scores, "image_id", scores["image_id"].mask(few, 7))
        said = written()
    (line,) = (line for line in said.splitlines() if line.startswith("| testA |"))
    (val,) = (line for line in said.splitlines() if line.startswith("| val |") and "[" in line)
    assert "[" not in line and "nan" not in said and val.count("[") == line.count(".") == 5
    assert f"fewer than\n{FEWEST_IMAGES} images has none" in said


def test_scores_that_lack_a_value_are_refused(content, scores, squares, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = layout.scores(*RUN)
    path.parent.mkdir(parents=True)
    scores.assign(protocol="original", union=scores["union"].where(scores["sent_id"] != 5)).to_parquet(path)
    monkeypatch.setattr(prepared, "read", lambda folder: squares.prepared)
    monkeypatch.setattr(model_facts, "read", lambda run: FACTS)
    message = (
        r"alignformer/0/scenes.parquet: run alignformer, seed 0 has no union in 1 of 120 rows, such as sent_id 5\."
    )
    with pytest.raises(scored.ComparisonError, match=message):
        write(RUN, Params.model_validate(content))


def test_it_says_what_the_model_is_and_is_not_for(written):
    said = written()
    for words in (
        "| VLBA | bidirectional |",
        "| contrastive loss | instance, weight 0.01, temperature 0.05 |",
        "| train | 2,000 | 4 | 8 |",
        "Few images.",
        "at most 8 tokens",
        "It was trained on rendered shapes only",
        "nobody else has rights in them",
        "Protocol `original`",
        "arXiv 2301.06429",
    ):
        assert words in said, words


@pytest.mark.parametrize("kind, words", [("refer", "CC BY 4.0"), ("mix", "CC BY 4.0"), ("coco", "the user's own")])
def test_licence_notes_follow_the_data(written, kind, words):
    said = written(**SOURCES[kind])
    assert words in said[said.index("## Licence notes") :]
    assert "rendered" not in said


def test_pretrained_weights_keep_their_licence(written):
    said = written(recipe="photographs")
    assert "the licence of those weights applies" in said
    assert "Its vocabulary is" not in said


def test_the_facts_in_the_files_are_those_of_the_loaded_model(squares, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder, summary = layout.model(*RUN), layout.diagnosis(*RUN) / "summary.json"
    model = squares.model()
    model.save_pretrained(folder)
    squares.processor.save_pretrained(folder)
    with pytest.raises(FileNotFoundError, match=r"summary\.json is missing: make it with: dvc repro diagnose@scenes"):
        model_facts.read(RUN)
    summary.parent.mkdir(parents=True)
    summary.write_text(json.dumps({"parameters": 77, **LOST}))
    loaded, processor = trained.load(folder)
    expected = ModelFacts(
        loaded.config.vision_config.model_type,
        loaded.config.text_config.model_type,
        parameters=77,
        image_size=processor.frame.size,
        max_tokens=processor.tokenizer.model_max_length,
        vocabulary=len(processor.tokenizer),
        lost=LOST,
        trained_with={},
    )
    assert model_facts.read(RUN) == expected
