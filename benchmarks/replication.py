"""Does the default experiment give the same verdicts with other seeds?

Runs it with three disjoint sets of seeds of the same size: its own, and those that follow. Each set runs in a clone of
the checkout in `.dvc/tmp/replication`, with the checkout's DVC cache: what the checkout or an earlier call has made in
the same way is not made again. A call that was ended, also by `kill -9`, goes on where it was.

Each set adds its rows to `benchmarks/results/replication.csv`, in place of those of the same seeds, code and kind of
processor: in each headline metric, every difference that the report states on the splits that chose no epoch, and the
mean of every variant. So a set may also run on another machine, whose rows are then added to this file.

Prints, as Markdown, the verdicts of all sets with the same code and parameters side by side.
"""

import argparse
import contextlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
from filelock import FileLock, Timeout

from benchmarks import bits, table
from benchmarks.clones import ENVIRONMENT, clone, run, set_params
from stages.report import dataset_numbers, provenance
from stages.report.dataset_numbers import DIFFERENCE
from stages.report.page import headline
from stages.report.tables import markdown
from stages.report.tables.table import MISSING, Block, Cell, Group, Table, interval, percent, signed
from stages.runtime import experiments, keys, layout, params
from stages.runtime.atomic_write import atomic_write
from stages.runtime.errors import UserError, exit_on_error
from stages.runtime.params import Params

RESULTS = Path("benchmarks/results/replication.csv")
CLONES = Path(".dvc/tmp/replication")
COPIED = (*experiments.LINKED, "experiments", "pipelines")
SETS = 3
SAME = "same verdict"
PARTS = {"yes": ", headline", "no": ", other parts", "": ""}
ABOUT = ["dataset", "metric", "headline", "what", "variant", "against", "split"]
NUMBERS = ["value", "low", "high"]
OF_SET = ["seeds", "code", *bits.KIND]
FLOW = (  # ends as after Ctrl-C where this process is killed
    "import runpy; from stages.runtime import parent; parent.exit_with_parent(); "
    "runpy.run_module('pipelines.experiment', run_name='__main__', alter_sys=True)"
)


class ReplicationError(UserError):
    """A set cannot run, or there are no rows."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replication", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--sets",
        nargs="*",
        type=int,
        choices=range(1, SETS + 1),
        default=range(1, SETS + 1),
        metavar="N",
        help=f"the sets of seeds to run, of 1 to {SETS} (default: all); without a number, only print the table",
    )
    parser.add_argument("--jobs", metavar="N", help="stages that run at once, as pipelines.experiment says")
    options = parser.parse_args(arguments)
    with exit_on_error():
        own = params.read().experiment.seeds
        for number in options.sets:
            seeds = seed_sets(own)[number - 1]
            print(f"set {number} of {SETS}: seeds {', '.join(map(str, seeds))}", flush=True)
            write(measured(reproduced(seeds, options.jobs), own))
        print(side_by_side(read()))


def seed_sets(own: list[int]) -> list[list[int]]:
    """`SETS` disjoint sets of seeds of one size: the experiment's own, and those that follow its largest."""
    size, new = len(own), max(own) + 1
    return [own, *(list(range(new + place * size, new + (place + 1) * size)) for place in range(SETS - 1))]


def reproduced(seeds: list[int], jobs: str | None) -> Path:
    """A clone in which the default experiment is up to date with these seeds; exits where the flow fails or is ended.

    Raises:
        ReplicationError: another process works in the clone.
    """
    folder = CLONES / "-".join(map(str, seeds))
    CLONES.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(f"{folder}.lock", timeout=0):
            for name in COPIED:  # what the checkout no longer has
                shutil.rmtree(folder / name, ignore_errors=True)
            clone(Path(), folder)
            set_params(folder, experiment__seeds=seeds)
            cache = run(Path(), sys.executable, "-m", "dvc", "cache", "dir").splitlines()[0]
            run(folder, sys.executable, "-m", "dvc", "cache", "dir", "--local", cache)
            given = ["--jobs", jobs] if jobs else []
            flow = subprocess.Popen([sys.executable, "-c", FLOW, *given], cwd=folder, env=ENVIRONMENT)
            before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the flow hears Ctrl-C too, and ends its stages
            code = flow.wait()
            signal.signal(signal.SIGINT, before)
    except Timeout:
        raise ReplicationError(f"{folder}: another process runs this set of seeds. Wait for it, or end it") from None
    if code:
        print("The same command of benchmarks.replication goes on from here.", file=sys.stderr)
        sys.exit(code)
    return folder


