"""Figures of the report: plots and maps, the gallery of predictions, and how they become files or parts of the page."""
