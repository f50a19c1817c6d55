"""`RealtimeModel`: holds the options, and makes the calls."""

from __future__ import annotations

import asyncio
import os
import weakref
from dataclasses import replace
from typing import Any, Final

from livekit.agents import DEFAULT_API_CONNECT_OPTIONS, APIConnectOptions, NotGivenOr, llm, stt
from livekit.agents.types import NOT_GIVEN
from livekit.agents.utils import is_given

from .log import logger
from .options import (
    ApiKey,
    Auth,
    Options,
    resolve_auth,
    resolve_key,
    resolve_stt,
    resolve_url,
    resolve_voice,
    resolve_wire_log,
    warn_about_model,
    warn_about_voice,
)
from .protocol import voices
from .protocol.learned import Learned
from .session import CLOSE_BUDGET_S, RealtimeSession
from .transport import wirelog
from .transport.spare import Spare

PROVIDER: Final = "SmallestAI"
"""As the vendor's STT and TTS plugins say it, so that usage adds up under one name."""


class RealtimeModel(llm.RealtimeModel):
    """Hydra, Smallest AI's full-duplex speech-to-speech model.

    ::

        session = AgentSession(llm=hydra.RealtimeModel(voice="maya"))

    The server detects turns and barge-ins. Its history ends with a connection and can't be edited.
    So `message_truncation` means that the session cuts its own history to what was played, and
    `mutable_chat_context` that a server is told what is new in it, such as what `session.say()` has
    said. What was removed or edited is so for new connections, which get that history.
    """

    def __init__(
        self,
        *,
        model: NotGivenOr[voices.HydraModel | str] = NOT_GIVEN,
        voice: NotGivenOr[voices.HydraVoice | str] = NOT_GIVEN,
        api_key: ApiKey | None = None,
        base_url: str | None = None,
        auth: Auth = "query",
        generate_initial_response: bool = False,
        input_stt: stt.STT[Any] | None = None,
        output_stt: stt.STT[Any] | None = None,
        resume_false_interruption: bool = True,
        wire_log: str | os.PathLike[str] | None = None,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
    ) -> None:
        """Take the options of the calls to come; no I/O happens.

        Args:
            model: "hydra-v1.1" (default), "hydra-v1.0" or "hydra"; follows from `voice` when only
                that is given.
            voice: a name from `MODELS`; by default "aria", "sterling" or "wren". It is frozen
                when a call begins. One that no roster has is passed on with a warning; if the
                server refuses it, calls speak with the server's own default.
            api_key: the key, or an async function that mints a token per connection; by default
                the environment's SMALLEST_API_KEY.
            base_url: the server; by default the environment's HYDRA_BASE_URL, else Smallest AI's.
            auth: how the key travels: in the "query" as documented, or in a "header"
                (`Authorization: Bearer`) as the vendor's SDK does.
            generate_initial_response: the model speaks first, without being asked.
            input_stt: transcribes the user: Hydra sends no transcripts, and without them LiveKit's
                history has no user messages. You close it.
            output_stt: transcribes the agent, where the server sends no text itself.
            resume_false_interruption: go on with what a cough has cut.
            wire_log: a file that gets each frame as a line of JSON, audio as its length; by
                default the environment's HYDRA_WIRE_LOG, else none. It holds instructions and
                texts, never the key; see `wirelog`.
            conn_options: `max_retry` bounds the connections of a call that was never up, `timeout`
                the wait for each. A call that was up reconnects for 20 s.

        Raises:
            ValueError: there is no key, `base_url` is no WebSocket URL, or an STT is none.
        """
        input_stt = resolve_stt("input_stt", input_stt)
        super().__init__(
            capabilities=llm.RealtimeCapabilities(
                message_truncation=True,
                turn_detection=True,
                user_transcription=input_stt is not None,
                auto_tool_reply_generation=False,
                audio_output=True,
                manual_function_calls=True,
                mutable_chat_context=True,
                mutable_tools=True,
            )
        )
        tag, name = resolve_voice(model, voice)
        warn_about_model(tag)
        warn_about_voice(name, tag)
        self._options = Options(
            model=tag,
            voice=name,
            api_key=resolve_key(api_key),
            base_url=resolve_url(base_url),
            auth=resolve_auth(auth),
            generate_initial_response=generate_initial_response,
            input_stt=input_stt,
            output_stt=resolve_stt("output_stt", output_stt),
            resume_false_interruption=resume_false_interruption,
            conn_options=conn_options or DEFAULT_API_CONNECT_OPTIONS,
            wire_log=resolve_wire_log(wire_log),
        )
        self._learned = Learned()
        self._warned: set[str] = set()
        self._closers: set[asyncio.Task[None]] = set()
        self._spare: Spare | None = None
        self._sessions: weakref.WeakSet[RealtimeSession] = weakref.WeakSet()

    def __repr__(self) -> str:
        return f"hydra.RealtimeModel(model={self.model!r}, voice={self._options.voice!r})"

    @property
    def model(self) -> str:
        """The model tag."""
        return self._options.model

    @property
    def provider(self) -> str:
        """The vendor's name, as in usage and traces."""
        return PROVIDER

    def session(self, *, turn_detection_disabled: bool = False) -> RealtimeSession:
        """Make a call; it begins to connect at once.

        Args:
            turn_detection_disabled: not possible with Hydra, and never asked for by the
                framework.
        """
        if turn_detection_disabled:
            logger.warning("Hydra's turn detection can't be turned off; it stays on")
        spare, self._spare = self._spare, None
        session = RealtimeSession(
            self,
            options=self._options,
            learned=self._learned,
            warned=self._warned,
            closers=self._closers,
            spare=spare,
        )
        self._sessions.add(session)
        session.start()
        return session

    def update_options(self, *, voice: NotGivenOr[voices.HydraVoice | str] = NOT_GIVEN) -> None:
        """Change the voice of later sessions; those that run keep theirs.

        Raises:
            ValueError: the voice is empty.
        """
        if is_given(voice) and voice is not None:
            _, name = resolve_voice(self._options.model, voice)
            warn_about_voice(name, self._options.model)
            self._options = replace(self._options, voice=name)

    async def prewarm(self) -> None:
        """Open the connection of the next session ahead, so that its call need not wait for it.

        For a first call, or before a planned handoff. Returns when the connection is open; if that
        fails, a warning is logged, and the session connects by itself. The plugin never does this
        by itself: the connection is billed from here on. It is closed if no session takes it
        within 20 s; while one waits, this does nothing.
        """
        if self._spare is None or not self._spare.is_usable:
            self._spare = Spare(self._options)
        await self._spare.ready()

    async def aclose(self) -> None:
        """End all calls of this model, and their connections."""
        spare, self._spare = self._spare, None
        closing = [session.aclose() for session in list(self._sessions)]
        if spare is not None:
            closing.append(spare.aclose())
        await asyncio.gather(*closing)
        loop = asyncio.get_running_loop()
        if closers := [each for each in self._closers if each.get_loop() is loop]:
            _, late = await asyncio.wait(closers, timeout=CLOSE_BUDGET_S / 2)
            for closer in late:
                closer.cancel()
        if self._options.wire_log is not None:
            await asyncio.to_thread(wirelog.finish)
