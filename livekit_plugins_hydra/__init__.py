"""LiveKit Agents plugin for Hydra, Smallest AI's full-duplex speech-to-speech model."""

__version__ = "0.1.0"
__all__: list[str] = []
