"""Tables: the numbers of the comparison, rounded once; nothing bold that is not supported, nothing missing unsaid."""

import io
import math
import re
import shutil
import subprocess

import pandas as pd
import pytest

from stages.report import assemble, dataset_numbers
from stages.report.page import headline
from stages.report.tables import (
    comparison_csv,
    comparison_tables,
    contrast_tables,
    cost_tables,
    latex,
    markdown,
    plan_tables,
    published_values,
    slice_tables,
)
from stages.report.tables.table import REFERENCE_MARK, Block, Cell, Group, Table, interval, signed
from stages.statistics import planning
from stages.statistics.evidence import FEW_IMAGES, FEWEST_IMAGES
from tests.stages.report import report_inputs
from tests.stages.report.report_inputs import MIXED_MEANS as MEANS

METRICS = ["oIoU", "mIoU", "Pr@0.5", "Pr@0.6", "Pr@0.7", "Pr@0.8", "Pr@0.9"]
MINUS = "\N{MINUS SIGN}"


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return report_inputs.params(tmp_path)


@pytest.fixture
def results(settings):
    return report_inputs.numbers(settings, MEANS)


def cells(table: Table) -> list[list[str]]:
    return [[str(cell) for cell in row] for block in table.blocks for group in block.groups for row in group.rows]


def rows_of(table: Table, name: str) -> list[list[Cell]]:
    every = (row for block in table.blocks for group in block.groups for row in group.rows)
    return [row for row in every if re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹]", "", row[0].text) == name]


def test_the_main_table_has_means_and_differences_with_intervals(results):
    table = comparison_tables.main_table(results)
    (block,) = table.blocks
    assert block.headings == ["variant", "mIoU", "std", "Δ mIoU", "oIoU", "std", "Δ oIoU"]
    titles = ["val (chose the epoch), 1,000 expressions", "testA, 1,001 expressions"]
    assert [group.title for group in block.groups] == titles
    assert cells(table)[:3] == [
        ["baseline", *["55.0 [52.0, 58.0]", "1.0", REFERENCE_MARK] * 2],
        ["text_to_pixel", *["61.0 [58.0, 64.0]", "1.0", "+6.0 [3.0, 9.0]"] * 2],
        ["pixel_to_text", *["55.0 [52.0, 58.0]", "1.0", f"0.0 [{MINUS}3.0, 3.0]"] * 2],
    ]
    assert table.notes == []


def test_only_supported_differences_are_bold(results):
    for table in [
        comparison_tables.main_table(results),
        comparison_tables.difference_table(results),
        *comparison_tables.full_tables(results),
    ]:
        bold = {row[0].text for block in table.blocks for g in block.groups for row in g.rows for c in row if c.bold}
        assert bold == {"text_to_pixel", "vlba", "vlba_pixel", "alignformer"}
    main = comparison_tables.main_table(results)
    assert all(not cell.bold for row in rows_of(main, "alignformer") for cell in (row[0], row[1], row[2], row[4]))
    pipes = markdown.to_markdown(main)
    assert f"**{MINUS}5.0** [{MINUS}8.0, {MINUS}2.0]" in pipes and "**+7.0** [4.0, 10.0]" in pipes
    (full,) = comparison_tables.full_tables(results)
    assert r"\textbf{$-$5.0} & {\scriptsize [$-$8.0, $-$2.0]}" in latex.to_latex(full, "tab:full")
    contrasts = contrast_tables.table(results)
    assert [row[1].bold for row in rows_of(contrasts, "instance contrast")] == [False, False]
    assert [row[1].bold for row in rows_of(contrasts, "pixel contrast")] == [True, True]


def test_differences_are_signed_unless_they_round_to_zero():
    assert signed(0.0312) == "+3.1" and signed(-0.0312) == f"{MINUS}3.1"
    assert signed(0.0004) == signed(-0.0004) == signed(0.0) == "0.0"
    assert interval(-0.0004, 0.031) == "[0.0, 3.1]"
    assert interval(math.nan, math.nan) == ""


