"""Tests of transport/: one connection, from its opening to its end, and what is logged of it."""
