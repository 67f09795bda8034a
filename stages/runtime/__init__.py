"""The lowest layer: parameters, paths, runs, processes, atomic writes, locks and the start of a command."""
