"""The command that compares the listed variants of a dataset and writes the comparison as tables."""
