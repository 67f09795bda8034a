"""The same bits on every machine, as far as the rows of `benchmarks.bits` tell."""

import json
import warnings

import pytest

from benchmarks import bits
from stages.runtime import kernels, keys


@pytest.mark.programs
def test_this_processor_computes_what_it_computed_before(reproduced):
    """And what others compute: a kind of processor that has no row yet is reported, with what it got."""
    found, this, known = bits.hashes(reproduced.folder / keys.LOCK), bits.kind(), bits.read()
    known = known[known["settings"] == this["settings"]]
    seen = {row["processor"]: {group: row[group] for group in bits.GROUPS} for _, row in known.iterrows()}
    if this["processor"] in seen:
        assert found == seen[this["processor"]], "if the change is meant: python -m benchmarks.bits"
        return
    same = {name: [group for group in bits.GROUPS if found[group] == hashes[group]] for name, hashes in seen.items()}
    warnings.warn(
        f"no row of {bits.RESULTS} is about {this}. It got {found}. The same as others: {same}. "
        "To add it: python -m benchmarks.bits",
        stacklevel=1,
    )


def test_one_branch_of_mkl_computes_the_same_on_every_kind_of_processor():
    known = bits.read()
    compatible = known[known["settings"] == json.dumps({"MKL_CBWR": "COMPATIBLE"})]
    assert len(compatible) >= 1
    assert len(compatible[[*bits.GROUPS]].drop_duplicates()) == 1


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
