"""Benchmarks: ratios and distributions of one run, never a limit in seconds.

``sh tests/run.sh bench`` prints one table. Servers are processes of their own, on loopback.
"""
