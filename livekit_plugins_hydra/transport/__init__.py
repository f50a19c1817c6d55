"""One WebSocket to Hydra: how it is opened, kept alive, logged and closed."""
