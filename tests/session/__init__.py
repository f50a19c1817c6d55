"""Tests of whole calls: the session, the model and LiveKit's framework."""
