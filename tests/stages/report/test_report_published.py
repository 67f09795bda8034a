"""Published results stand beside the project's only where dataset, split, metric and protocol agree."""

import pytest

from stages.report.tables import latex, published, published_values
from stages.scoring.protocols import PROTOCOLS
from tests.stages.report import report_inputs

MEANS = {"baseline": 0.7, "alignformer": 0.72}


def numbers(folder, dataset: str, protocol: str, splits=("val", "testA", "testB"), **changes):
    experiment = {"variants": list(MEANS), "seeds": [0, 1], "protocol": protocol}
    settings = report_inputs.params(folder, dataset, **experiment)
    return report_inputs.numbers(settings, MEANS, splits, **changes)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def methods(table) -> list[list[str]]:
    return [[row[0].text.rstrip("¹²³⁴⁵⁶⁷⁸⁹⁰") for row in block.groups[0].rows] for block in table.blocks]


def test_every_row_has_a_source_and_a_protocol_that_exists_or_none():
    known = published_values.read()
    assert len(known) == 192
    assert set(known["protocol"]) - {""} <= set(PROTOCOLS)
    assert (known["source"].str.len() > 0).all() and (known["training"].str.len() > 0).all()
    assert not known.duplicated(["method", "dataset", "split", "metric"]).any()
    assert known["value"].between(40, 100).all()
    assert known.groupby("method")["protocol"].nunique().eq(1).all()
    assert not known["method"].str.contains("PaDT").any()  # means of IoU over a part of the expressions, not oIoU


def test_values_of_the_same_protocol_stand_beside_these_with_their_source(tmp_path):
    results = numbers(tmp_path, "refcoco", "lavt")
    table = published.table(results)
    (block,) = table.blocks
    assert block.spans == [("", 1), ("val", 2), ("testA", 2), ("testB", 2)]
    assert block.headings == ["method", *["oIoU", "mIoU"] * 3]
    assert methods(table) == [["LAVT", "LAVT (dice)", "CrossVLT", "MagNet"]]
    lavt = [str(cell) for cell in block.groups[0].rows[0]]
    assert lavt == ["LAVT¹", "72.73", "74.46", "75.82", "76.89", "68.79", "70.94"]
    assert table.notes[0] == "¹ single dataset; Swin-B + BERT; source: yz93/LAVT-RIS README."
    crossvlt = block.groups[0].rows[2]
    assert str(crossvlt[2]).startswith("—")
    assert any("Not published, or not known to the project." in note for note in table.notes)
    assert [str(cell) for cell in block.groups[1].rows[1]][:2] == ["alignformer", "72.00 [69.0, 75.0]"]
    assert "recipe small" in block.groups[1].title
    said = published.statement(results)
    assert "CRIS, ETRIS: protocol cris" in said
    assert "Not set beside any results, because their protocol is not known: CoupAlign, PolyFormer-L" in said
    assert f"Protocol lavt: {PROTOCOLS['lavt'].differs}" in table.footer
    assert "yz93/LAVT-RIS README" in latex.to_latex(table, "tab:published")


def test_methods_that_are_evaluated_at_448_pixels_stand_beside_that_protocol(tmp_path):
    (block,) = published.table(numbers(tmp_path, "refcoco", "caris")).blocks
    cells = [[str(cell) for cell in row[1:]] for row in block.groups[0].rows]
    assert cells == [
        ["75.13", "77.41", "78.19", "79.71", "71.75", "74.51"],
        ["76.49", "78.35", "78.96", "80.24", "73.96", "76.06"],
    ]
    assert methods(published.table(numbers(tmp_path, "refcoco", "caris"))) == [["CARIS", "MaskRIS"]]


def test_values_of_another_protocol_are_named_and_not_shown(tmp_path):
    results = numbers(tmp_path, "refcoco", "original")
    assert published.table(results) is None
    said = published.statement(results)
    assert said.startswith("The project knows no published results of protocol original.")
    assert (
        "Not set beside these results, whose protocol is original: LAVT, LAVT (dice), CrossVLT, MagNet: protocol lavt"
        in said
    )
    assert "CRIS, ETRIS: protocol cris" in said


def test_no_value_of_an_unknown_protocol_is_ever_shown(tmp_path):
    unknown = set(published_values.read().query("protocol == ''")["method"])
    assert "DeRIS-B" in unknown
    for protocol in PROTOCOLS:
        for dataset, splits in (("refcoco", ("val", "testA", "testB")), ("refcocog", ("val", "test"))):
            table = published.table(numbers(tmp_path, dataset, protocol, splits))
            assert table is None or not unknown & {name for names in methods(table) for name in names}


def test_the_split_of_refcocog_has_to_agree(tmp_path):
    by_umd = published.table(numbers(tmp_path, "refcocog", "cris", ("val", "test")))
    assert by_umd.blocks[0].spans[1:] == [("val", 1), ("test", 1)]
    assert [str(cell) for cell in by_umd.blocks[0].groups[0].rows[0]][1:] == ["59.87", "60.36"]
    source = {"source": {"kind": "refer", "name": "refcocog", "split_by": "google"}}
    by_google = published.table(numbers(tmp_path, "refcocog", "cris", ("val",), summary=source))
    assert methods(by_google) == [["ETRIS"]]
    assert str(by_google.blocks[0].groups[0].rows[0][1]) == "57.86"


def test_a_mix_is_set_beside_each_of_its_sets(tmp_path):
    splits = ("refcoco_val", "refcoco+_val", "refcocog_val", "refcocog_test")
    table = published.table(numbers(tmp_path, "refcoco_mix", "cgformer", splits))
    assert [block.spans[1:] for block in table.blocks] == [[("val", 2)], [("val", 2)], [("val", 2), ("test", 2)]]
    titles = [block.groups[0].title for block in table.blocks]
    assert titles == ["published, refcoco", "published, refcoco+", "published, refcocog-umd"]
    assert [str(block.groups[0].rows[0][1]) for block in table.blocks] == ["74.75", "64.54", "64.68"]
    assert "trained on several datasets together" in table.blocks[0].groups[1].title


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nothing_stands_beside_rendered_scenes(tmp_path, protocol):
    results = numbers(tmp_path, "scenes", protocol)
    assert published.table(results) is None
    assert "does not belong to the RefCOCO family" in published.statement(results)


def test_nothing_stands_beside_own_data(tmp_path):
    results = numbers(tmp_path, "scenes", "lavt", summary={"source": {"kind": "coco", "seed": 0}})
    assert published.table(results) is None and "does not belong to the RefCOCO family" in published.statement(results)


def test_nothing_stands_beside_partial_data(tmp_path):
    results = numbers(tmp_path, "refcoco", "lavt", summary={"partial": True})
    assert published.table(results) is None
    assert "the dataset is only a part of the published one" in published.statement(results)


def test_a_variant_without_scores_is_a_dash_with_a_footnote(tmp_path):
    table = published.table(numbers(tmp_path, "refcoco", "lavt", missing={"alignformer": [0, 1]}))
    assert all(str(cell).startswith("—") for cell in table.blocks[0].groups[1].rows[1][1:])
    assert any("alignformer has no scores" in note for note in table.notes)
