"""Tests of transport/: sockets and dials."""
