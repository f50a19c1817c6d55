"""Audio files of any kind in, compact audio and waveforms out; PyAV comes with livekit-agents."""

from __future__ import annotations

import io
import os
from fractions import Fraction
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.int16]

_OPUS_RATE_HZ: Final = 24_000
"""Hydra 1.1 speaks at this rate, and voices need no more."""

_OPUS_BITS_PER_S: Final = 32_000
"""For two voices; ten minutes make three megabytes. Our choice."""

_OPUS_FRAME: Final = 480
"""20 ms."""

_OPUS_EFFORT: Final = "2"
"""Of 10: ten minutes take seconds instead of half a minute, and it sounds the same. Measured."""


class RecordingUnreadable(Exception):
    """A file has no audio that can be read; the text says why."""


def read(path: str | os.PathLike[str], *, rate_hz: int, n_channels: int = 1) -> Samples:
    """Return the audio of a file: int16 (n_samples, n_channels).

    Args:
        path: wav, flac, ogg, mp3 and what else FFmpeg reads; of a video, its audio.
        rate_hz: what it is brought to.
        n_channels: 1 mixes all channels down; 2 keeps left and right, and doubles one channel.

    Raises:
        RecordingUnreadable: there is no such file, or no audio in it.
    """
    import av
    import av.error

    name = os.fspath(path)
    if not os.path.isfile(name):
        raise RecordingUnreadable(f"{name} is no file")
    layout = "mono" if n_channels == 1 else "stereo"
    pieces: list[npt.NDArray[Any]] = []
    try:
        # Absolute, as FFmpeg takes what is before a colon for a protocol.
        with av.open(os.path.abspath(name)) as container:
            if not container.streams.audio:
                raise RecordingUnreadable(f"{name} has no audio in it")
            resampler = av.AudioResampler(format="s16", layout=layout, rate=rate_hz)
            for frame in container.decode(audio=0):
                frame.pts = None
                pieces += [each.to_ndarray() for each in resampler.resample(frame)]
            pieces += [each.to_ndarray() for each in resampler.resample(None)]
    except (av.error.FFmpegError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise RecordingUnreadable(
            f"{name} can't be read as audio ({why}); wav, flac, ogg and mp3 can"
        ) from None
    if not pieces:
        raise RecordingUnreadable(f"{name} has no audio in it")
    samples: Samples = np.concatenate([piece.reshape(-1, n_channels) for piece in pieces])
    return samples


def to_opus(samples: Samples, *, rate_hz: int) -> bytes:
    """Return audio as an Ogg Opus file.

    Args:
        samples: int16 (n_samples, n_channels); none make a file without sound.
        rate_hz: of the samples.
    """
    import av

    n_channels = samples.shape[1]
    if not samples.size:  # FFmpeg takes no empty frame
        samples = np.zeros((1, n_channels), dtype=np.int16)
    layout = "mono" if n_channels == 1 else "stereo"
    file = io.BytesIO()
    with av.open(file, "w", format="ogg") as container:
        stream = container.add_stream(
            "libopus",
            rate=_OPUS_RATE_HZ,
            options={"compression_level": _OPUS_EFFORT, "vbr": "constrained"},
        )
        stream.layout = layout
        stream.bit_rate = _OPUS_BITS_PER_S
        resampler = av.AudioResampler(
            format="s16", layout=layout, rate=_OPUS_RATE_HZ, frame_size=_OPUS_FRAME
        )
        whole = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples.reshape(1, -1)), format="s16", layout=layout
        )
        whole.sample_rate = rate_hz
        whole.time_base = Fraction(1, rate_hz)
        whole.pts = 0
        for source in (whole, None):
            for frame in resampler.resample(source):
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def envelope(samples: Samples, *, rate_hz: int, bin_s: float) -> npt.NDArray[np.float64]:
    """Return the peak of each bin, 0.0 to 1.0: float64 (n_bins,).

    Args:
        samples: int16 (n_samples,).
        rate_hz: of the samples.
        bin_s: length of a bin, in seconds.
    """
    n_bin = max(1, round(rate_hz * bin_s))
    n_bins = -(-samples.size // n_bin)
    padded = np.zeros(n_bins * n_bin, dtype=np.int32)
    padded[: samples.size] = np.abs(samples.astype(np.int32))
    peaks: npt.NDArray[np.float64] = padded.reshape(n_bins, n_bin).max(axis=1) / 32768
    return peaks
