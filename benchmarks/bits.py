"""Do machines compute the same bits? Runs a tiny experiment and hashes what its stages wrote.

There is one hash for each group of outputs: what was prepared, trained, scored, compared, and the report. The row says
on which processor, and which of the user's settings choose kernels (`stages.runtime.kernels`). The test suite compares
with these rows.

Adds its row to `benchmarks/results/bits.csv`. Where this processor has a row with the same settings and another hash of
a group, the code has changed since, so no row with these settings keeps its hash of that group.
"""

import argparse
import hashlib
import json
import re
import sys
import tempfile
from pathlib import Path

import pandas as pd
from ruamel.yaml import YAML

from benchmarks import table
from benchmarks.clones import clone, run, tiny
from stages.runtime import kernels, keys

RESULTS = Path("benchmarks/results/bits.csv")
GROUPS = {
    "prepared": ("prepare",),
    "trained": ("train",),
    "scored": ("evaluate", "diagnose"),
    "compared": ("ablate",),
    "report": ("report",),
}
NAME_CODE = ("reports/index.html", "reports/provenance.json")  # they hold hashes of the code
SETS = {"amx_tile": "AMX", "avx512f": "AVX-512", "avx2": "AVX2"}  # flags of Linux, the newest set first
KIND = ["processor", "instruction set", "settings"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bits", description=__doc__.splitlines()[0])
    parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        project = tiny(clone(Path(), Path(folder) / "project", Path("tests/params.yaml")))
        run(project, sys.executable, "-m", "dvc", "repro")
        row = {**kind(), **hashes(project / keys.LOCK), **table.surroundings("torch", "numpy")}
    print(json.dumps(row, indent=1))
    with_row(read(), row).to_csv(RESULTS, index=False, lineterminator="\n")


def with_row(known: pd.DataFrame, row: dict[str, str]) -> pd.DataFrame:
    """The rows with one more, in place of an earlier one of its kind; without the hashes that hold no longer."""
    same_kind = (known[KIND] == pd.Series(row)[KIND]).all(axis="columns")
    earlier, kept = known[same_kind], known[~same_kind].copy()
    changed = [group for group in GROUPS if not earlier[group].isin(["", row[group]]).all()]
    kept.loc[kept["settings"] == row["settings"], changed] = ""
    kept = kept[(kept[[*GROUPS]] != "").any(axis="columns")]
    return pd.concat([kept, pd.DataFrame([row])], ignore_index=True)


def read() -> pd.DataFrame:
    """The rows of `RESULTS`, all of them text; the hash of a group is empty where its code has changed since."""
    if not RESULTS.exists():
        return pd.DataFrame(columns=[*KIND, *GROUPS])
    return pd.read_csv(RESULTS, dtype=str, keep_default_na=False)


def kind() -> dict[str, str]:
    """The kind of this machine's processor, its newest set of vector instructions, and the user's settings."""
    described = Path("/proc/cpuinfo").read_text()
    found = dict(re.findall(r"^(vendor_id|cpu family|model|model name|flags)\s*: (.*)$", described, re.MULTILINE))
    flags = found["flags"].split()
    return {
        "processor": f"{found['model name']} ({found['vendor_id']} {found['cpu family']}/{found['model']})",
        "instruction set": next((name for flag, name in SETS.items() if flag in flags), "before AVX2"),
        "settings": json.dumps(kernels.rounding_settings()) if kernels.rounding_settings() else "",
    }


def hashes(lock: Path) -> dict[str, str]:
    """The first digits of a hash of the outputs of each of `GROUPS`, from an experiment's `dvc.lock`."""
    stages = YAML(typ="safe").load(lock)["stages"]
    return {
        group: hashlib.sha256(
            json.dumps(
                [
                    (out["path"], out["md5"])
                    for name in sorted(stages)
                    if name.partition("@")[0] in names
                    for out in stages[name].get("outs", [])
                    if out["path"] not in NAME_CODE
                ]
            ).encode()
        ).hexdigest()[:12]
        for group, names in GROUPS.items()
    }


if __name__ == "__main__":
    main()