def test_the_footer_says_all_that_a_reader_needs(results):
    footer = " ".join(comparison_tables.main_table(results).footer)
    for part in (
        "2 seeds (0, 1).",
        "Protocol original: intersection and union are counted at the size of the original image.",
        "val 1,000 expressions of 400 images, testA 1,001 expressions of 401 images.",
        "Brackets: 95 % interval over images and seeds; images are resampled with all their expressions, and the "
        "spread between seeds is added.",
        "Δ: difference to baseline",
        "The best epoch of each run was chosen on val, so numbers there are a little too good.",
        "Holm's adjustment within a split and metric, for the pairs of the headline and for all others by themselves.",
        "mIoU: mean over expressions of the intersection over union (IoU)",
    ):
        assert part in footer
    for table in [*assemble.all_tables(results), *assemble.common_tables([results])]:
        assert "dvc repro" not in " ".join(table.footer), table.key  # which is a comment of its files


def test_with_one_seed_nothing_is_bold_and_brackets_are_of_the_images_alone(tmp_path, settings):
    results = report_inputs.numbers(report_inputs.params(tmp_path, seeds=[3]), MEANS)
    reason = "a verdict needs two or more seeds that the variants share; the interval is of the images alone."
    for table in assemble.all_tables(results):
        text = markdown.to_markdown(table)
        assert "**" not in text and "images and seeds" not in text and "upported" not in text, table.key
        if table.key in ("main", "contrasts", "differences", "full"):
            assert "One seed (3): what another training would give is not known." in text
            assert "Brackets: 95 % interval over images alone" in text and "spread between seeds" not in text
            assert f"Nothing is bold on val and testA: {reason}" in text
    (row,) = rows_of(comparison_tables.difference_table(results), "vlba")[:1]
    assert [str(cell) for cell in row[1:4]] == ["+6.0 [3.0, 9.0]", "—¹", "—¹"]
    assert comparison_tables.difference_table(results).notes == [f"¹ A{reason[1:]}"]
    found = pd.read_csv(io.StringIO(comparison_csv.to_csv(results)))
    assert set(found["intervals over"]) == {"images alone"} and set(found["no verdict"]) == {reason.removesuffix(".")}
    assert (
        not found["mIoU supported"].any() and found["mIoU p adjusted"].isna().all() and found["mIoU low"].notna().all()
    )


def test_few_images_are_said_beside_their_numbers(settings):
    """Too few have neither interval nor verdict, few have a note."""
    results = report_inputs.numbers(settings, MEANS, images={"val": FEWEST_IMAGES - 1, "testA": FEWEST_IMAGES})
    main = comparison_tables.main_table(results)
    assert [group.title.partition(",")[0] for group in main.blocks[0].groups][-1] == "testA (few images)"
    assert main.blocks[0].groups[0].title == "val (chose the epoch, too few images), 1,000 expressions"
    for row in rows_of(main, "vlba"):
        assert [cell.text for cell in row[1:4]] == ["61.0", "1.0", "+6.0"]
    few, enough = rows_of(main, "vlba")
    assert [(cell.note, cell.bold) for cell in few[1:4:2]] == [("", False)] * 2
    assert [(cell.note, cell.bold) for cell in enough[1:4:2]] == [("[58.0, 64.0]", False), ("[3.0, 9.0]", True)]
    footer = " ".join(main.footer)
    assert (
        f"Nothing is bold on val: a verdict needs {FEWEST_IMAGES} or more images (here {FEWEST_IMAGES - 1})." in footer
    )
    assert f"No brackets on val: fewer than {FEWEST_IMAGES} images" in footer
    assert f"Few images on testA: with fewer than {FEW_IMAGES}, only large differences can be supported." in footer
    few, enough = rows_of(comparison_tables.difference_table(results), "vlba")
    assert few[2].text.startswith("—") and enough[2].text == "0.010"
    every = "".join(map(markdown.to_markdown, assemble.all_tables(results)))
    assert "nan" not in every and "nan" not in comparison_csv.to_csv(results)


def test_where_nothing_has_an_interval_none_is_explained(settings):
    few = report_inputs.numbers(settings, MEANS, images={"val": FEWEST_IMAGES - 1, "testA": FEWEST_IMAGES - 1})
    main = comparison_tables.main_table(few)
    said = " ".join([main.caption, *main.footer])
    assert "No brackets on val and testA" in said and "Brackets:" not in said and "95 %" not in said
    assert "interval" not in headline.details(few)


def test_partial_data_are_warned_of_in_caption_and_footer(settings):
    summary = {"partial": True, "warnings": [f"warning {number}" for number in range(9)]}
    results = report_inputs.numbers(settings, MEANS, summary=summary)
    short = "published results: warning 0; warning 1; warning 2; 6 more in data/scenes/dataset.json. In percent"
    for table in (
        comparison_tables.main_table(results),
        contrast_tables.table(results),
        slice_tables.table(results),
    ):
        assert short in table.caption
        assert "Partial data, not comparable with published results." in table.footer


