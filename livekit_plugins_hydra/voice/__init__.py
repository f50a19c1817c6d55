"""The two sides of a call: the user's microphone and the agent's voice, as audio and as text."""
