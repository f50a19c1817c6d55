"""Calls in real LiveKit rooms: a real server, real workers, WebRTC, a browser and a phone's sound.

`sh tests/run.sh rooms` runs them. The default run doesn't collect them; see `conftest.py`.
"""
