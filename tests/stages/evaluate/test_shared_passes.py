"""One training, many protocols: the numbers of each are those that it has alone, and inputs that agree share passes."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from models.frames import Letterbox, Stretch
from models.processing import AlignFormerProcessor
from stages.data import prepared
from stages.data.samples import Expressions
from stages.evaluate import evaluation, shared_passes
from stages.runtime import layout, params
from stages.runtime.run import Run
from stages.scoring.metrics import METRICS, summarise_splits
from stages.scoring.protocols import PROTOCOLS
from stages.scoring.score import frame, score
from tests.stages.conftest import image_processor
from tests.stages.scoring.test_protocols import SIZES, Scripted, blocks, decoded, expected

PARAMS = Path(__file__).parents[2] / "params.yaml"
RUN = Run("scenes", "baseline", 0)
ALL = list(PROTOCOLS)


def written(folder: Path, also: list[str], protocol: str = "original", batch_size: int = 3) -> params.Params:
    content = yaml.safe_load(PARAMS.read_text())
    content["experiment"] |= {"datasets": ["scenes"], "variants": ["baseline"], "highlight": "baseline", "seeds": [0]}
    content["evaluation"] = {"protocol": protocol, "also": also, "batch_size": batch_size, "threads": 1}
    (folder / "params.yaml").write_text(yaml.safe_dump(content))
    return params.read(folder / "params.yaml")


@pytest.fixture
def project(shared_squares, taught, tmp_path, monkeypatch) -> Path:
    """A folder with the prepared squares and the model that has learned them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evaluation.live, "log_evaluation", lambda *_, **__: None)
    data = shared_squares.prepared
    prepared.write(layout.prepared("scenes"), data.expressions, data.instances.reset_index(), data.summary)
    layout.model(*RUN).parent.mkdir(parents=True)
    layout.model(*RUN).symlink_to(taught)
    return tmp_path


def model_of(taught: Path):
    return shared_passes.AlignFormer.from_pretrained(taught)


def test_every_protocol_has_the_scores_that_it_has_alone(shared_squares, taught, tmp_path):
    model, settings = model_of(taught), written(tmp_path, ALL[1:])
    splits = evaluation.own_splits(shared_squares.prepared)
    found = evaluation.scored(shared_squares.prepared, splits, model, shared_squares.processor, settings)
    assert list(found) == ALL
    rows = shared_squares.prepared.split("val")
    for name, protocol in PROTOCOLS.items():
        expressions = Expressions(shared_squares.prepared, rows, shared_squares.processor, frame(protocol))
        pd.testing.assert_frame_equal(found[name], score(model, expressions, protocol, batch_size=3))
    assert len({tuple(scores["union"]) for scores in found.values()}) == 5  # of lavt and rela the same


def test_counts_agree_with_float64(shared_squares):
    """Protocols with one frame, from the same logits, against the published code done in float64."""
    rows = shared_squares.prepared.split("val").iloc[[2, 0, 3, 1]].reset_index(drop=True)
    for of_frame, protocols in shared_passes.by_input(list(PROTOCOLS.values()), shared_squares.processor).items():
        expressions = Expressions(shared_squares.prepared, rows, shared_squares.processor, of_frame)
        logits = blocks(SIZES[protocols[0].name])
        found = shared_passes.scores(Scripted(expressions, logits, 3), expressions, protocols, 3)
        assert list(found) == [protocol.name for protocol in protocols]
        for name, scores in found.items():
            for row, ann_id in enumerate(scores["ann_id"]):
                predicted, truth = expected(name, logits[row], shared_squares.masks[ann_id])
                np.testing.assert_array_equal(decoded(scores, row), predicted)
                assert scores["intersection"][row] == np.count_nonzero(predicted & truth) > 0
                assert scores["union"][row] == np.count_nonzero(predicted | truth)


