"""Check `params.yaml` and write its schema: `python -m stages.params`."""
