"""How much of the error is the annotation's: `python -m stages.second_truth`."""
