"""The prepared dataset: what lies on disk, the same as tensors for a model, and which samples form a batch."""
