"""The places in the code at which faults are injected exist."""

import functools
import importlib

import pytest

from benchmarks.faults import moments
from benchmarks.faults.moments import Moment

MOMENTS = {name: value for name, value in vars(moments).items() if isinstance(value, Moment)}


@pytest.mark.parametrize("name", MOMENTS)
def test_a_moment_names_a_module_and_a_function_in_it(name):
    module, function = MOMENTS[name].place.split(":")
    owner = importlib.import_module(module)
    if function:
        assert callable(functools.reduce(getattr, function.split("."), owner))
