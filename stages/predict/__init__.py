"""The command that segments images of one's own with a trained model."""
