"""Tests: promises, in one sentence each."""
