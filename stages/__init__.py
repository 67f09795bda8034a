"""Commands, one room each (`python -m stages.NAME`), and below them the libraries that they share."""
