"""Tables for papers: wide, with check marks, pooled; labels, values and marks as `report` in params.yaml says."""

import io
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
import yaml

from stages.report import assemble
from stages.report.tables import (
    ablation_tables,
    comparison_tables,
    formats,
    latex,
    markdown,
    pooled_tables,
    slice_tables,
    wide_tables,
)
from stages.report.tables.table import Cell, Table
from stages.runtime.params import ParamsError
from stages.runtime.params import read as read_params
from tests.stages.report import report_inputs
from tests.stages.report.report_inputs import MIXED_MEANS as MEANS


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def numbers(tmp_path):
    """Results under a section `report`."""

    def made(report: dict, dataset: str = "scenes", splits=("val", "testA"), **experiment):
        report_inputs.params(tmp_path, dataset, **experiment)
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"report": report}))
        return report_inputs.numbers(read_params(path), MEANS, splits)

    return made


def rows_of(table: Table) -> dict[str, list[Cell]]:
    (block,) = table.blocks
    return {row[0].text.rstrip("¹²³⁴⁵⁶⁷⁸⁹⁰"): row[1:] for group in block.groups for row in group.rows}


def test_wide_has_a_column_for_each_split_and_their_average_but_val(numbers):
    table, other = wide_tables.tables([numbers({}, splits=("val", "testA", "testB"))])
    (block,) = table.blocks
    assert (table.key, other.key) == ("wide-mIoU", "wide-oIoU")
    assert block.spans == [("", 1), ("scenes", 3), ("", 1)]
    assert block.headings == ["variant", "val", "testA", "testB", "test average"]
    rows = rows_of(table)
    assert list(rows) == list(MEANS)
    assert [str(cell) for cell in rows["alignformer"]] == ["62.0 [59.0, 65.0]"] * 4
    assert [name for name, row in rows.items() if row[0].bold] == ["text_to_pixel", "vlba", "alignformer"]
    assert "mean over 2 seeds [95 % interval over images and seeds]. Bold: better than baseline and" in table.caption


def test_there_is_no_average_of_one_split(numbers):
    table, _ = wide_tables.tables([numbers({})])
    assert table.blocks[0].headings == ["variant", "val", "testA"] and "average" not in " ".join(table.footer).lower()


def test_a_part_of_a_published_set_goes_by_its_own_name(tmp_path):
    params = report_inputs.params(tmp_path, "refcoco")
    for partial, title in ((True, "refcoco"), (False, "RefCOCO")):
        results = report_inputs.numbers(params, MEANS, ("val", "testA"), summary={"partial": partial})
        table, _ = wide_tables.tables([results])
        assert table.blocks[0].spans[1][0] == title and f"on {title}." in table.caption


def test_values_may_be_standard_deviations_and_marks_the_best(numbers):
    table, _ = wide_tables.tables([numbers({"tables": {"values": "std", "marks": "best"}})])
    rows = rows_of(table)
    assert str(rows["vlba"][0]) == "61.0 ± 1.0 (2)"
    assert [name for name, row in rows.items() if row[1].bold] == ["alignformer"]
    assert [name for name, row in rows.items() if row[1].underlined] == ["text_to_pixel", "vlba"]  # printed alike
    said = (
        "mean ± standard deviation over 2 seeds (number of seeds). Bold: the best of a column; underlined: the second"
    )
    assert said in table.caption
    assert r"\underline{61.0} & {\scriptsize $\pm$ 1.0 (2)}" in latex.to_latex(table, "tab:x")
    assert "<u>61.0</u> ± 1.0 (2)" in markdown.to_markdown(table)


def test_where_nothing_is_supported_the_caption_says_so(numbers):
    one = numbers({}, seeds=[3])
    assert "Nothing is bold: a verdict needs two or more seeds" in wide_tables.tables([one])[0].caption
    alone = numbers({}, variants=["baseline"], highlight="baseline")
    assert "old" not in wide_tables.tables([alone])[0].caption and ablation_tables.tables(alone) == []


def test_several_datasets_share_a_table_with_a_head_for_each(numbers):
    splits = {"refcoco": ("val", "testA", "testB"), "refcocog": ("val", "test")}
    datasets = [numbers({}, name, of, protocol="lavt") for name, of in splits.items()]
    (table,) = wide_tables.tables(datasets)
    (block,) = table.blocks
    assert block.spans == [("", 1), ("RefCOCO", 3), ("RefCOCOg (umd)", 2), ("", 1)]
    assert block.headings == ["variant", "val", "testA", "testB", "val", "test", "test average"]
    assert [group.title for group in block.groups] == ["published", "this project, recipe small"]
    lavt = rows_of(table)["LAVT"]
    assert [str(cell) for cell in lavt[:3]] == ["72.73", "75.82", "68.79"] and str(lavt[-1]) == ""
    assert rows_of(table)["alignformer"][-1].text == "62.0"


def test_a_mix_has_a_head_for_each_set(numbers):
    splits = ("refcoco_val", "refcoco+_val", "refcoco+_testA", "refcocog_test")
    table, _ = wide_tables.tables([numbers({}, "refcoco_mix", splits, protocol="cgformer")])
    (block,) = table.blocks
    assert block.spans == [("", 1), ("RefCOCO", 1), ("RefCOCO+", 2), ("RefCOCOg", 1), ("", 1)]
    assert block.headings == ["variant", "val", "val", "testA", "test", "test average"]
    assert block.groups[0].title == "published"


