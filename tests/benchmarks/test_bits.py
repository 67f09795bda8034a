"""The same bits on every machine, as far as the rows of `benchmarks.bits` tell."""

import json
import warnings

import pandas as pd
import pytest

from benchmarks import bits
from stages.runtime import kernels, keys


@pytest.mark.programs
def test_this_processor_computes_what_it_computed_before(reproduced):
    """And what others compute: a kind of processor that has no row yet is reported, with what it got."""
    found, this, known = bits.hashes(reproduced.folder / keys.LOCK), bits.kind(), bits.read()
    known = known[known["settings"] == this["settings"]]
    seen = {row["processor"]: {group: row[group] for group in bits.GROUPS if row[group]} for _, row in known.iterrows()}
    if this["processor"] in seen:
        expected = seen[this["processor"]]
        got = {group: found[group] for group in expected}
        assert got == expected, "if the change is meant: python -m benchmarks.bits"
        return
    same = {name: [group for group in hashes if found[group] == hashes[group]] for name, hashes in seen.items()}
    warnings.warn(
        f"no row of {bits.RESULTS} is about {this}. It got {found}. The same as others: {same}. "
        "To add it: python -m benchmarks.bits",
        stacklevel=1,
    )


def test_one_branch_of_mkl_computes_the_same_on_every_kind_of_processor():
    """As far as they have run the code as it is: a change of the model removes what others got until they are met."""
    known = bits.read()
    compatible = known[known["settings"] == json.dumps({"MKL_CBWR": "COMPATIBLE"})]
    for group in bits.GROUPS:
        assert set(compatible[group]) - {""} == {compatible[group].iloc[-1]}, group
    assert (compatible["prepared"] != "").sum() >= 2


def test_a_hash_that_holds_no_longer_is_removed_from_every_row_of_the_settings():
    def row(processor: str, settings: str = "", **changed: str) -> dict[str, str]:
        kind = {"processor": processor, "instruction set": "AVX2", "settings": settings}
        return kind | dict.fromkeys(bits.GROUPS, "1") | changed

    known = pd.DataFrame([row("a"), row("b"), row("b", "other")])
    assert bits.with_row(known, row("a")).to_dict("records") == [row("b"), row("b", "other"), row("a")]
    new = bits.with_row(known, row("a", report="2"))
    assert new.to_dict("records") == [row("b", report=""), row("b", "other"), row("a", report="2")]
    assert bits.with_row(new, row("b", report="2")).to_dict("records")[-1] == row("b", report="2")
    every = dict.fromkeys(bits.GROUPS, "3")
    assert bits.with_row(known, row("a", **every)).to_dict("records") == [row("b", "other"), row("a", **every)]


def test_the_kernels_of_avx2_are_held_unless_the_user_says_otherwise(monkeypatch, tmp_path):
    for name in kernels.KERNELS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(kernels, "Path", lambda _: tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text("flags\t\t: fpu avx f16c\n")
    kernels.hold()
    assert not kernels.KERNELS.keys() & kernels.os.environ.keys()
    (tmp_path / "cpuinfo").write_text("flags\t\t: fpu avx f16c avx2 avx512f\n")
    monkeypatch.setenv("STAGES_KERNELS", "native")
    kernels.hold()
    assert not kernels.KERNELS.keys() & kernels.os.environ.keys()
    assert kernels.rounding_settings() == {"STAGES_KERNELS": "native"}
    monkeypatch.delenv("STAGES_KERNELS")
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    kernels.hold()
    assert kernels.rounding_settings() == {"MKL_CBWR": "COMPATIBLE"}
    assert kernels.os.environ["ATEN_CPU_CAPABILITY"] == "avx2"
