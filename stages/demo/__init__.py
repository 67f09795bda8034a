"""The demo: a page on which two trained models are tried side by side."""
