"""Tests of commands/ and report/: the command line."""