def test_the_matrix_checks_the_parts_of_each_variant(numbers):
    val, test = ablation_tables.tables(numbers({}))
    assert (val.key, test.key) == ("ablation-val", "ablation-testA")
    (block,) = val.blocks
    assert block.headings == ["variant", "T→P", "P→T", "contrast", "mIoU", "oIoU", "Pr@0.5"]
    parts = {name: [cell.text for cell in row[:3]] for name, row in rows_of(val).items()}
    assert parts == {
        "baseline": ["", "", ""],
        "text_to_pixel": ["✓", "", ""],
        "pixel_to_text": ["", "✓", ""],
        "vlba": ["✓", "✓", ""],
        "vlba_pixel": ["✓", "✓", "✓ pixel"],
        "alignformer": ["✓", "✓", "✓ instance"],
    }
    tex = latex.to_latex(val, "tab:x")
    assert tex.startswith(r"\providecommand{\checkmark}") and r"alignformer & \checkmark{} & \checkmark{} &" in tex
    few = ablation_tables.tables(numbers({}, variants=["baseline", "alignformer"]))[0]
    assert rows_of(few)["alignformer"][2].text == "✓"


def test_published_rows_stand_above_the_matrix_too(numbers):
    table = ablation_tables.tables(numbers({}, "refcoco", ("val",), protocol="lavt"))[0]
    assert table.blocks[0].groups[0].title == "published"
    assert [cell.text for cell in rows_of(table)["LAVT"]][:4] == ["", "", "", "72.73"]


def test_labels_stand_for_variants_in_every_table_and_in_latex_as_given(numbers):
    labels = {"baseline": "Base", "vlba": "VLBA & more", "alignformer": "AlignFormer"}
    results = numbers({"labels": labels, "latex_labels": {"alignformer": r"\textsc{AlignFormer}"}})
    for table in [*assemble.all_tables(results), *assemble.common_tables([results])]:
        text = markdown.to_markdown(table)
        assert not re.search(r"\b(baseline|vlba|alignformer)\b", text), table.key
    main = comparison_tables.main_table(results)
    assert "Δ: difference to Base on" in " ".join(main.footer)
    assert "Base mIoU" in slice_tables.table(results).blocks[0].headings
    tex = latex.to_latex(main, "tab:x")
    assert r"\textsc{AlignFormer} & 62.0" in tex and r"VLBA \& more & 61.0" in tex


@pytest.mark.parametrize(
    ("report", "said"),
    [
        ({"labels": {"vbla": "x"}}, "report.labels.vbla: unknown variant; did you mean vlba"),
        (
            {"labels": {"vlba": "Same", "alignformer": "Same"}},
            "report.labels: vlba, alignformer: all are called 'Same'",
        ),
        ({"latex_labels": {"no": "x"}}, "report.latex_labels.no: unknown variant"),
        ({"labels": {"vlba": " "}}, "report.labels.vlba: expected text that neither begins nor ends with a space"),
        ({"tables": {"values": "sem"}}, "report.tables.values: expected one of 'interval' or 'std'"),
    ],
)
def test_wrong_labels_and_choices_are_named(numbers, report, said):
    with pytest.raises(ParamsError, match=re.escape(said)):
        numbers(report)


def test_differences_are_pooled_over_datasets(numbers):
    first, second = numbers({}, "scenes"), numbers({}, "refcoco")
    assert pooled_tables.table([first]) is None
    table = pooled_tables.table([first, second])
    assert table.blocks[0].headings == ["pair", "Δ mIoU", "Δ mIoU", "Δ mIoU", "adj. p"]
    rows = rows_of(table)
    assert {"alignformer over baseline", "alignformer over vlba"} <= set(rows)
    on_each, other, pooled, _ = rows["alignformer over baseline"]
    assert on_each.text == other.text == pooled.text == "+7.0"
    assert "mean over the splits that chose no epoch" in " ".join(table.footer)


class Cells(HTMLParser):
    """The texts of all cells, row by row."""

    def __init__(self, text: str):
        super().__init__()
        self.rows: list[list[str]] = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.inside = True

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            self.rows[-1][-1] += data


def test_html_and_csv_have_the_cells_of_the_table(numbers):
    results = numbers({})
    table, _ = wide_tables.tables([results])
    made = formats.of(table, "tab:x")
    assert set(made) == {".tex", "-column.tex", ".md", ".csv", ".html"}
    body = Cells(made[".html"]).rows[2:]
    assert body == [[str(cell) for cell in row] for group in table.blocks[0].groups for row in group.rows]
    found = pd.read_csv(io.StringIO(made[".csv"])).set_index("variant")
    assert list(found.columns[:4]) == ["scenes val", "scenes val low", "scenes val high", "scenes testA"]
    assert found.loc["alignformer", "scenes testA high"] == 65.0
    for every in assemble.all_tables(results):
        table = pd.read_csv(io.StringIO(formats.of(every, "tab:x")[".csv"]))
        assert len(table.columns) == len(set(table.columns)) and not table.columns.str.endswith(".1").any(), every.key
    for end, comment in ((".tex", "% Made by: dvc repro report\n"), (".md", "<!-- Made"), (".html", "<!-- Made")):
        assert made[end].startswith(comment)


def test_a_table_that_is_too_wide_is_cut_between_its_columns(numbers):
    sets = {"refcoco": ("val", "testA", "testB"), "refcoco+": ("val", "testA", "testB"), "refcocog": ("val", "test")}
    splits = [f"{name}_{split}" for name, of in sets.items() for split in of]
    table, _ = wide_tables.tables([numbers({}, "refcoco_mix", splits, protocol="cgformer")])
    tex = latex.to_latex(table, "tab:x", latex.COLUMN)
    bodies = re.findall(r"\\begin\{tabular\}(.*?)\\end\{tabular\}", tex, re.DOTALL)
    assert len(bodies) > 1 and all("alignformer" in body for body in bodies)
    headings = [re.search(r"variant(.*?)\\\\", body).group(1) for body in bodies]
    assert sum(heading.count("val") for heading in headings) == 3 and "test average" in headings[-1]
