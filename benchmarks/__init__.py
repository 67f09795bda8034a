"""How fast and how reliable each part is, measured against a bound or a peer: `python -m benchmarks.NAME`."""
