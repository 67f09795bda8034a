"""The comparison of variants: numbers, pairing, errors."""

import math
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.ablate.__main__ import main
from stages.data import prepared
from stages.runtime import layout
from stages.scoring.metrics import METRICS
from stages.statistics import bootstrap, factorial, slices
from stages.statistics.evidence import FEWEST_IMAGES

PARAMS = Path(__file__).parents[2] / "params.yaml"
VARIANTS = ["baseline", "vlba", "alignformer"]
SPLITS = {"val": 100, "testA": 45}
TABLES = (
    layout.comparison,
    layout.contrasts,
    layout.factorial,
    layout.language,
    layout.slices,
    layout.averages,
    layout.profiles,
)

Runs = dict[tuple[str, int], pd.DataFrame]  # variant and seed -> scores


def write_params(folder: Path, datasets: list[str], variants: list[str], seeds: list[int]) -> None:
    """The project's own params.yaml with another experiment."""
    lines = PARAMS.read_text().splitlines()
    for index, line in enumerate(lines):
        for key, value in (("datasets", datasets), ("variants", variants), ("seeds", seeds)):
            if line.startswith(f"  {key}: ["):
                lines[index] = f"  {key}: [{', '.join(map(str, value))}]"
        if line.startswith("  highlight: "):
            lines[index] = f"  highlight: {variants[-1]}"
    (folder / "params.yaml").write_text("\n".join(lines) + "\n")


