"""Faults injected into a tiny experiment, one at a time, and their outcome: `python -m benchmarks.faults`."""
