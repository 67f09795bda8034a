"""The DVC stage that looks into a trained model: alignment, calibration, a few samples from close up, its cost."""
