"""How predictions are scored: metrics, protocols, the score of every expression, and loading a trained model."""