def test_what_the_models_did_not_see_is_told(settings):
    files = report_inputs.files(settings, MEANS)
    table = pd.read_csv(io.BytesIO(files["diagnosis.csv"]))
    counts = {"cut_expressions.train": 7, "cut_expressions.val": 0, "vanished_masks.train": 0, "vanished_masks.val": 0}
    files["diagnosis.csv"] = table.assign(words=20, image_size=64, **counts).to_csv(index=False).encode()
    found = dataset_numbers.from_files("scenes", settings, files)
    assert found.lost == ["Expressions of more than 20 tokens, whose end the model does not read: 7 in train."]


def test_a_variant_without_scores_is_a_dash_with_a_footnote(settings):
    results = report_inputs.numbers(settings, MEANS, missing={"vlba": [0, 1], "alignformer": [1]})
    assert results.scored == ["baseline", "text_to_pixel", "pixel_to_text", "vlba_pixel", "alignformer"]
    main = comparison_tables.main_table(results)
    assert [str(cell) for cell in rows_of(main, "vlba")[0]] == ["vlba¹", *["—¹"] * 6]
    assert main.notes == [
        "¹ vlba has no scores: seeds 0, 1 failed or did not run.",
        "² alignformer has scores of 1 of 2 seeds: seed 1 failed or did not run.",
    ]
    assert rows_of(main, "alignformer")[0][1].text == "62.0"
    for table in assemble.all_tables(results):
        text = markdown.to_markdown(table)
        assert "nan" not in text.lower(), table.key
        if table.key not in ("measured", "contrasts", "plan"):
            assert "vlba has no scores" in text, table.key
        if "—" in text:
            assert table.notes, table.key
    contrasts = contrast_tables.table(results)
    assert [str(cell) for cell in rows_of(contrasts, "bidirectional VLBA")[0][1:]] == ["—¹"] * 4
    assert contrasts.notes[0] == "¹ vlba and baseline have no seed in common."
    tex = latex.to_latex(main, "tab:main")
    assert r"vlba\textsuperscript{1} & ---\textsuperscript{1} &" in tex
    assert r"\textsuperscript{2} alignformer has scores of 1 of 2 seeds" in tex
    table = pd.read_csv(io.StringIO(comparison_csv.to_csv(results)))
    assert set(table["variant"]) == set(MEANS)
    of_vlba = table[table["variant"] == "vlba"]
    assert (of_vlba["seeds"] == 0).all() and of_vlba["mIoU"].isna().all() and of_vlba["mIoU difference"].isna().all()
    assert set(of_vlba["missing seeds"]) == {"0 1"}


def test_a_reference_without_scores_leaves_no_difference(settings):
    results = report_inputs.numbers(settings, MEANS, missing={"baseline": [0, 1]})
    main = comparison_tables.main_table(results)
    row = rows_of(main, "alignformer")[0]
    assert (str(row[1]), str(row[3])) == ("62.0 [59.0, 65.0]", "—²")
    assert main.notes[1] == "² No difference: baseline has no scores: seeds 0, 1 failed or did not run."


def test_every_metric_has_its_difference(results):
    (full,) = comparison_tables.full_tables(results)
    headings = [heading for block in full.blocks for heading in block.headings if heading != "variant"]
    assert sorted(headings) == sorted([*METRICS, *(f"Δ {metric}" for metric in METRICS)])
    assert headings[:4] == ["mIoU", "Δ mIoU", "oIoU", "Δ oIoU"]
    assert "Pr@X: precision at X, the share of expressions with IoU ≥ X." in full.footer


@pytest.mark.parametrize(
    ("protocol", "headline"),
    [
        ("original", ["mIoU", "oIoU"]),
        ("lavt", ["oIoU"]),
        ("caris", ["oIoU", "mIoU"]),
        ("cris", ["mIoU"]),
        ("cgformer", ["oIoU", "mIoU"]),
        ("rela", ["oIoU", "mIoU"]),
    ],
)
def test_the_main_table_has_the_protocols_metrics(tmp_path, settings, protocol, headline):
    other = report_inputs.params(tmp_path, protocol=protocol)
    results = report_inputs.numbers(other, MEANS)
    (block,) = comparison_tables.main_table(results).blocks
    assert block.headings == ["variant", *(text for metric in headline for text in (metric, "std", f"Δ {metric}"))]
    counted_on = "original image" if protocol in ("original", "cris", "cgformer") else "network's input"
    said = f"Protocol {protocol}: intersection and union are counted at the size of the {counted_on}."
    assert said in comparison_tables.main_table(results).footer
    (full,) = comparison_tables.full_tables(results)
    bound = ">" if protocol in ("cris", "cgformer") else "≥"
    assert f"Pr@X: precision at X, the share of expressions with IoU {bound} X." in full.footer


