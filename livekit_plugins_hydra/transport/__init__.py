"""One WebSocket to Hydra: how it is dialled, kept alive, logged and closed."""
