"""Benchmarks: ratios from one run, never seconds. `python -m tests.bench.cpu` prints a table."""
