import os
import stat

import pytest

from pipelines.flow import gpus
from pipelines.flow.gpus import Gpus


@pytest.fixture
def two_gpus(tmp_path, monkeypatch):
    """A machine whose driver lists two."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    driver = tmp_path / "nvidia-smi"
    driver.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H100 (UUID: GPU-a)'\necho 'GPU 1: NVIDIA H100 (UUID: GPU-b)'\n")
    driver.chmod(driver.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")


def test_stages_at_once_have_different_gpus_and_share_when_there_are_more(two_gpus):
    pool = Gpus()
    with pool.one() as first, pool.one() as second, pool.one() as third:
        assert [first, second, third] == [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in ("0", "1", "0")]
        with pool.one() as fourth:
            assert fourth == {"CUDA_VISIBLE_DEVICES": "1"}
    with pool.one() as again:
        assert again == {"CUDA_VISIBLE_DEVICES": "0"}


def test_only_those_that_the_environment_allows(two_gpus, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-b")
    pool = Gpus()
    with pool.one() as first, pool.one() as second:
        assert [first, second] == [{"CUDA_VISIBLE_DEVICES": "3"}, {"CUDA_VISIBLE_DEVICES": "GPU-b"}]


@pytest.mark.parametrize("allowed", ["", "0"])
def test_nothing_is_set_where_there_is_no_choice(two_gpus, monkeypatch, allowed):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", allowed)
    with Gpus().one() as environment:
        assert environment == {}


def test_a_machine_without_a_driver(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpus.shutil, "which", lambda name: None)
    with Gpus().one() as environment:
        assert environment == {}
