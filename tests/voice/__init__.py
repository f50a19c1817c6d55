"""Tests of voice/: audio and text of both sides."""
