"""The same models under each protocol, and published results in the column of their own."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.report import assemble, dataset_numbers, dataset_results
from stages.report.dataset_numbers import UNDER_EACH, ReportError
from stages.report.tables import markdown, protocol_tables, published, published_values
from stages.report.tables.table import REFERENCE_MARK, Table
from stages.runtime import layout
from stages.runtime.run import Run
from stages.scoring.protocols import PROTOCOLS
from tests.stages.report import report_inputs

MEANS = {"baseline": 0.7, "alignformer": 0.72}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def numbers(tmp_path):
    def made(dataset: str = "scenes", splits=("val", "testA"), also=("lavt", "cris"), seeds=(0, 1, 2), **changes):
        experiment = {"variants": list(MEANS), "seeds": list(seeds), "also": list(also)}
        settings = report_inputs.params(tmp_path, dataset, protocol=changes.pop("protocol", "original"), **experiment)
        return report_inputs.numbers(settings, MEANS, splits, **changes)

    return made


def groups(table: Table) -> dict[str, list[list[str]]]:
    (block,) = table.blocks
    return {
        group.title: [[str(cell).rstrip("¹²³⁴⁵⁶⁷⁸⁹⁰") for cell in row] for row in group.rows] for group in block.groups
    }


def test_a_row_for_each_variant_and_a_column_for_each_protocol(numbers):
    table, other = protocol_tables.tables(numbers())
    assert [table.key, other.key] == ["protocols-mIoU", "protocols-oIoU"]
    assert table.blocks[0].headings == ["variant", "original", "lavt", "cris", "range"]
    found = groups(table)
    assert list(found) == ["val (chose the epoch), 1,000 expressions", "testA, 1,001 expressions"]
    runs = 0.7 + 0.001 * np.arange(3)  # as the files were written
    mean, std = 100 * runs.mean(), 100 * runs.std(ddof=1)
    under = [f"{mean - 2 * place:.1f} ± {std:.1f} (3)" for place in range(3)]
    assert found["testA, 1,001 expressions"][0] == ["baseline", *under, "4.0"]
    assert "mean ± standard deviation over 3 seeds" in table.caption
    assert "lavt: stretched to 480 x 480 pixels, counted on that grid, a pixel is inside above 0.5." in table.footer
    assert (
        "cris: fitted into 416 x 416 pixels, counted at the image's size, a pixel is inside above 0.35." in table.footer
    )
    assert protocol_tables.OTHER_INPUT in table.footer


def test_one_protocol_alone_has_no_such_table_and_no_such_file(numbers, tmp_path):
    results = numbers(also=())
    assert protocol_tables.tables(results) == [] and results.under_each is None
    settings = report_inputs.params(tmp_path, variants=list(MEANS))
    assert UNDER_EACH not in report_inputs.files(settings, MEANS)
    assert not [table for table in assemble.all_tables(results) if table.key.startswith("protocols")]


def test_published_values_stand_in_the_column_of_their_own_protocol_alone(numbers):
    also = ["lavt", "caris", "cris", "cgformer", "rela"]
    results = numbers("refcoco", ("val", "testA", "testB"), also)
    known = published_values.read()
    seen = set()
    for table in protocol_tables.tables(results):
        metric = table.key.removeprefix("protocols-")
        for title, rows in groups(table).items():
            if not title.endswith(", published"):
                continue
            split = title.removesuffix(", published")
            for method, *cells in rows:
                values = dict(zip([*results.protocols], cells[:-1], strict=True))
                (under,) = [protocol.name for protocol, value in values.items() if value != REFERENCE_MARK]
                (row,) = known.query(
                    "method == @method and dataset == 'refcoco' and split == @split and metric == @metric"
                ).itertuples()
                assert row.protocol == under
                assert f"{row.value:.2f}" == values[PROTOCOLS[under]]
                seen.add((method, split, metric))
    wanted = known.query("dataset == 'refcoco' and protocol != '' and metric in ('mIoU', 'oIoU')")
    assert seen == set(zip(wanted["method"], wanted["split"], wanted["metric"], strict=True)) and len(seen) > 20


def test_published_values_are_said_to_stand_there(numbers):
    said = published.statement(numbers("refcoco", ("val",), ["lavt"]))
    beside, not_beside = (
        said.index("Beside the same models under their own protocol"),
        said.index("Not set beside these"),
    )
    assert beside < said.index("LAVT, LAVT (dice), CrossVLT, MagNet: protocol lavt") < not_beside
    assert not_beside < said.index("CRIS, ETRIS: protocol cris")


def test_nothing_published_stands_beside_partial_data_or_scenes(numbers):
    for results in (numbers(), numbers("refcoco", summary={"partial": True})):
        titles = [title for table in protocol_tables.tables(results) for title in groups(table)]
        assert titles and not any("published" in title for title in titles)
    assert "Partial data, not comparable with published results." in table_footer(results)


def table_footer(results) -> list[str]:
    return protocol_tables.tables(results)[0].footer


def test_one_seed_has_no_spread_and_a_variant_without_scores_is_a_dash(numbers):
    table, _ = protocol_tables.tables(numbers(seeds=(0,), missing={"alignformer": [0]}))
    rows = groups(table)["testA, 1,001 expressions"]
    assert rows == [["baseline", "70.0 (1)", "68.0 (1)", "66.0 (1)", "4.0"], ["alignformer", *["—"] * 4]]
    assert any("alignformer has no scores" in note for note in table.notes)
    assert "One seed (0): what another training would give is not known." in table.footer


def test_the_tables_are_files_in_every_format(numbers, tmp_path):
    results = numbers("refcoco", ("val",), ["lavt"])
    keys = [table.key for table in assemble.all_tables(results)]
    assert keys.index("protocols-mIoU") < keys.index("protocols-oIoU")
    settings = report_inputs.params(tmp_path, "refcoco", variants=list(MEANS), seeds=[0, 1, 2], also=["lavt"])
    folder = layout.REPORTS / "data" / "refcoco"
    folder.mkdir(parents=True)
    for name, content in report_inputs.files(settings, MEANS, ("val",)).items():
        (folder / name).write_bytes(content)
    files = assemble.of_kept_data(settings)
    for end in (".tex", "-column.tex", ".md", ".csv", ".html"):
        assert Path(f"tables/refcoco/protocols-oIoU{end}") in files
    table = pd.read_csv(io.BytesIO(files[Path("tables/refcoco/protocols-oIoU.csv")])).set_index("variant")
    assert table.loc["baseline", "protocol lavt"] == pytest.approx(68.1)
    assert table.loc["baseline", "protocol lavt std"] == 0.1
    assert table.loc["LAVT", "protocol lavt"] == 72.73 and pd.isna(table.loc["LAVT", "protocol original"])
    assert markdown.to_markdown(protocol_tables.tables(results)[1]) in files[Path("tables/refcoco.md")].decode()
    (folder / UNDER_EACH).unlink()
    with pytest.raises(dataset_numbers.MissingInputError, match=r"the report keeps no protocols\.csv of refcoco"):
        assemble.of_kept_data(settings)


def test_a_run_that_was_scored_under_other_protocols_is_named():
    run = Run("scenes", "baseline", 0)
    layout.protocols(*run).parent.mkdir(parents=True)
    rows = [(name, "val", "mIoU", 0.5) for name in ("original", "lavt")]
    table = pd.DataFrame(rows, columns=["protocol", "split", "metric", "value"])
    table.to_csv(layout.protocols(*run), index=False)
    kept = dataset_results._under_each([run], [], ["original", "lavt"])
    assert kept.columns.tolist() == ["variant", "seed", "protocol", "split", "metric", "value"] and len(kept) == 2
    with pytest.raises(ReportError, match=r"scenes-baseline-0 is scored under \['original', 'lavt'\], not .*'cris'"):
        dataset_results._under_each([run], [], ["original", "cris"])
