"""The options of a call, and their checks: bad ones fail before any I/O."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from livekit.agents import APIConnectOptions, NotGivenOr, stt
from livekit.agents.utils import is_given

from .log import logger
from .protocol import voices
from .protocol.errors import ConfigurationError
from .protocol.wire import plain_text

DEFAULT_BASE_URL: Final = "wss://api.smallest.ai/waves/v1/s2s"
"""Source: vendor docs of 2026-08-21."""

_QUOTES: Final = "\"'`"

ApiKey = str | Callable[[], Awaitable[str]]
Auth = Literal["query", "header"]


@dataclass(frozen=True, slots=True)
class Options:
    """What a session is made with: the model's options at that time."""

    model: str
    voice: str
    api_key: ApiKey
    base_url: str
    auth: Auth
    generate_initial_response: bool
    input_stt: stt.STT[Any] | None
    output_stt: stt.STT[Any] | None
    resume_false_interruption: bool
    conn_options: APIConnectOptions
    wire_log: str | None = None

    def __repr__(self) -> str:
        return f"Options(model={self.model!r}, voice={self.voice!r})"


def resolve_voice(model: NotGivenOr[str | None], voice: NotGivenOr[str | None]) -> tuple[str, str]:
    """Return the model tag and the voice; each follows from the other. None means not given.

    Raises:
        ConfigurationError: one of them is empty, or no text.
    """
    tag = _name("model", model)
    name = _name("voice", voice)
    if name is None:
        tag = tag or voices.DEFAULT_MODEL
        return tag, voices.default_voice(tag)
    return tag or voices.model_of_voice(name), name


def _name(option: str, value: NotGivenOr[str | None]) -> str | None:
    if value is None or not is_given(value):
        return None
    try:
        name = plain_text(value)
    except TypeError:
        raise ConfigurationError(f"{option} must be text") from None
    if not name.strip():
        raise ConfigurationError(f"{option} is empty; leave it out for the default")
    return name


def warn_about_model(model: str) -> None:
    """Warn about a model that is not known; there may be new ones, so it may still work."""
    if model not in voices.MODELS:
        logger.warning(
            "this plugin knows no model %r of Hydra; there are %s", model, _listed(voices.MODELS)
        )


def warn_about_voice(voice: str, model: str) -> None:
    """Warn about a voice that is not the model's; rosters change, so it may still work."""
    info = voices.MODELS.get(model)
    if not voices.is_known_voice(voice):
        nearest = voices.nearest_voice(voice)
        logger.warning(
            "the voice %r is in no roster of Hydra that this plugin knows; %s is %r. If Hydra"
            " refuses it, calls speak with %r",
            *(voice, "the nearest" if nearest else "the default"),
            *(nearest or voices.default_voice(model), voices.SERVER_DEFAULT_VOICE),
        )
    elif info is not None and voice not in info.voices:
        logger.warning(
            "the voice %r is one of %r; %r has %s",
            *(voice, voices.model_of_voice(voice), model, _listed(info.voices)),
        )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)


def resolve_key(api_key: ApiKey | None) -> ApiKey:
    """Return the key, from the environment where none is given.

    Raises:
        ConfigurationError: there is none, or it can't be one.
    """
    if api_key is None or not is_given(api_key):
        api_key = os.environ.get("SMALLEST_API_KEY", "")
    if isinstance(api_key, str):
        return check_key(api_key)
    if not callable(api_key):
        raise ConfigurationError("api_key must be text, or an async function that returns it")
    return api_key


def check_key(key: str) -> str:
    """Return a key without the spaces around it.

    Raises:
        ConfigurationError: it can't be a key.
    """
    key = key.strip() if isinstance(key, str) else ""
    if not key:
        raise ConfigurationError(
            "no API key: set SMALLEST_API_KEY, or pass api_key= to hydra.RealtimeModel"
        )
    if key[0] in _QUOTES or key[-1] in _QUOTES:
        raise ConfigurationError(
            "the API key has quotes around it; take them out of SMALLEST_API_KEY, or of api_key="
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError(
            "the API key has characters that no key has; copy it again into SMALLEST_API_KEY"
        )
    return key


def resolve_url(base_url: str | None) -> str:
    """Return the server's URL.

    Raises:
        ConfigurationError: it is no WebSocket URL.
    """
    url = str(base_url or os.environ.get("HYDRA_BASE_URL") or DEFAULT_BASE_URL).strip()
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    # Port 0 means none to whoever connects: another server would get the key.
    if parts.scheme not in ("ws", "wss") or not host or port == 0 or parts.fragment:
        raise ConfigurationError(
            "base_url (or HYDRA_BASE_URL) must look like wss://host/path; leave it out for"
            " Smallest AI's server"
        )
    if parts.scheme == "ws" and not _is_loopback(host):
        logger.warning("base_url is ws:// beyond this machine: the API key travels in clear")
    return url


def resolve_auth(auth: Auth) -> Auth:
    """Return how the key travels.

    Raises:
        ConfigurationError: there is no such way.
    """
    if auth not in ("query", "header"):
        raise ConfigurationError("auth must be 'query' or 'header'")
    return auth


def resolve_wire_log(path: str | os.PathLike[str] | None) -> str | None:
    """Return where frames are logged; None for nowhere, as with an empty path."""
    if path is None or not is_given(path):
        path = os.environ.get("HYDRA_WIRE_LOG", "")
    return os.fspath(path) or None


def resolve_stt(name: str, engine: stt.STT[Any] | None) -> stt.STT[Any] | None:
    """Return an STT, or None where none is given.

    Raises:
        ConfigurationError: it is no STT object; a name, for example, as `AgentSession` takes it.
    """
    if engine is None or not is_given(engine):
        return None
    if not isinstance(engine, stt.STT):
        raise ConfigurationError(
            f"{name} must be an STT object: deepgram.STT(), or inference.STT({engine!r})"
            if isinstance(engine, str)
            else f"{name} must be an STT object, not {type(engine).__name__}"
        )
    return engine


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
