"""Prefect flows. They decide when a DVC stage runs; what is stale stays DVC's business."""

import stages as stages  # sets the switches against calls home before Prefect is imported
