"""MLflow brought into step with what DVC keeps: runs that lack something, and the champion of each dataset."""
