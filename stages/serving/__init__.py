"""Trained models for users: finding one by its name, and answering as MLflow serves it."""
