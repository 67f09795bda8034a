"""Write the model card of a run: `python -m stages.card`."""
