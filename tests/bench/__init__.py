"""Benchmarks: ratios and distributions from one run; `sh tests/run.sh bench` runs them."""
