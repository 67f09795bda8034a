"""Train one variant on one dataset under one seed: `python -m stages.train`."""