def measured(folder: Path, own: list[int]) -> pd.DataFrame:
    """The rows of a set, from the report of its clone.

    Args:
        own: the seeds of the default experiment.

    Returns:
        A row for each difference that the report states, and for each mean of a variant, which has no `against`.
        `value`, `low` and `high` are fractions.
    """
    with contextlib.chdir(folder):
        settings, found = params.read(), []
        for name in settings.experiment.datasets:
            kept = {path.name: path.read_bytes() for path in (layout.REPORTS / "data" / name).iterdir()}
            results = dataset_numbers.from_files(name, settings, kept)
            for metric in results.protocol.headline:
                differences = headline.stated(results, metric).rename(
                    columns=dict(zip(DIFFERENCE, NUMBERS, strict=True))
                )
                differences["headline"] = differences["headline"].map({True: "yes", False: "no"})
                means = [
                    {"headline": "", "what": variant, "variant": variant, "against": "", "split": split}
                    | dict(zip(NUMBERS, results.row(variant, split, metric)[["mean", "low", "high"]], strict=True))
                    for split in results.unseen
                    for variant in results.scored
                ]
                rows = pd.concat([differences, pd.DataFrame(means)], ignore_index=True)
                found.append(rows.assign(dataset=name, metric=metric))
        of_set = {"seeds": " ".join(map(str, settings.experiment.seeds)), "code": code_key(settings, own)}
    surroundings = bits.kind() | table.surroundings("torch", "numpy")
    rows = pd.concat(found, ignore_index=True).assign(**of_set, **surroundings)
    return rows[["seeds", *ABOUT, *NUMBERS, "verdict", "code", *surroundings]]


def code_key(settings: Params, own: list[int]) -> str:
    """A key of the code and the parameters that numbers follow from, as those of `stages.runtime.keys`.

    It is the same for all sets of seeds: in their place it has those of the default experiment.
    """
    entries = keys.locked_entries()
    used = [
        entries[stage]
        for stage in provenance.stage_hashes(settings, entries)
        if stage.partition("@")[0] in ("prepare", "train", "evaluate", "ablate")
    ]
    files = [file for entry in used for file in bits.code_files(entry)]
    knobs = [knobs for entry in used for knobs in entry.get("params", {}).values()]
    inputs = {
        "deps": {file["path"]: file["md5"] for file in files},
        "params": {name: value for each in knobs for name, value in each.items()} | {"experiment.seeds": own},
    }
    return keys.key(settings.experiment.recipe, inputs)


def read() -> pd.DataFrame:
    """The rows of `RESULTS`, all of them text."""
    if not RESULTS.exists():
        return pd.DataFrame(columns=[*OF_SET, *ABOUT, *NUMBERS])
    return pd.read_csv(RESULTS, dtype=str, keep_default_na=False)


def write(rows: pd.DataFrame) -> None:
    """Add the rows of one set to `RESULTS`, in place of those of the same seeds, code and kind of processor."""
    known = read()
    again = (known[OF_SET] == rows[OF_SET].iloc[0]).all(axis="columns")
    with atomic_write(RESULTS) as partial:
        pd.concat([known[~again], rows]).to_csv(partial, index=False, lineterminator="\n")