def test_a_variant_alone_has_no_differences(tmp_path, settings):
    alone = report_inputs.params(tmp_path, variants=["baseline"], highlight="baseline")
    results = report_inputs.numbers(alone, MEANS)
    assert comparison_tables.main_table(results).blocks[0].headings == ["variant", "mIoU", "std", "oIoU", "std"]
    assert comparison_tables.difference_table(results) is None and contrast_tables.table(results) is None
    assert [table.key for table in assemble.all_tables(results)] == [
        "main",
        "controls",
        "full",
        "slices",
        "learning",
        "costs",
    ]


MIXED = (
    "refcoco_val", "refcoco_testA", "refcoco_testB", "refcoco+_val", "refcoco+_testA", "refcoco+_testB",
    "refcocog_val", "refcocog_test",
)  # fmt: skip


def test_a_mix_of_sets_has_a_block_and_a_table_for_each_set(tmp_path, settings):
    mix = report_inputs.params(tmp_path, "refcoco_mix")
    results = report_inputs.numbers(mix, MEANS, MIXED)
    main, full = comparison_tables.main_table(results), comparison_tables.full_tables(results)
    by_set = [list(MIXED[:3]), list(MIXED[3:6]), list(MIXED[6:])]
    assert [[re.split("[ ,]", group.title)[0] for group in block.groups] for block in main.blocks] == by_set
    assert [table.key for table in full] == ["full-refcoco", "full-refcoco+", "full-refcocog"]
    assert [[re.split("[ ,]", group.title)[0] for group in table.blocks[0].groups] for table in full] == by_set
    assert "chosen on refcoco_val, refcoco+_val and refcocog_val, so" in " ".join(main.footer)


def test_slices_are_of_the_first_split_and_small_ones_have_no_numbers(results):
    table = slice_tables.table(results)
    assert table.caption.startswith("Where it helps: slices of val on scenes.")
    assert [group.title for group in table.blocks[0].groups] == [
        *("Length of the expression (words)", "Distractors (other things of the same category)"),
    ]
    first, second = table.blocks
    assert first.headings == [
        *("slice", "expressions", "baseline mIoU", "Δ text_to_pixel", "Δ pixel_to_text", "Δ vlba"),
    ]
    assert second.headings == ["slice", "Δ vlba_pixel", "Δ alignformer"]
    assert [str(cell) for cell in first.groups[0].rows[0]][:4] == [
        *("1 to 2", "300", "55.0 [52.0, 58.0]", "+6.0 [3.0, 9.0]"),
    ]
    assert [str(cell) for cell in first.groups[1].rows[2]] == ["2 and more", "8", "—¹", "—¹", "—¹", "—¹"]
    assert table.notes == [f"¹ Fewer than {FEWEST_IMAGES} images: 2 and more (distractors)."]
    assert not any(cell.bold for block in table.blocks for group in block.groups for row in group.rows for cell in row)


def test_with_a_smallest_effect_tables_have_a_column_of_verdicts(tmp_path, settings):
    told = report_inputs.params(tmp_path, smallest_effect=1.5)
    results = report_inputs.numbers(told, MEANS, images={"testA": FEWEST_IMAGES - 1})
    table = comparison_tables.difference_table(results)
    assert table.blocks[0].headings == ["variant", "Δ mIoU", "p", "adj. p", "verdict", "better (%)"]
    words = {row[0].text: row[4].text for row in table.blocks[0].groups[0].rows}
    assert words == {
        **dict.fromkeys(["text_to_pixel", "vlba", "alignformer"], "better"),
        "pixel_to_text": "equivalent",
        "vlba_pixel": "worse",
    }
    assert {row[4].text for row in table.blocks[0].groups[1].rows} == {"—¹"}
    assert "smaller than 1.5 points" in " ".join(table.footer)
    parts = contrast_tables.table(results)
    assert parts.blocks[0].headings[1:4] == ["Δ mIoU", "adj. p", "verdict"]
    assert rows_of(parts, "instance contrast")[0][3].text == "equivalent"
    assert "| equivalent |" in markdown.to_markdown(parts) and "& equivalent &" in latex.to_latex(parts, "tab:parts")
    found = pd.read_csv(io.StringIO(comparison_csv.to_csv(results)), keep_default_na=False)
    assert set(found["mIoU verdict"]) == {"", "better", "equivalent", "worse"}


