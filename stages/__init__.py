"""One room a DVC stage; `python -m stages.NAME` runs it."""
