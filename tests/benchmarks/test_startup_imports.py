"""The benchmark of the start imports what a command imports."""

import importlib
import sys

import pytest

from benchmarks import startup


@pytest.mark.parametrize("stage", startup.STAGES)
def test_every_stage_has_imports_that_can_be_run(stage):
    exec(compile(startup.imports(stage), stage, "exec"), {})


def test_imports_inside_functions_are_among_them():
    command = importlib.import_module("stages.train.__main__")
    assert not hasattr(command, "training")
    exec(startup.imports("train"), {})
    assert "stages.train.training" in sys.modules and "stages.train.training" in startup.imports("train")
