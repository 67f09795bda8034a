"""The same bits on every machine, as far as the rows of `benchmarks.bits` tell."""

import json
import warnings

import pandas as pd
import pytest

from benchmarks import bits
from stages.runtime import kernels, keys


@pytest.mark.programs
def test_this_processor_computes_what_it_computed_before(reproduced):
    """From the same code. Without such a row, what this processor got is reported, and what others got."""
    lock = reproduced.folder / keys.LOCK
    found, this, known = bits.hashes(lock), bits.kind() | {"code": bits.code_key(lock)}, bits.read()
    known = known[known["settings"] == this["settings"]].set_index("processor")
    of_this_code = known.loc[known["code"] == this["code"], [*bits.GROUPS]]
    if this["processor"] in of_this_code.index:
        assert found == of_this_code.loc[this["processor"]].to_dict()
        return
    newest = known[~known.index.duplicated(keep="last")]
    same = {name: [group for group in found if found[group] == hashes[group]] for name, hashes in newest.iterrows()}
    warnings.warn(
        f"no row of {bits.RESULTS} is about {this}. It got {found}. The same as the newest rows: {same}. "
        "To add it: python -m benchmarks.bits",
        stacklevel=1,
    )


def test_one_branch_of_mkl_computes_the_same_on_every_kind_of_processor():
    """From the same code; both makers of processors have run one."""
    known = bits.read()
    compatible = known[known["settings"] == json.dumps({"MKL_CBWR": "COMPATIBLE"})]
    same_code = compatible.groupby("code")
    assert (same_code[[*bits.GROUPS]].nunique() == 1).all(axis=None)
    makers = compatible["processor"].str.extract(r"\((\w+) ")[0].groupby(compatible["code"]).unique()
    assert any({"GenuineIntel", "AuthenticAMD"} <= set(of_code) for of_code in makers)


def test_kinds_of_one_maker_compute_the_same_by_default():
    known = bits.read()
    by_default = known[known["settings"] == ""]
    same_code = by_default.groupby(["code", by_default["processor"].str.extract(r"\((\w+) ")[0]])
    assert (same_code[[*bits.GROUPS]].nunique() == 1).all(axis=None)
    assert {maker for (_, maker), kinds in same_code["processor"].nunique().items() if kinds > 1} == {
        "GenuineIntel",
        "AuthenticAMD",
    }


def test_a_row_stands_in_place_of_one_of_the_same_kind_and_code():
    def row(processor: str, settings: str = "", code: str = "new", **changed: str) -> dict[str, str]:
        kind = {"processor": processor, "instruction set": "AVX2", "settings": settings, "code": code}
        return kind | dict.fromkeys(bits.GROUPS, "1") | changed

    others = [row("a", code="former"), row("b"), row("a", "other")]
    known = pd.DataFrame([row("a"), *others])
    assert bits.with_row(known, row("a", report="2")).to_dict("records") == [*others, row("a", report="2")]


def test_the_code_is_the_same_whatever_it_computed(tmp_path):
    def key(code: str, computed: str, seed: int = 0) -> str:
        deps = [{"path": "models", "md5": code}, {"path": "results/prepared/scenes.json", "md5": computed}]
        entry = {"cmd": "train", "deps": deps, "params": {"params.yaml": {"seed": seed}}, "outs": []}
        (tmp_path / "dvc.lock").write_text(json.dumps({"stages": {"train": entry}}))
        return bits.code_key(tmp_path / "dvc.lock")

    assert key("1", "1") == key("1", "2")
    assert len({key("1", "1"), key("2", "1"), key("1", "1", seed=1)}) == 3


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