def test_inputs_that_agree_share_their_passes(shared_squares, taught, tmp_path):
    model, seen = model_of(taught), []
    model.register_forward_pre_hook(
        lambda _, __, inputs: seen.append(inputs["pixel_values"].shape[-1]), with_kwargs=True
    )
    batches = 2  # of the four expressions of val about two images, as many as three in one

    def sizes(protocol: str, also: list[str]) -> list[int]:
        seen.clear()
        settings = written(tmp_path, also, protocol)
        splits = evaluation.own_splits(shared_squares.prepared)
        evaluation.scored(shared_squares.prepared, splits, model, shared_squares.processor, settings)
        return sorted(seen)

    assert sizes("original", []) == [32] * batches
    assert sizes("lavt", ["rela", "cgformer"]) == [480] * batches
    assert sizes("original", ALL[1:]) == sorted([32, 480, 448, 416] * batches)


def test_a_recipe_whose_input_is_that_of_a_protocol_shares_it(shared_squares):
    protocols = [PROTOCOLS[name] for name in ("original", "lavt", "cris", "cgformer")]

    def names(size: int) -> list[list[str]]:
        images = image_processor()
        images.size = {"height": size, "width": size}
        processor = AlignFormerProcessor(images, shared_squares.processor.tokenizer)
        inputs = shared_passes.by_input(protocols, processor)
        assert set(inputs) == {Stretch(size), Stretch(480), Letterbox(416)}
        return [[protocol.name for protocol in sharing] for sharing in inputs.values()]

    assert names(480) == [["original", "lavt", "cgformer"], ["cris"]]
    assert names(416) == [["original"], ["lavt", "cgformer"], ["cris"]]  # stretched, and not in a letterbox


def test_other_protocols_leave_the_results_of_the_first_as_they_are(project):
    def files() -> list[bytes]:
        return [path(*RUN).read_bytes() for path in (layout.scores, layout.controls, layout.metrics)]

    evaluation.evaluate(RUN, written(project, []))
    alone = files()
    assert pd.read_csv(layout.protocols(*RUN))["protocol"].unique().tolist() == ["original"]
    evaluation.evaluate(RUN, written(project, ["lavt", "cris"]))
    assert files() == alone
    assert pd.read_csv(layout.protocols(*RUN))["protocol"].unique().tolist() == ["original", "lavt", "cris"]


def test_metrics_under_each_protocol_are_those_of_an_evaluation_under_it(project):
    evaluation.evaluate(RUN, written(project, ALL[1:]))
    found = pd.read_csv(layout.protocols(*RUN))
    found = found.set_index(["protocol", "split", "metric"])["value"]
    assert len(found) == len(ALL) * len(METRICS)
    for name in ALL:
        evaluation.evaluate(RUN, written(project, [], name))
        metrics = json.loads(layout.metrics(*RUN).read_text())
        assert metrics["protocol"] == name
        assert {metric: found[name, "val", metric] for metric in METRICS} == {
            metric: metrics["val"][metric] for metric in METRICS
        }
        scores = pd.read_parquet(layout.scores(*RUN))
        assert summarise_splits(scores, PROTOCOLS[name])["val"] == metrics["val"]


def test_what_was_scored_is_printed_protocol_by_protocol(project, capsys):
    evaluation.evaluate(RUN, written(project, ["cris"]))
    said = [line.split(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert said[-5:-1] == ["protocol original", "val", "protocol cris", "val"]
    assert said[-1] == "val, given expressions of other images"


def test_a_protocol_is_named_once(tmp_path):
    for also, wrong in ((["lavt", "cris", "lavt"], "lavt"), (["original"], "original")):
        with pytest.raises(params.ParamsError, match=f"evaluation.also: names {wrong} again: leave it out"):
            written(tmp_path, also)
    with pytest.raises(params.ParamsError, match=r"evaluation.also.1: expected one of 'original', .* found 'cirs'"):
        written(tmp_path, ["lavt", "cirs"])
