"""AlignFormer in pure PyTorch on transformers: model, losses, processor and prediction."""
