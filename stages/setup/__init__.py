"""What a training starts from: model, processor, pretrained weights and optimizer."""