def test_the_plan_has_a_row_for_each_split_with_verdicts(tmp_path, settings):
    three = report_inputs.params(tmp_path, seeds=[0, 1, 2])
    results = report_inputs.numbers(three, MEANS, ("val", "testA", "testB"), images={"testB": FEWEST_IMAGES - 1})
    table = plan_tables.table(results)
    assert table.blocks[0].headings == ["split", "smallest", "seeds for 1", "seeds for 2", "seeds for 3"]
    val, test = table.blocks[0].groups[0].rows
    assert [val[0].text, test[0].text] == ["val (chose the epoch)", "testA"]
    pairs_of = [5, 3, 2, 2, 1, 1]  # baseline; vlba; the two contrasts, over both; the others
    degrees = 2 * sum(pairs_of) ** 2 / sum(number**2 for number in pairs_of)  # all variances are the same
    known = planning.Known(planning.Error(0.005, 0.005, 2), 3, degrees)
    assert val[1].value == pytest.approx(planning.smallest_supported(known, 2))
    assert "a pair of the headline (2 in all)" in " ".join(table.footer)
    assert (
        f"difference of {test[1].text} points on testA between a pair of the headline would be supported in 80 %"
        in headline.details(results)
    )


def test_costs_are_exact_and_relative_to_the_reference(results):
    assert cells(cost_tables.table(results))[1] == [
        "text_to_pixel",
        "1,001,000",
        "1.001",
        "401,000",
        "2,000,000,001",
        "1.000",
    ]


def test_markdown_latex_and_csv_say_the_same_numbers(results):
    (full,) = comparison_tables.full_tables(results)
    found = pd.read_csv(io.StringIO(comparison_csv.to_csv(results)), dtype=str, keep_default_na=False)
    pipes, tex = markdown.to_markdown(full), latex.to_latex(full, "tab:full")
    for row in found.to_dict("records"):
        for metric in METRICS:
            mean = f"{row[metric]} [{row[f'{metric} low']}, {row[f'{metric} high']}]"
            expected = 100 * MEANS[row["variant"]]
            assert float(row[metric]) == pytest.approx(expected, abs=0.051)
            assert f"| {mean} |" in pipes
            assert rf"{row[metric]} & {{\scriptsize [{row[f'{metric} low']}, {row[f'{metric} high']}]}}" in tex
            if row["variant"] != "baseline":
                change = float(row[f"{metric} difference"])
                assert change == pytest.approx(expected - 55, abs=0.051)
                assert row[f"{metric} supported"] == str(abs(expected - 55) >= 2).lower()


def test_markdown_escapes_what_would_break_its_tables():
    table = Table("key", "caption", [Block([], ["a", "b"], [Group("", [[Cell("x|y"), Cell("<0.1", value=0.1)]])])])
    assert r"| x\|y | &lt;0.1 |" in markdown.to_markdown(table)


def test_every_special_character_of_latex_is_escaped():
    block = Block([], ["variant"], [Group("", [[Cell("a_b")]])])
    text = latex.to_latex(Table("key", r"100% of {a_b} & #1 $x ~ ^ \ ≥ > < | ± Δ — ¹²", [block]), "tab:key")
    assert (
        r"100\% of \{a\_\allowbreak{}b\} \& \#1 \$x \textasciitilde{} \textasciicircum{} \textbackslash{} "
        r"$\geq$ $>$ $<$ \textbar{} $\pm$ $\Delta$ --- \textsuperscript{1}\textsuperscript{2}" in text
    )


