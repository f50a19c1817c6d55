"""Frames that no server should send, by the million."""
