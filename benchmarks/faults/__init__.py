"""Faults injected into a tiny experiment, one at a time, and what came of it: `python -m benchmarks.faults`."""
