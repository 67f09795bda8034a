"""What MLflow is told: `live` while stages run; `mlruns`, `store`, `flavour` and `owner` for syncs too."""
