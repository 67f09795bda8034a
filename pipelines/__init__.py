"""Prefect flows. They decide when a DVC stage runs; what is stale stays DVC's business."""
