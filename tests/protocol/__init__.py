"""Tests of protocol/: decisions, without I/O."""
