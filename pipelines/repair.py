"""`python -m pipelines.repair`: mend DVC's own files after a kill or a full disk, so that DVC starts again."""

from pipelines.dvc.repair import repair

if __name__ == "__main__":
    repair()
