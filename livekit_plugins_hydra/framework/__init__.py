"""Between LiveKit's types and Hydra's: tools, metrics, errors, configuration, and workarounds."""