@pytest.fixture(scope="module")
def every_case(root, tmp_path_factory) -> dict[tuple[str, float], str]:
    """Name of a case -> LaTeX of all its tables: as wide as a page, and as wide as one of two columns."""
    folder = tmp_path_factory.mktemp("cases")
    warned = {"partial": True, "warnings": ["no 100% of testB_x <here> & {there}", "$5 #1 ~ ^ \\"]}
    mix = report_inputs.params(folder, "refcoco_mix", protocol="cgformer")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        cases = {
            "scenes": report_inputs.numbers(report_inputs.params(folder), MEANS, ("val", "testA", "testB")),
            "missing": report_inputs.numbers(
                report_inputs.params(folder), MEANS, missing={"vlba": [0, 1], "alignformer": [1]}, summary=warned
            ),
            "one_seed": report_inputs.numbers(report_inputs.params(folder, seeds=[0], protocol="lavt"), MEANS),
            "mix": report_inputs.numbers(mix, MEANS, MIXED),
        }
        return {
            (case, width): "\n".join(
                latex.to_latex(table, f"tab:{case}-{table.key}", width)
                for table in [*assemble.all_tables(results), *assemble.common_tables([results])]
            )
            for case, results in cases.items()
            for width in (latex.PAGE, latex.COLUMN)
        }


@pytest.mark.parametrize(("width", "kind"), [(latex.PAGE, "table*"), (latex.COLUMN, "table")])
def test_rows_of_latex_are_complete_and_labels_are_unique(every_case, width, kind):
    tex = "\n".join(text for (_, wide), text in every_case.items() if wide == width)
    assert tex.isascii()
    for columns, body in re.findall(r"\\begin\{tabular\}\{([^\n]*)\}\n(.*?)\\end\{tabular\}", tex, re.DOTALL):
        number = len(re.findall(r"[lrc]|p\{\d+pt\}", columns.replace(r"@{\,}", "")))
        for line in (line for line in body.splitlines() if r"\\" in line):
            spanned = sum(int(width) - 1 for width in re.findall(r"\\multicolumn\{(\d+)\}", line))
            assert len(re.findall(r"(?<!\\)&", line)) + 1 + spanned == number, line
    labels = re.findall(r"\\label\{(.*)\}", tex)
    assert len(labels) == len(set(labels)) == tex.count(rf"\begin{{{kind}}}") == tex.count(rf"\end{{{kind}}}")


def test_a_table_in_several_environments_says_what_it_is_once():
    block = Block(
        [], ["variant", *"abcdefgh"], [Group("", [[Cell("vlba"), *(Cell("80.5 [78.8, 82.1]") for _ in range(8))]])]
    )
    text = latex.to_latex(
        Table("x", "The first. The second.", [block], ["a note"], ["A footer."]), "tab:x", latex.COLUMN
    )
    captions, parts = re.findall(r"\\caption\{(.*)\}", text), text.count(r"\begin{table}")
    assert parts > 1 and captions == ["The first. The second.", *["The first (continued)."] * (parts - 1)]
    assert text.count("a note") == parts and text.count("A footer.") == 1 and "A footer." in text.split("tabular")[-1]


def test_a_name_that_is_too_long_for_its_line_is_broken(tmp_path, settings):
    results = report_inputs.numbers(settings, MEANS)
    long = "a_variant_with_a_name_" + "that_goes_on_" * 6
    main = comparison_tables.main_table(results)
    rows = [[Cell(long), *row[1:]] for row in main.blocks[0].groups[0].rows]
    text = latex.to_latex(Table("main", "", [Block([], main.blocks[0].headings, [Group("", rows)])]), "tab:main")
    assert re.search(r"\\begin\{tabular\}\{p\{\d+pt\}rrrrrr\}", text)
    compiled(tmp_path, text)


@pytest.mark.parametrize(
    ("width", "columns"), [(latex.PAGE, "onecolumn"), (latex.PAGE, "twocolumn"), (latex.COLUMN, "twocolumn")]
)
def test_latex_compiles_without_a_line_that_is_too_long(every_case, tmp_path, width, columns):
    compiled(tmp_path, "\\clearpage\n".join(tex for (_, wide), tex in every_case.items() if wide == width), columns)


def compiled(folder, tex: str, columns: str = "onecolumn") -> None:
    if not shutil.which("pdflatex"):
        pytest.skip("no pdflatex on this machine")
    head = f"\\documentclass[{columns}]{{article}}\n\\usepackage{{booktabs}}\n\\begin{{document}}\n"
    tex = re.sub(r"(\\end\{table\*?\})", r"\1\\clearpage", tex)  # LaTeX holds few tables that have no place yet
    (folder / "tables.tex").write_text(f"{head}{tex}\\end{{document}}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-3000:]
    assert (folder / "tables.pdf").stat().st_size > 0
    assert not re.findall(r"(Overfull \\hbox .*|Float too large.*)", done.stdout)


def test_published_is_read_with_its_protocols():
    known = published_values.read()
    assert (known["source"] != "").all() and known["value"].between(0, 100).all()
