"""`RealtimeModel`: the options of calls, and the place where calls are made."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import weakref
from dataclasses import replace
from typing import Final, Literal
from urllib.parse import urlsplit

from livekit.agents import DEFAULT_API_CONNECT_OPTIONS, APIConnectOptions, NotGivenOr, llm
from livekit.agents.types import NOT_GIVEN
from livekit.agents.utils import is_given

from . import voices
from .call import Learned
from .errors import ConfigurationError
from .log import logger
from .session import ApiKey, Options, RealtimeSession

DEFAULT_BASE_URL: Final = "wss://api.smallest.ai/waves/v1/s2s"
"""Source: vendor docs of 2026-08-21."""

PROVIDER: Final = "SmallestAI"
"""As the vendor's STT and TTS plugins say it, so that usage adds up under one name."""


class RealtimeModel(llm.RealtimeModel):
    """Hydra, Smallest AI's full-duplex speech-to-speech model.

    ::

        session = AgentSession(llm=hydra.RealtimeModel(voice="maya"))

    The server hears the end of turns and barge-ins by itself. It keeps no history over
    connections and has no way to edit one, so `message_truncation` means that the session cuts
    its own history to what was heard; that is what a reconnect replays.
    """

    def __init__(
        self,
        *,
        model: NotGivenOr[voices.HydraModel | str] = NOT_GIVEN,
        voice: NotGivenOr[voices.HydraVoice | str] = NOT_GIVEN,
        api_key: ApiKey | None = None,
        base_url: str | None = None,
        auth: Literal["query", "header"] = "query",
        generate_initial_response: bool = False,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
    ) -> None:
        """Take the options of the calls to come; no I/O happens.

        Args:
            model: "hydra-v1.1" (default), "hydra-v1.0" or "hydra"; follows from `voice` when only
                that is given.
            voice: a name from `MODELS`; by default "aria", "sterling" or "wren". It is frozen
                when a call begins. One that no roster has is passed on with a warning.
            api_key: the key, or an async function that mints a token for each dial; by default
                the environment's SMALLEST_API_KEY.
            base_url: where to dial; by default the environment's HYDRA_BASE_URL, else Smallest
                AI's server.
            auth: how the key travels: in the "query" as documented, or in a "header"
                (`Authorization: Bearer`) as the vendor's SDK does.
            generate_initial_response: the model speaks first, without being asked.
            conn_options: `max_retry` bounds the dials of a call that was never up, `timeout` each
                dial. A call that was up is dialled again for 20 s.

        Raises:
            ValueError: there is no key, or `base_url` is no WebSocket URL.
        """
        super().__init__(
            capabilities=llm.RealtimeCapabilities(
                message_truncation=True,
                turn_detection=True,
                user_transcription=False,
                auto_tool_reply_generation=False,
                audio_output=True,
                manual_function_calls=True,
                mutable_tools=True,
            )
        )
        tag, name = _resolve_voice(model, voice)
        self._options = Options(
            model=tag,
            voice=name,
            api_key=_resolve_key(api_key),
            base_url=_resolve_url(base_url),
            auth=_resolve_auth(auth),
            generate_initial_response=generate_initial_response,
            conn_options=conn_options,
        )
        self._learned = Learned()
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
        """Make a call; it begins to dial at once.

        Args:
            turn_detection_disabled: not possible with Hydra, and never asked for by the
                framework.
        """
        if turn_detection_disabled:
            logger.warning("Hydra's turn detection can't be turned off; it stays on")
        session = RealtimeSession(self, options=self._options, learned=self._learned)
        self._sessions.add(session)
        session.start()
        return session

    def update_options(self, *, voice: NotGivenOr[voices.HydraVoice | str] = NOT_GIVEN) -> None:
        """Change the voice of later sessions; those that run keep theirs."""
        if is_given(voice):
            _warn_about_voice(voice)
            self._options = replace(self._options, voice=voice)

    async def aclose(self) -> None:
        """End all calls of this model."""
        await asyncio.gather(*(session.aclose() for session in list(self._sessions)))


def _resolve_voice(model: NotGivenOr[str], voice: NotGivenOr[str]) -> tuple[str, str]:
    if is_given(voice):
        if not voice.strip():
            raise ConfigurationError("voice is empty; leave it out for the model's default")
        _warn_about_voice(voice)
    if is_given(model):
        if not model.strip():
            raise ConfigurationError("model is empty; leave it out for the default")
        return model, voice if is_given(voice) else voices.default_voice(model)
    if is_given(voice):
        return voices.model_of_voice(voice), voice
    return voices.DEFAULT_MODEL, voices.default_voice(voices.DEFAULT_MODEL)


def _warn_about_voice(voice: str) -> None:
    if not voices.is_known_voice(voice):
        logger.warning(
            "the voice %r is in no roster of Hydra that this plugin knows; the nearest is %r",
            voice,
            voices.nearest_voice(voice),
        )


def _resolve_key(api_key: ApiKey | None) -> ApiKey:
    key = api_key if api_key is not None else os.environ.get("SMALLEST_API_KEY", "")
    if isinstance(key, str):
        key = key.strip()
        if not key:
            raise ConfigurationError(
                "no API key: set SMALLEST_API_KEY, or pass api_key= to hydra.RealtimeModel"
            )
        if not key.isascii() or not key.isprintable() or " " in key:
            raise ConfigurationError(
                "the API key has characters that no key has; copy it again into SMALLEST_API_KEY"
            )
    return key


def _resolve_url(base_url: str | None) -> str:
    url = base_url or os.environ.get("HYDRA_BASE_URL") or DEFAULT_BASE_URL
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme not in ("ws", "wss") or not host or parts.fragment:
        raise ConfigurationError(
            "base_url (or HYDRA_BASE_URL) must look like wss://host/path; leave it out for"
            " Smallest AI's server"
        )
    if parts.scheme == "ws" and not _is_loopback(host):
        logger.warning("base_url is ws:// beyond this machine: the API key travels in clear")
    return url


def _resolve_auth(auth: Literal["query", "header"]) -> Literal["query", "header"]:
    if auth not in ("query", "header"):
        raise ConfigurationError("auth must be 'query' or 'header'")
    return auth


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
