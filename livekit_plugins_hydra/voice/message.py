"""One message of a response: its audio, and the text of it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Final, Literal

from livekit import rtc
from livekit.agents import llm

from .audio import FrameMaker
from .chat import cut_to_played
from .streams import Stream
from .transcript import Spacing, Transcript
from .transcription import Recognition, Recognized, Transcriber

TEXT_AFTER_PLAYOUT_S: Final = 0.5
"""How long the text may come after the end of playback: the agent's turn ends with it."""

_CUT_S: Final = 0.05
"""What lacks less of its end than this was played: positions are not more exact."""


class Message:
    """A message of a response: its audio, and the text of it.

    The framework plays a message when those before it were played, and the first read of a stream
    shows when that is. Then it waits for the end of both streams, so a text that is still awaited
    is given up once the audio could have been played, or a little later.
    """

    def __init__(
        self,
        message_id: str,
        *,
        rate_hz: int,
        spacing: Spacing,
        transcriber: Transcriber | None,
        on_text: Callable[[Message], None],
        until_subscribed: Callable[[], Awaitable[None]],
    ) -> None:
        """Open the streams.

        Args:
            message_id: unique in the session.
            rate_hz: rate of the audio.
            spacing: whether the server's pieces of text bring their spaces.
            transcriber: transcribes what is said, where the server tells no text.
            on_text: called when the text is known, or has changed.
            until_subscribed: awaited before the first audio is played.
        """
        self.id = message_id
        self.opened_at = time.time()
        """Wall clock."""
        self.text = ""
        """What is said, as far as it is known: all of it, played or not."""
        self.has_begun = False
        """Whether the framework has begun to play it."""
        self._on_text = on_text
        self._transcript = Transcript(spacing)
        self._frames = FrameMaker(rate_hz)
        self._until_subscribed = until_subscribed
        self._audio: Stream[rtc.AudioFrame] = Stream(self._play, before_first=self._until_heard)
        self._text: Stream[str] = Stream(self._read_text)
        self._duration_s = 0.0
        self._is_read = False
        self._has_ears = False
        """Whether somebody can hear it, or nobody waits for that any more."""
        self._played_until = 0.0
        """When all audio so far could have been played, once it is heard; monotonic clock."""
        self._played_s: float | None = None
        """How much was played, where that is not all."""
        self._read = ""
        """What the framework has read of the text."""
        self._reported: str | None = None
        """What the framework says was played, in the words that it has read."""
        self._is_missed = False
        self._text_may_lag_s = 0.0
        self._deadline: asyncio.TimerHandle | None = None
        self._recognition: Recognition | None = None
        if transcriber is not None:
            self._recognition = transcriber.begin(self._recognized)

    # --------------------------------------------------------------------------- facts

    @property
    def played_text(self) -> str:
        """The text of what was played, or still can be."""
        if not self.was_cut:
            return self.text
        words = self._reported
        # All of the text says nothing: it ran ahead of the audio. Others are not the server's.
        if words and words != self.text and self.text.startswith(words):
            return words
        return cut_to_played(self.text, played_s=self._played_s or 0.0, duration_s=self._duration_s)

    @property
    def framework_text(self) -> str:
        """What the framework's history has, which can't be corrected once it was read."""
        return self._read if self._reported is None else self._reported

    @property
    def was_cut(self) -> bool:
        """Whether a part of it was not played, and never will be."""
        return self._played_s is not None and self._played_s < self._duration_s - _CUT_S

    @property
    def is_missed(self) -> bool:
        """Whether the framework has played it without its text, which came too late for that."""
        return bool(self.played_text) and self._is_missed

    @property
    def is_speechless(self) -> bool:
        """Whether it has audio, but no text, and none is to come."""
        return self._duration_s > 0 and not self.text and self._recognition is None

    @property
    def played_until(self) -> float:
        """When all of it so far will have been played, by the clock; monotonic clock."""
        return self._ends_at if self._played_s is None else 0.0

    @property
    def _ends_at(self) -> float:
        """When all of its audio so far could have been played, if somebody hears it from now on."""
        return time.monotonic() + self._duration_s if self._waits else self._played_until

    @property
    def _waits(self) -> bool:
        """Whether its audio is to be played, and nobody can hear it yet."""
        return self.has_begun and not self._has_ears and self._duration_s > 0

    @property
    def unplayed_s(self) -> float:
        """How much of its audio is still to be played, by the clock; infinite while the framework
        has not taken all of it, and the clock may be wrong.
        """
        is_taken = self.has_begun and not self._audio.waits
        return max(0.0, self.played_until - time.monotonic()) if is_taken else math.inf

    @property
    def is_playing(self) -> bool:
        """Whether it is being played, by the clock."""
        return self.has_begun and self.played_until > time.monotonic()

    def present(self) -> llm.MessageGeneration:
        """Return what the framework plays."""
        modalities: asyncio.Future[list[Literal["text", "audio"]]] = asyncio.Future()
        modalities.set_result(["audio", "text"])
        return llm.MessageGeneration(
            message_id=self.id,
            text_stream=self._text,
            audio_stream=self._audio,
            modalities=modalities,
        )

    # ------------------------------------------------------------------- audio and text

    def push_audio(self, pcm: bytes) -> None:
        """Play audio: int16 mono; an odd byte waits for the next piece."""
        frame = self._frames.push(pcm)
        if frame is None or self._audio.closed:
            return
        duration_s = frame.duration
        self._duration_s += duration_s
        self._played_until = max(self._played_until, time.monotonic()) + duration_s
        self._audio.send(frame)
        if self._recognition is not None:
            self._recognition.push(frame)

    def push_text(self, piece: str) -> None:
        """Add a piece to the text."""
        if not self._text.closed:
            self._transcript.push(piece)
            self._show_text()

    def go_on(self, text: str) -> None:
        """Begin with a text to which the pieces that come are joined."""
        self._transcript.go_on(text)
        self._show_text()

    def settle_text(self, whole: str) -> None:
        """Take the server's whole text in place of the pieces that came before it."""
        if not self._text.closed:
            self._transcript.settle(whole)
            self._show_text()

    def _show_text(self) -> None:
        if not self._transcript.text:
            return
        if self._recognition is not None:  # the server's own text is better
            self._recognition.drop()
            self._recognition = None
        self.text = self._transcript.text
        self._send_text(self._transcript.take())

    def _send_text(self, piece: str) -> None:
        if piece:
            self._read += piece
            self._text.send(piece)

    def _close_text(self) -> None:
        if not self._text.closed:
            self._transcript.close()
            self._show_text()
            self._text.close()

    def finish(self, *, cut: bool = False, text_may_lag: bool = True) -> None:
        """End the audio at once, and the text when it is known or no longer awaited.

        Args:
            cut: the message is not played to its end, so nobody awaits its text.
            text_may_lag: nothing waits for the end of the message.
        """
        if self._audio.closed:
            return
        self._audio.close()
        self._text_may_lag_s = TEXT_AFTER_PLAYOUT_S if text_may_lag else 0.0
        if self._recognition is not None:
            self._recognition.end()
        if self.text:
            self._on_text(self)
        if cut or self._recognition is None:
            self._close_text()
        self._set_deadline()

    def hurry(self) -> None:
        """Something waits for the end of the message: its text must not be late."""
        if not self._text.closed:
            self._text_may_lag_s = 0.0
            self._set_deadline()

    def close(self) -> None:
        """Let go of everything; the text is not awaited any more."""
        self.finish(cut=True)
        self._close_text()
        if self._deadline is not None:
            self._deadline.cancel()
        if self._recognition is not None:
            self._recognition.drop()

    # ------------------------------------------------------------------------- playback

    def cut_short(self) -> None:
        """The user has begun to speak: what was not played by now never will be.

        The framework reports how much was played of what it had begun to play, and says nothing of
        the rest; until then, the clock tells.
        """
        if self._played_s is not None or (self._is_read and not self.has_begun):
            return
        unplayed_s = self._ends_at - time.monotonic()
        if not self.has_begun:
            self._played_s = 0.0
        elif unplayed_s > 0:
            self._played_s = self._duration_s - unplayed_s
        else:
            return
        self._close_text()
        self._on_text(self)

    def report(self, played_s: float, words: str) -> None:
        """Take the framework's report of how much was played."""
        self._played_s = played_s
        self._is_missed = not words
        self._reported = words
        self._close_text()
        self._on_text(self)

    def _play(self) -> None:
        self.has_begun = True
        self._read_text()

    async def _until_heard(self) -> None:
        try:
            await self._until_subscribed()
        finally:  # who stops waiting plays nothing, and tells nobody
            self._has_ears = True
            self._played_until = time.monotonic() + self._duration_s
            self._set_deadline()

    def _read_text(self) -> None:
        self._is_read = True
        self._set_deadline()

    # --------------------------------------------------------------------------- late text

    def _set_deadline(self) -> None:
        """Give the text up in time, once the audio is complete and somebody waits."""
        if self._deadline is not None:
            self._deadline.cancel()
        if self._waits or not self._is_read:
            return
        if self._audio.closed and not self._text.closed:
            played_in_s = max(0.0, self._played_until - time.monotonic())
            self._deadline = asyncio.get_running_loop().call_later(
                played_in_s + self._text_may_lag_s, self._close_text
            )

    def _recognized(self, recognized: Recognized) -> None:
        self._recognition = None
        self.text = text = recognized.text
        if self._text.closed:
            self._is_missed = True
        else:
            self._send_text(text)
        self._close_text()
        if text:
            self._on_text(self)
