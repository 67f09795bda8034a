"""Prefect flows over the stages of `dvc.yaml`: they decide when a stage runs; what is stale stays DVC's business."""