def write_scores(
    dataset: str, variant: str, seed: int, splits: dict[str, int], protocol: str = "original"
) -> pd.DataFrame:
    generator = np.random.default_rng([len(variant), seed])
    number = sum(splits.values())
    union = generator.integers(1, 5000, number)
    intersection = (union * generator.random(number)).astype(np.int64)
    scores = pd.DataFrame(
        {
            "sent_id": np.arange(number),
            "image_id": np.arange(number) // 2,
            "split": [split for split, count in splits.items() for _ in range(count)],
            "protocol": protocol,
            "intersection": intersection,
            "union": union,
            "iou": intersection / union,
        }
    )
    control = scores.assign(intersection=intersection // 2, given=np.roll(np.arange(number), 2))
    for path, table in (
        (layout.scores(dataset, variant, seed), scores),
        (layout.controls(dataset, variant, seed), control),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_parquet(path, index=False)
    return scores


def write_prepared(dataset: str, splits: dict[str, int]) -> None:
    """An expression of one to three words each, two an image of 10 x 10 pixels."""
    split = [split for split, count in splits.items() for _ in range(count)]
    number = np.arange(len(split))
    expressions = pd.DataFrame({"sent_id": number, "ref_id": number, "ann_id": number, "image_id": number // 2})
    expressions["split"] = split
    expressions["text"] = [" ".join(["red", "square", "left"][: 1 + place % 3]) for place in number]
    mask = np.zeros((10, 10), dtype=bool)
    mask[:5, :5] = True
    instances = expressions[["ann_id", "image_id"]].assign(image="none.png", width=10, height=10, category="square")
    instances["mask"] = prepared.encode_mask(mask)
    prepared.write(layout.prepared(dataset), expressions, instances, {"name": dataset})


@pytest.fixture(scope="module", autouse=True)
def fewer_resamples():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "estimates", partial(bootstrap.estimates, resamples=1000))
        yield


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[Path, Runs]:
    folder = tmp_path_factory.mktemp("written")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_prepared("scenes", SPLITS)
        write_params(folder, ["scenes"], VARIANTS, [0, 1, 2])
        runs = [(variant, seed) for variant in VARIANTS for seed in range(3)]
        return folder, {run: write_scores("scenes", *run, SPLITS) for run in runs}


@pytest.fixture(scope="module")
def comparison(written, tmp_path_factory) -> Path:
    folder = shutil.copytree(written[0], tmp_path_factory.mktemp("compared"), dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        compare()
    return folder


@pytest.fixture
def runs(written, tmp_path, monkeypatch) -> Runs:
    """Scores, and their files in the working folder of the test."""
    shutil.copytree(written[0], tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return written[1]


@pytest.fixture
def compared(written, comparison, monkeypatch) -> Runs:
    """The same where they are compared already. Leave it as it is."""
    monkeypatch.chdir(comparison)
    return written[1]


def compare() -> pd.DataFrame:
    main(["--dataset", "scenes"])
    return found()


def found() -> pd.DataFrame:
    return pd.read_csv(layout.comparison("scenes"), dtype={"missing": str})


def independent(scores: pd.DataFrame, split: str, metric: str) -> float:
    """The metric of one run by a plain loop over Python numbers."""
    pairs = [(int(i), int(u)) for s, i, u in scores[["split", "intersection", "union"]].to_numpy() if s == split]
    if metric == "oIoU":
        return sum(i for i, _ in pairs) / sum(u for _, u in pairs)
    if metric == "mIoU":
        return math.fsum(i / u for i, u in pairs) / len(pairs)
    return sum(i / u >= float(metric.removeprefix("Pr@")) for i, u in pairs) / len(pairs)


def test_numbers_agree_with_an_independent_computation(compared):
    table = found()
    assert len(table) == len(VARIANTS) * len(SPLITS) * len(METRICS)
    assert set(table["protocol"]) == {"original"}
    for row in table.itertuples():
        values = [independent(compared[row.variant, seed], row.split, row.metric) for seed in range(3)]
        of_reference = [independent(compared["baseline", seed], row.split, row.metric) for seed in range(3)]
        mean = math.fsum(values) / 3
        assert row.seeds == 3
        assert row.mean == pytest.approx(mean, abs=1e-12)
        assert row.std == pytest.approx(math.sqrt(math.fsum((value - mean) ** 2 for value in values) / 2), abs=1e-12)
        assert (row.min, row.max) == pytest.approx((min(values), max(values)), abs=1e-12)
        assert row.difference == pytest.approx(mean - math.fsum(of_reference) / 3, abs=1e-12)
        assert row.low < row.mean < row.high
        assert (row.expressions, row.images) == {"val": (100, 50), "testA": (45, 23)}[row.split]


def test_order_follows_the_experiment(compared):
    table = found()
    assert list(table["variant"].unique()) == VARIANTS
    assert list(table["split"].unique()) == list(SPLITS)


def test_the_reference_differs_from_itself_by_exactly_zero(compared):
    of_reference = found().query("variant == 'baseline'")
    assert (of_reference["difference"] == 0).all()
    assert of_reference[["difference_low", "difference_high", "p", "p_holm", "improvement"]].isna().all(axis=None)
    assert not of_reference["supported"].any()


def test_one_seed_has_no_standard_deviation(runs, tmp_path):
    write_params(tmp_path, ["scenes"], VARIANTS, [1])
    table = compare()
    assert table["std"].isna().all()
    assert (table["mean"] == table["min"]).all()
    assert set(table["seeds"]) == {1}


def test_the_same_scores_give_the_same_bytes_and_only_listed_runs_count(runs, comparison):
    write_scores("scenes", "vlba", 7, SPLITS)
    write_scores("scenes", "pixel_to_text", 0, SPLITS)
    compare()
    for table in TABLES:
        path = table("scenes")
        assert path.read_bytes() == (comparison / path).read_bytes()


def test_a_missing_run_is_warned_of_and_the_rest_is_compared(runs, caplog):
    layout.scores("scenes", "vlba", 1).unlink()
    table = compare().set_index(["variant", "split", "metric"])
    assert "dvc repro evaluate@scenes-vlba-1" in caplog.text
    row, whole = table.loc["vlba", "val", "mIoU"], table.loc["alignformer", "val", "mIoU"]
    assert (row["seeds"], row["missing"]) == (2, "1")
    assert whole["seeds"] == 3 and pd.isna(whole["missing"])
    values = {run: independent(scores, "val", "mIoU") for run, scores in runs.items()}
    assert row["mean"] == pytest.approx((values["vlba", 0] + values["vlba", 2]) / 2)
    pairs = [values["vlba", seed] - values["baseline", seed] for seed in (0, 2)]
    assert row["difference"] == pytest.approx(sum(pairs) / 2)


def test_a_variant_without_any_run_keeps_its_rows(runs):
    for seed in range(3):
        layout.scores("scenes", "vlba", seed).unlink()
    rows = compare().query("variant == 'vlba'")
    assert len(rows) == len(SPLITS) * len(METRICS)
    assert set(rows["seeds"]) == {0} and set(rows["missing"]) == {"0 1 2"}
    assert rows[["mean", "low", "high", "std", "difference", "p", "p_holm", "improvement"]].isna().all(axis=None)


def test_without_the_reference_nothing_is_compared(runs):
    for seed in range(3):
        layout.scores("scenes", "baseline", seed).unlink()
    with pytest.raises(SystemExit, match=r"no run of the reference baseline .* dvc repro evaluate@scenes-baseline-0"):
        compare()
    assert not layout.comparison("scenes").exists()


def test_runs_that_scored_other_expressions_are_not_compared(runs):
    path = layout.scores("scenes", "vlba", 2)
    runs["vlba", 2].iloc[:-3].to_parquet(path, index=False)
    with pytest.raises(SystemExit, match=r"vlba, seed 2 .* of testA: 42 and 45, 3 missing, 0 too many"):
        compare()


def test_the_same_count_of_other_expressions_is_not_paired(runs):
    scores = runs["vlba", 2].copy()
    scores.loc[0, "sent_id"] = 999
    scores.to_parquet(layout.scores("scenes", "vlba", 2), index=False)
    with pytest.raises(SystemExit, match="1 missing, 1 too many"):
        compare()


def test_an_expression_scored_twice_is_an_error(runs):
    scores = pd.concat([runs["vlba", 0], runs["vlba", 0].iloc[:2]])
    scores.to_parquet(layout.scores("scenes", "vlba", 0), index=False)
    with pytest.raises(SystemExit, match="scores 2 expressions more than once, such as sent_id 0"):
        compare()


@pytest.mark.parametrize("part", [slice(None), slice(3)])
def test_scores_of_another_protocol_are_not_compared(runs, part):
    """Not even where only some rows are."""
    scores = runs["vlba", 1].copy()
    scores.loc[scores.index[part], "protocol"] = "lavt"
    scores.to_parquet(layout.scores("scenes", "vlba", 1), index=False)
    message = r"vlba/1/scenes.parquet .* protocol lavt, params.yaml says original.*dvc repro evaluate@scenes-vlba-1"
    with pytest.raises(SystemExit, match=message):
        compare()
    assert not layout.comparison("scenes").exists()


def test_the_protocol_of_params_decides_what_counts(runs, tmp_path):
    """An IoU of exactly .5 passes under `original` and fails under `cgformer`; both empty counts 1 and 0."""
    splits = {"val": 4}
    write_params(tmp_path, ["scenes"], ["baseline"], [0])
    write_prepared("scenes", splits)
    for protocol, passed, mean in (("original", 0.75, 0.625), ("cgformer", 0.25, 0.375)):
        content = (tmp_path / "params.yaml").read_text()
        (tmp_path / "params.yaml").write_text(content.replace("protocol: original", f"protocol: {protocol}"))
        scores = write_scores("scenes", "baseline", 0, splits, protocol)
        scores["intersection"], scores["union"] = [5, 10, 0, 0], [10, 10, 0, 7]
        scores.to_parquet(layout.scores("scenes", "baseline", 0), index=False)
        table = compare().set_index("metric")
        assert set(table["protocol"]) == {protocol}
        assert table.loc["Pr@0.5", "mean"] == passed
        assert table.loc["mIoU", "mean"] == mean
        assert table.loc["oIoU", "mean"] == 15 / 27


def test_scores_without_a_column_are_an_error(runs):
    runs["vlba", 0].drop(columns="union").to_parquet(layout.scores("scenes", "vlba", 0), index=False)
    with pytest.raises(SystemExit, match="union"):
        compare()


def test_pairs_that_differ_in_one_part_of_the_method(compared):
    """Of params.yaml: alignformer has a contrast that vlba has not; vlba has an attention that baseline has not."""
    table = pd.read_csv(layout.contrasts("scenes"))
    pairs = table[["variant", "against", "aspect", "what"]].drop_duplicates().to_numpy().tolist()
    assert pairs == [
        ["vlba", "baseline", "vlba", "bidirectional VLBA"],
        ["alignformer", "vlba", "contrastive", "instance contrast"],
    ]
    for row in table.itertuples():
        differences = [
            independent(compared[row.variant, seed], row.split, row.metric)
            - independent(compared[row.against, seed], row.split, row.metric)
            for seed in range(3)
        ]
        assert row.difference == pytest.approx(math.fsum(differences) / 3, abs=1e-12)
        assert row.difference_low < row.difference < row.difference_high


def two_by_two(folder: Path, seeds: list[int]) -> Runs:
    """Adds the cell that completes no VLBA and both directions with no and instance contrast; its scores."""
    write_params(folder, ["scenes"], [*VARIANTS, "baseline_instance"], seeds)
    content = (folder / "params.yaml").read_text()
    one = "  baseline_instance: {vlba: none, contrastive: instance, contrastive_weight: 0.01, temperature: 0.05}"
    (folder / "params.yaml").write_text(content.replace("\nvariants:", f"\nvariants:\n{one}", 1))
    return {("baseline_instance", seed): write_scores("scenes", "baseline_instance", seed, SPLITS) for seed in seeds}


@pytest.mark.parametrize("elsewhere", ["head: plain", "grouping: cosine"])
def test_a_pair_that_differs_elsewhere_too_says_nothing_about_a_part(runs, tmp_path, elsewhere):
    content = (tmp_path / "params.yaml").read_text()
    changed = content.replace("  baseline:      {", f"  baseline: {{{elsewhere}, ")
    assert changed != content
    (tmp_path / "params.yaml").write_text(changed)
    compare()
    pairs = pd.read_csv(layout.contrasts("scenes"))[["variant", "against"]].drop_duplicates().to_numpy().tolist()
    assert pairs == [["alignformer", "vlba"]]


def test_a_factorial_of_two_by_two_has_the_effects_of_a_closed_form(runs, tmp_path):
    runs = runs | two_by_two(tmp_path, [0, 1, 2])
    content = (tmp_path / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(content.replace("smallest_effect: null", "smallest_effect: 100"))
    compare()
    table = pd.read_csv(layout.factorial("scenes"), keep_default_na=False, na_values=[""])
    weights = {  # baseline, vlba, baseline_instance, alignformer
        "bidirectional VLBA": (-1 / 2, 1 / 2, -1 / 2, 1 / 2),
        "instance contrast": (-1 / 2, -1 / 2, 1 / 2, 1 / 2),
        "interaction of bidirectional VLBA and instance contrast": (1, -1, -1, 1),
    }
    assert list(table["what"].unique()) == list(weights)
    levels = table[["vlba", "contrastive"]].drop_duplicates().fillna("").to_numpy().tolist()
    assert levels == [["bidirectional", ""], ["", "instance"], ["bidirectional", "instance"]]
    assert len(table) == len(weights) * len(SPLITS) * len(METRICS) and set(table["seeds"]) == {3}
    cells = ["baseline", "vlba", "baseline_instance", "alignformer"]
    for row in table.itertuples():
        means = np.array([
            [independent(runs[name, seed], row.split, row.metric) for name in cells] for seed in range(3)
        ])  # fmt: skip
        of_seeds = means @ weights[row.what]
        residuals = means - means.mean(axis=0) - means.mean(axis=1, keepdims=True) + means.mean()
        common = np.square(residuals).sum() / 6 * np.square(weights[row.what]).sum()
        assert row.difference == pytest.approx(of_seeds.mean(), abs=1e-12)
        assert row.seeds_error == pytest.approx(math.sqrt((2 * of_seeds.var(ddof=1) + common) / 3 / 3), abs=1e-12)
        assert row.degrees == 3
        assert row.difference_low < row.difference < row.difference_high
    for _, family in table.groupby(["split", "metric"]):
        ranked = sorted(family["p"])
        for row in family.itertuples():
            steps = enumerate(ranked[: ranked.index(row.p) + 1])
            assert row.p_holm == pytest.approx(min(1, max((3 - place) * p for place, p in steps)))
            assert row.supported == (row.p_holm < 0.05)
            assert row.verdict == (("better" if row.difference > 0 else "worse") if row.supported else "equivalent")


def test_an_effect_is_over_the_seeds_that_all_its_cells_have(runs, tmp_path):
    two_by_two(tmp_path, [0, 1, 2])
    layout.scores("scenes", "vlba", 1).unlink()
    compare()
    assert set(pd.read_csv(layout.factorial("scenes"))["seeds"]) == {2}
    for seed in (0, 2):
        layout.scores("scenes", "vlba", seed).unlink()
    compare()
    table = pd.read_csv(layout.factorial("scenes"))
    assert set(table["seeds"]) == {0} and table[["difference", "p", "no_verdict"]].isna().all(axis=None)
    assert not table["supported"].any()


def test_without_a_factorial_its_table_has_no_row(compared):
    table = pd.read_csv(layout.factorial("scenes"))
    assert table.empty and list(table.columns) == factorial.COLUMNS


def test_a_variant_that_scores_the_same_is_not_told_apart(runs):
    for seed in range(3):
        shutil.copy(layout.scores("scenes", "baseline", seed), layout.scores("scenes", "vlba", seed))
    rows = compare().query("variant == 'vlba'")
    assert (rows["difference"] == 0).all() and (rows["p"] == 1).all() and (rows["improvement"] == 0.5).all()


def test_one_image_of_many_expressions_says_little(runs, tmp_path):
    """Ten expressions of one image are not ten images: the interval is wider."""
    write_params(tmp_path, ["scenes"], ["baseline"], [0])
    write_prepared("scenes", {"val": 200})
    scores = write_scores("scenes", "baseline", 0, {"val": 200})
    image = np.random.default_rng(0).random(20)
    scores["union"], scores["intersection"] = 1000, (1000 * image[np.arange(200) % 20]).astype(int)
    widths = []
    for images in (200, 20):
        scores.assign(image_id=np.arange(200) % images).to_parquet(layout.scores("scenes", "baseline", 0))
        row = compare().set_index("metric").loc["mIoU"]
        widths.append(row["high"] - row["low"])
    assert widths[1] / widths[0] == pytest.approx(math.sqrt(10), rel=0.1)


def test_one_pair_of_variants_has_one_verdict_however_many_tables_show_it(runs, tmp_path):
    """Here vlba over baseline is in both tables, vlba over alignformer in both and each way round.

    Both are of the headline; baseline over alignformer is a family by itself.
    """
    content = (tmp_path / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(content.replace("  reference: baseline", "  reference: alignformer"))
    compared, contrasts = compare(), pd.read_csv(layout.contrasts("scenes"))
    rows = pd.concat([compared.assign(against="alignformer").query("variant != 'alignformer'"), contrasts])
    for _, family in rows.groupby(["split", "metric"]):
        by_pair = family.groupby(["variant", "against"])[["difference", "p", "p_holm"]].first()
        p_values = {frozenset(pair): p for pair, p in by_pair["p"].items()}
        assert len(by_pair) == 4 and len(p_values) == 3
        alone = p_values.pop(frozenset(("baseline", "alignformer")))
        assert by_pair.loc[("baseline", "alignformer"), ["p", "p_holm"]].tolist() == [alone, alone]
        ranked = sorted(p_values.values())
        for pair, row in by_pair.drop(("baseline", "alignformer")).iterrows():
            assert row["p"] == p_values[frozenset(pair)]
            steps = ranked[: ranked.index(row["p"]) + 1]
            assert row["p_holm"] == pytest.approx(min(1, max((2 - place) * p for place, p in enumerate(steps))))
        assert by_pair.loc[("vlba", "alignformer"), "difference"] == -by_pair.loc[("alignformer", "vlba"), "difference"]
        assert (family["supported"] == (family["p_holm"] < 0.05)).all()
    assert rows["no_verdict"].isna().all()


@pytest.mark.parametrize(
    ("seeds", "splits", "needed"),
    [
        ([1], SPLITS, "two or more seeds that the variants share; the interval is of the images alone"),
        ([0, 1, 2], {"val": 2 * FEWEST_IMAGES - 2}, f"{FEWEST_IMAGES} or more images (here {FEWEST_IMAGES - 1})"),
        ([1], {"val": 1}, f"{FEWEST_IMAGES} or more images (here 1) and two or more seeds that the variants share"),
    ],
)
def test_too_few_seeds_or_images_give_no_verdict(runs, tmp_path, seeds, splits, needed):
    """However large a difference is: here no expression of baseline is right, and every one of the others."""
    write_params(tmp_path, ["scenes"], VARIANTS, seeds)
    write_prepared("scenes", splits)
    for variant in VARIANTS:
        for seed in seeds:
            scores = write_scores("scenes", variant, seed, splits)
            scores["intersection"] = 0 if variant == "baseline" else scores["union"]
            scores.to_parquet(layout.scores("scenes", variant, seed), index=False)
    compared, contrasts = compare(), pd.read_csv(layout.contrasts("scenes"))
    assert (compared.query("variant == 'vlba'")["difference"] == 1).all()
    for table in (compared.query("variant != 'baseline'"), contrasts):
        assert table[["p", "p_holm"]].isna().all(axis=None) and not table["supported"].any()
        assert set(table["no_verdict"]) == {f"a verdict needs {needed}"}
    few = compared["images"] < FEWEST_IMAGES
    assert compared.loc[few, ["low", "high", "difference_low", "improvement_high"]].isna().all(axis=None)
    assert compared.loc[~few, ["low", "high"]].notna().all(axis=None)


def test_seeds_that_no_two_variants_share_give_no_verdict(runs, tmp_path):
    """Two seeds are listed, but of baseline one has no scores: nothing says what another seed would do to both."""
    write_params(tmp_path, ["scenes"], ["baseline", "vlba"], [0, 1])
    layout.scores("scenes", "baseline", 1).unlink()
    rows = compare().query("variant == 'vlba'")
    assert rows["difference"].notna().all() and rows["p"].isna().all()
    assert set(rows["no_verdict"].str.partition(" needs ")[2].str.partition(";")[0]) == {
        "two or more seeds that the variants share"
    }


def test_the_plan_is_of_every_dataset_unless_one_is_named(compared, capsys):
    for arguments in (["--plan"], ["--plan", "--dataset", "scenes"]):
        main(arguments)
        said = capsys.readouterr().out
        assert said.startswith("scenes: mIoU in points.") and " val " in said and "seeds for 1" in said
    with pytest.raises(SystemExit):
        main([])
    assert "--dataset is missing" in capsys.readouterr().err


def test_averages_leave_out_the_split_that_chose_the_epoch(compared):
    table = pd.read_csv(layout.averages("scenes")).query("metric == 'mIoU'").set_index(["variant", "against"])
    assert set(table["splits"]) == {"testA"}
    of_split = found().query("metric == 'mIoU' and split == 'testA'").set_index("variant")
    for variant in VARIANTS:
        assert table.loc[(variant, math.nan), "value"].item() == pytest.approx(of_split.loc[variant, "mean"])


def test_slices_are_the_comparison_of_their_expressions(compared):
    table = pd.read_csv(layout.slices("scenes"))
    labels = slices.labels(prepared.read(layout.prepared("scenes")))
    assert set(table["family"]) == set(labels["family"]) and set(table["metric"]) == {"mIoU"}
    for row in table.itertuples():
        chosen = labels.loc[(labels["family"] == row.family) & (labels["slice"] == row.slice), "sent_id"]
        of_slice = {run: scores[scores["sent_id"].isin(chosen)] for run, scores in compared.items()}
        own = of_slice[row.variant, 0].query("split == @row.split")
        assert (row.expressions, row.images) == (len(own), own["image_id"].nunique())
        if row.images < FEWEST_IMAGES:
            assert math.isnan(row.mean) and math.isnan(row.difference_low)
            continue
        values = [independent(of_slice[row.variant, seed], row.split, "mIoU") for seed in range(3)]
        against = [independent(of_slice["baseline", seed], row.split, "mIoU") for seed in range(3)]
        assert row.mean == pytest.approx(math.fsum(values) / 3)
        assert row.difference == pytest.approx(math.fsum(values) / 3 - math.fsum(against) / 3, abs=1e-12)
        assert row.low < row.mean < row.high
    assert (table["images"] < FEWEST_IMAGES).any() and table["mean"].notna().any()
    assert list(table["variant"].unique()) == VARIANTS


def test_without_the_prepared_dataset_there_are_no_slices(runs):
    shutil.rmtree(layout.prepared("scenes"))
    with pytest.raises(SystemExit, match="dvc repro prepare@scenes"):
        compare()


@pytest.mark.parametrize("column", ["intersection", "union", "image_id", "split", "protocol", "sent_id"])
def test_scores_that_lack_a_value_are_refused(runs, column):
    scores = runs["vlba", 0].astype({column: object})
    scores.loc[3, column] = math.nan if column not in ("split", "protocol") else None
    if column not in ("split", "protocol"):
        scores[column] = scores[column].astype(float)
    scores.to_parquet(layout.scores("scenes", "vlba", 0), index=False)
    message = rf"vlba/0/scenes.parquet: run vlba, seed 0 has no {column} in 1 of 145 rows.*dvc repro -f -s evaluate@"
    with pytest.raises(SystemExit, match=message):
        compare()
    assert not layout.comparison("scenes").exists()


@pytest.mark.parametrize(
    ("intersection", "problem"),
    [
        ([5, 11], "0 <= I <= U does not hold"),
        ([5, -1], "0 <= I <= U does not hold"),
        ([1.5, 2.0], "must be integers"),
        ([1, math.inf], "must be integers"),
        (["1", "2"], "must be integers"),
    ],
)
def test_counts_that_are_none_are_refused(runs, intersection, problem):
    scores = runs["vlba", 0].assign(union=10, intersection=3)
    scores["intersection"] = np.resize(intersection, len(scores))
    scores.to_parquet(layout.scores("scenes", "vlba", 0), index=False)
    message = rf"vlba/0/scenes.parquet: .*{problem}.*dvc repro -f -s evaluate@scenes-vlba-0"
    with pytest.raises(SystemExit, match=message):
        compare()
    assert not layout.comparison("scenes").exists()
