"""What a session wants of a call, in a few words: `import session_wants as session`."""

from __future__ import annotations

from livekit_plugins_hydra.protocol import effects as fx
from livekit_plugins_hydra.protocol import events as ev
from livekit_plugins_hydra.protocol.call import Call
from livekit_plugins_hydra.protocol.states import About

from .transcript import Wish


def configuration(*, greet: bool = False) -> ev.ClientSession:
    """Return the configuration of a connection."""
    return ev.ClientSession(instructions="Be kind.", generate_initial_response=greet)


def open_socket() -> Wish[Call]:
    """The socket is open."""
    return Wish("open", lambda call, _: call.open())


def configurable() -> Wish[Call]:
    """Instructions, history and tools are known."""
    return Wish("configurable", Call.configurable)


def configure(*, greet: bool = False) -> Wish[Call]:
    """Send the configuration."""
    return Wish(
        f"configure greet={greet}",
        lambda call, now: call.configure(configuration(greet=greet), now),
    )


def configure_with(body: ev.ClientSession) -> Wish[Call]:
    """Send a configuration."""
    return Wish("configure", lambda call, now: call.configure(body, now))


def announce(call_id: str, *, within_s: float) -> Wish[Call]:
    """Say that a function has returned, and by when its output would be posted."""
    return Wish(
        f"announce_output {call_id}",
        lambda call, _: call.announce_output(call_id, within_s=within_s),
    )


def reply(reply_id: str, instructions: str = "") -> Wish[Call]:
    """Ask for a reply."""
    return Wish(
        f"generate_reply {reply_id} {instructions!r}",
        lambda call, now: call.generate_reply(reply_id, instructions, now),
    )


def cancel(reply_id: str) -> Wish[Call]:
    """Cancel the future of a reply."""
    return Wish(f"cancel {reply_id}", lambda call, now: call.cancel_reply(reply_id, now))


def interrupt() -> Wish[Call]:
    """Cancel the response."""
    return Wish("interrupt", lambda call, _: call.interrupt())


def note(text: str, role: str = "user") -> Wish[Call]:
    """Note what was typed, or a message of the application."""

    def run(call: Call, _: float) -> list[fx.Effect]:
        call.texts.add(role, text, About.TEXT if role == "user" else About.NEXT)
        return []

    return Wish(f"add_text {text!r}", run)


def start_over() -> Wish[Call]:
    """The conversation is another one from now on."""
    return Wish("start_over", Call.start_over)


def post(call_id: str, output: str = "42") -> Wish[Call]:
    """Post the output of a function."""
    return Wish(
        f"post_output {call_id} {output!r}",
        lambda call, now: call.post_output(call_id, output, as_text=as_text(output), now=now),
    )


def as_text(output: str) -> str:
    """Say an output in words."""
    return f"The function returned {output}."


def update_tools(tools: list[ev.Tool]) -> Wish[Call]:
    """Replace the tools."""
    return Wish("update_tools", lambda call, _: call.update_tools(tools))


def change_instructions(*, is_stale: bool = True) -> Wish[Call]:
    """Change the instructions, or change them back."""
    return Wish(
        f"instructions_changed is_stale={is_stale}",
        lambda call, now: call.instructions_changed(now, is_stale=is_stale),
    )


def lose(*, keeps_turn: bool = False) -> Wish[Call]:
    """The connection ends; the next one may hear the user's last words again."""
    return Wish(
        f"lose keeps_turn={keeps_turn}", lambda call, now: call.lose(now, keeps_turn=keeps_turn)
    )


def end() -> Wish[Call]:
    """The call ends."""
    return Wish("end", lambda call, now: call.end("the end", now))
