"""What ``livekit-hydra emulator --record`` writes: each connection's frames and its audio."""

from __future__ import annotations

import re
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from livekit_plugins_hydra.protocol import events, wire
from livekit_plugins_hydra.testing import ConnectionRecord, Emulator, Observed
from livekit_plugins_hydra.testing.emulator.records import Received, Sent
from livekit_plugins_hydra.testing.recordings import Samples
from livekit_plugins_hydra.transport.wirelog import Tap, Trace

_INPUT_RATE_HZ: Final = 16_000

_FOR_EVER_S: Final = 1e9


class Tape:
    """Observes an emulator; writes ``wire.jsonl``, and ``connection-1.wav`` and so on.

    What the folder has already stays: the log is gone on with, and so are the numbers.
    """

    def __init__(self, folder: Path, write: Callable[[str], object]) -> None:
        """Prepare.

        Args:
            folder: where the files go; it exists.
            write: takes a line about each file.
        """
        self.log = folder / "wire.jsonl"
        self._folder = folder
        self._n_before = max(map(_number, folder.iterdir()), default=0)
        self._write = write
        self._open: dict[int, _Reel] = {}

    def __call__(self, record: ConnectionRecord, what: Observed) -> None:
        """Take note of one event."""
        reel = self._open.get(record.number)
        if reel is None:
            about = {"model": record.model, "auth": record.auth}
            tap = Trace(self.log).connect(about=about, at=record.opened_at_s)
            tap.note("connection.opened", {}, at=record.opened_at_s)
            reel = self._open[record.number] = _Reel(record, tap)
        reel.take(what)

    async def run(self, server: Emulator) -> None:
        """Write the audio of each connection that ends, until cancelled."""
        while True:
            record = await server.wait_for(self._ended, timeout=_FOR_EVER_S)
            self._finish(record)

    def finish(self) -> None:
        """Write what is left."""
        for reel in list(self._open.values()):
            self._finish(reel.record)

    def _ended(self, server: Emulator) -> ConnectionRecord | None:
        return next((reel.record for reel in self._open.values() if not reel.record.is_open), None)

    def _finish(self, record: ConnectionRecord) -> None:
        reel = self._open.pop(record.number)
        path = self._folder / f"connection-{self._n_before + record.number}.wav"
        try:
            reel.save(path)
        except OSError as error:
            self._write(f"{path} can't be written: {error.strerror or error}")
        else:
            self._write(f"{path} has connection {record.number}: user left, agent right")
        reel.close()


def _number(path: Path) -> int:
    """Return the number in a recording's name; 0 for other files."""
    found = re.fullmatch(r"connection-(\d+)\.wav", path.name)
    return int(found[1]) if found else 0


