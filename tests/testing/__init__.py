"""Tests of testing/: the emulator."""
