"""Measure what a training would cost, without training: `python -m stages.estimate`."""