def side_by_side(rows: pd.DataFrame) -> str:
    """The sets with the code and the parameters of the last row, side by side, as Markdown.

    Raises:
        ReplicationError: there are no rows.
    """
    if rows.empty:
        raise ReplicationError(f"{RESULTS} has no rows: run python -m benchmarks.replication")
    rows = rows[rows["code"] == rows["code"].iloc[-1]].copy()
    rows[NUMBERS] = rows[NUMBERS].apply(pd.to_numeric)
    several = rows["processor"].nunique() > 1
    rows["set"] = "seeds " + rows["seeds"].str.replace(" ", ", ") + (" on " + rows["processor"] if several else "")
    rows = rows.sort_values("seeds", key=lambda seeds: seeds.str.split().str[0].astype(int), kind="stable")
    tables = [part for metric, of in rows.groupby("metric", sort=False) for part in _about_metric(metric, of)]
    made_of = "; ".join(f"{name} {' and '.join(rows[name].unique())}" for name in ("code", "processor", "date"))
    return "\n".join(
        [
            *tables,
            f"{made_of}. Made by: python -m benchmarks.replication.",
        ]
    )


def _about_metric(metric: str, rows: pd.DataFrame) -> list[str]:
    """How many verdicts are the same where there are several sets, the differences, and the ranks."""
    means = rows["against"] == ""
    verdicts = _verdicts(rows[~means])
    if alone := rows["set"].nunique() == 1:
        verdicts = verdicts.drop(columns=SAME)
    return [
        *([] if alone else [f"{metric}, with the same verdict in all sets of seeds: {_counted(verdicts[SAME])}.\n"]),
        _markdown(f"Differences in {metric}, in points, with 95 % intervals and verdicts.", verdicts),
        _markdown(f"Rank of each variant by {metric}, and its mean in percent.", _ranks(rows[means])),
    ]


def _verdicts(rows: pd.DataFrame) -> pd.DataFrame:
    """What each set says of each difference, and whether all say the same."""
    words = _by_set(rows, rows["verdict"])
    same = (words.nunique(axis="columns", dropna=False) == 1) & (words.iloc[:, 0] != "")
    said = [
        ", ".join(filter(None, [f"{signed(row.value)} {interval(row.low, row.high)}".strip(), row.verdict]))
        for row in rows.itertuples()
    ]
    return _by_set(rows, said).fillna(MISSING).assign(**{SAME: same.map({True: "yes", False: "no"})})


def _ranks(rows: pd.DataFrame) -> pd.DataFrame:
    """The rank of each variant in each set, and its mean, in the order of the first set."""
    means = _by_set(rows, rows["value"])
    ranks = means.groupby(["dataset", "split"]).rank(ascending=False, method="min")
    written = ranks.map("{:.0f}".format) + means.map(lambda mean: f" ({percent(mean)})")
    return written.loc[ranks.iloc[:, 0].sort_values(kind="stable").index]


def _by_set(rows: pd.DataFrame, values: Iterable) -> pd.DataFrame:
    """Values of the rows, with a column for each set, in the order of the rows."""
    table = rows.assign(values=values).pivot(index=ABOUT, columns="set", values="values")
    return table.reindex(pd.MultiIndex.from_frame(rows[ABOUT].drop_duplicates()), columns=rows["set"].unique())


def _counted(same: pd.Series) -> str:
    of_headline = same.index.get_level_values("headline") == "yes"
    counted = [
        f"{(which == 'yes').sum()} of {len(which)} differences of {where}"
        for which, where in ((same[of_headline], "the headline"), (same[~of_headline], "other parts of the method"))
        if len(which)
    ]
    return ", ".join(counted)


def _markdown(caption: str, cells: pd.DataFrame) -> str:
    """A table of texts, with a group of rows for each dataset and split, the headline's apart."""
    groups = [
        Group(
            f"{dataset} {split}{PARTS[in_headline]}",
            [[Cell(text) for text in (of_row["what"], *of_row[cells.columns])] for _, of_row in of_group.iterrows()],
        )
        for (dataset, split, in_headline), of_group in cells.reset_index().groupby(
            ["dataset", "split", "headline"], sort=False
        )
    ]
    return markdown.to_markdown(Table("replication", caption, [Block([], ["", *cells.columns], groups)]))


if __name__ == "__main__":
    main()
