"""Do machines compute the same bits? Runs a tiny experiment and hashes what its stages wrote.

There is one hash for each group of outputs: what was prepared, trained, scored, compared, and the report. The row says
on which processor, with which of the user's settings that choose kernels (`stages.runtime.kernels`), and from which
code. The test suite compares with these rows.

Adds its row to `benchmarks/results/bits.csv`, in place of one of the same kind of processor, settings and code. So rows
of former code stay: they tell which processors computed the same with it.
"""

import argparse
import hashlib
import json
import re
import sys
import tempfile
from pathlib import Path

import pandas as pd

from benchmarks import table
from benchmarks.clones import clone, run, tiny
from stages.runtime import kernels, keys, layout

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
CODE = "code"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bits", description=__doc__.splitlines()[0])
    parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        project = tiny(clone(Path(), Path(folder) / "project", Path("tests/params.yaml")))
        run(project, sys.executable, "-m", "dvc", "repro")
        lock = project / keys.LOCK
        row = {**kind(), CODE: code_key(lock), **hashes(lock), **table.surroundings("torch", "numpy")}
    print(json.dumps(row, indent=1))
    with_row(read(), row).to_csv(RESULTS, index=False, lineterminator="\n")


def with_row(known: pd.DataFrame, row: dict[str, str]) -> pd.DataFrame:
    """The rows with one more, in place of an earlier one of its kind and code."""
    earlier = (known[[*KIND, CODE]] == pd.Series(row)[[*KIND, CODE]]).all(axis="columns")
    return pd.concat([known[~earlier], pd.DataFrame([row])], ignore_index=True)


def read() -> pd.DataFrame:
    """The rows of `RESULTS`, all of them text, the newest of a kind last."""
    if not RESULTS.exists():
        return pd.DataFrame(columns=[*KIND, CODE, *GROUPS])
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


def code_key(lock: Path) -> str:
    """The first digits of a hash of the code and the parameters that the stages of an experiment's `dvc.lock` used."""
    used = {
        name: [entry.get("params", {}), [(file["path"], file["md5"]) for file in code_files(entry)]]
        for name, entry in keys.locked_entries(lock).items()
    }
    return hashlib.sha256(json.dumps(used, sort_keys=True).encode()).hexdigest()[:12]


def code_files(entry: dict) -> list[dict]:
    """The dependencies of an entry of `dvc.lock` that no stage has made."""
    made = (str(layout.DATA), str(layout.RESULTS))
    return [file for file in entry.get("deps", []) if Path(file["path"]).parts[0] not in made]


def hashes(lock: Path) -> dict[str, str]:
    """The first digits of a hash of the outputs of each of `GROUPS`, from an experiment's `dvc.lock`."""
    stages = keys.locked_entries(lock)
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
