"""The package's logger. Content goes under `lk.pii.` keys; audio is logged as a length."""

import logging

logger = logging.getLogger("livekit.plugins.hydra")