class _Reel:
    """One connection's frames and audio."""

    def __init__(self, record: ConnectionRecord, tap: Tap) -> None:
        self.record = record
        self._tap = tap
        self._n_taken = 0
        self._pending: list[Received] = []
        """Audio of the client that the record gets after its event."""
        self._user_audio: list[tuple[float, bytes]] = []
        self._agent_audio: list[tuple[float, bytes]] = []
        self._played_until_s = 0.0
        self._n_sent: dict[str, int] = {}

    def take(self, what: Observed) -> None:
        self._flush()
        match what:
            case Received(event=events.InputAudioBufferAppend()):
                self._pending.append(what)
            case Received(event=events.UnknownEvent(type=kind)):
                self._tap.sent(msgspec.json.encode({"type": kind}), at=what.at_s)
            case Received(event=events.Event() as event):
                self._tap.sent(wire.encode(event), at=what.at_s)
            case Sent(event=str(raw)):
                self._tap.received(raw.encode(), at=what.at_s)
            case Sent(event=events.ResponseOutputAudioDelta() as delta):
                pcm = self._audio_of(delta, what.n_audio_bytes)
                whole = msgspec.structs.replace(delta, delta=pcm)
                self._tap.received(wire.encode(whole), at=what.at_s)
                self._play(what.at_s, pcm)
            case Sent(event=events.Event() as event):
                self._tap.received(wire.encode(event), at=what.at_s)
                if isinstance(event, events.InputAudioBufferSpeechStarted):
                    self._cut(what.at_s)
            case _:
                pass  # a violation; the client's frame is in the log

    def _flush(self) -> None:
        """Log the client's audio, which the record has by now, unless it was refused."""
        for received in self._pending:
            end = self._n_taken + received.n_audio_bytes
            pcm = bytes(self.record.received_audio[self._n_taken : end])
            if len(pcm) == received.n_audio_bytes:
                self._n_taken = end
            else:
                pcm = bytes(received.n_audio_bytes)
            frame = wire.encode(events.InputAudioBufferAppend(audio=pcm))
            self._tap.sent(frame, at=received.at_s)
            duration_s = len(pcm) / 2 / _INPUT_RATE_HZ
            self._user_audio.append((received.at_s - duration_s, pcm))
        self._pending.clear()

    def _audio_of(self, delta: events.ResponseOutputAudioDelta, n_bytes: int) -> bytes:
        for response in reversed(self.record.responses):
            if response.id == delta.response_id:
                whole = bytes(response.pcm + response.late_pcm)
                begin = self._n_sent.get(response.id, 0)
                self._n_sent[response.id] = begin + n_bytes
                return whole[begin : begin + n_bytes]
        return bytes(n_bytes)

    def _play(self, at_s: float, pcm: bytes) -> None:
        begin_s = max(at_s, self._played_until_s)
        self._agent_audio.append((begin_s, pcm))
        self._played_until_s = begin_s + len(pcm) / 2 / self.record.output_rate_hz

    def _cut(self, at_s: float) -> None:
        """Forget what a client that falls silent at once has not played."""
        rate_hz = self.record.output_rate_hz
        self._agent_audio = [
            (begin_s, pcm[: 2 * max(0, round((at_s - begin_s) * rate_hz))])
            for begin_s, pcm in self._agent_audio
            if begin_s < at_s
        ]
        self._played_until_s = min(self._played_until_s, at_s)

    def close(self) -> None:
        record = self.record
        self._flush()
        by_server = None if record.closed_by_client is None else not record.closed_by_client
        self._tap.closed(
            record.close_code, record.close_reason, by_server=by_server, at=record.closed_at_s
        )

    def save(self, path: Path) -> None:
        """Write the audio as a stereo wav file that begins with the connection."""
        import soxr

        rate_hz = self.record.output_rate_hz
        began_s = self._tap.trace.began_at
        user, agent = (
            _track(self._user_audio, began_s, _INPUT_RATE_HZ),
            _track(self._agent_audio, began_s, rate_hz),
        )
        if rate_hz != _INPUT_RATE_HZ and user.size:
            user = soxr.resample(user, _INPUT_RATE_HZ, rate_hz)
        both = np.zeros((max(user.size, agent.size), 2), dtype=np.int16)
        both[: user.size, 0] = user
        both[: agent.size, 1] = agent
        with wave.open(str(path), "wb") as file:
            file.setnchannels(2)
            file.setsampwidth(2)
            file.setframerate(rate_hz)
            file.writeframes(both.tobytes())


def _track(pieces: list[tuple[float, bytes]], began_s: float, rate_hz: int) -> Samples:
    """Return pieces at their time, one behind the other where they would overlap."""
    placed: list[tuple[int, Samples]] = []
    end = 0
    for at_s, pcm in pieces:
        samples = np.frombuffer(pcm[: len(pcm) & ~1], dtype=np.int16)
        begin = max(end, round((at_s - began_s) * rate_hz))
        if begin - end < rate_hz * _SEAM_S:
            begin = end
        placed.append((begin, samples))
        end = begin + samples.size
    track = np.zeros(end, dtype=np.int16)
    for begin, samples in placed:
        track[begin : begin + samples.size] = samples
    return track


_SEAM_S: Final = 0.03
"""Pieces that are closer belong together: frames do not come to the millisecond."""
