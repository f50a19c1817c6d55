"""``livekit-hydra doctor``: looks at everything between this machine and a spoken answer."""

from .command import doctor

__all__ = ["doctor"]
