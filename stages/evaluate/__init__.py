"""Score a trained model on every evaluation split: `python -m stages.evaluate`."""
