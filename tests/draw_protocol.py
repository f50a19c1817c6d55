"""Draws what livekit_plugins_hydra/protocol/README.md shows: message sequences, and tables.

python -m tests.draw_protocol            prints it
python -m tests.draw_protocol --write    puts it into the README, between its markers

A sequence is drawn by playing it: what the README says of an event is what the core does.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Final

from livekit_plugins_hydra.protocol import effects as fx
from livekit_plugins_hydra.protocol import events as ev
from livekit_plugins_hydra.protocol import states
from livekit_plugins_hydra.protocol.call import Call
from tests import server_says as server
from tests import session_wants as session
from tests.transcript import After, Stage, Step, Wish, after

README: Final = Path(__file__).parents[1] / "livekit_plugins_hydra" / "protocol" / "README.md"
_MARKED: Final = re.compile(r"(<!-- drawn: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)

# ----------------------------------------------------------------------------- sequences

HANDSHAKE: Final[list[Step[Call]]] = [
    session.open_socket(),
    session.configurable(),
    ev.SessionCreated(session_id="s1"),
    after(0.05),
    ev.SessionConfigured(),
]
TURN: Final[list[Step[Call]]] = [
    server.speech_started("u1"),
    server.speech_stopped("u1"),
    server.heard("u1"),
    server.created("r1"),
    server.audio("r1"),
    server.text("r1", "Noon."),
    server.spoken("a1", "Noon."),
    server.done("r1"),
]
CALLING: Final[list[Step[Call]]] = [
    server.created("r1"),
    server.arguments("r1", "c1", "{", "look"),
    server.called("r1", "c1"),
    server.called("r1", "c2"),
    after(0.2),
    session.post("c1"),
    session.post("c2"),
    session.reply("g1"),
]

SEQUENCES: Final[dict[str, tuple[list[Step[Call]], list[Step[Call]]]]] = {
    "handshake": ([], HANDSHAKE),
    "turn": (HANDSHAKE, TURN),
    "barge-in": (
        [*HANDSHAKE, *TURN[:5]],
        [
            server.speech_started("u2"),
            server.audio("r1"),
            server.done("r1", "cancelled"),
            server.speech_stopped("u2"),
            server.discarded("u2"),
        ],
    ),
    "tools": (
        [*HANDSHAKE, *TURN[:2]],
        [
            *CALLING,
            server.created("r2"),
            server.audio("r2"),
            server.done("r2"),
            server.called("r1", "c3"),
        ],
    ),
    "narration": (
        [*HANDSHAKE, *TURN[:2], *CALLING, server.done("r1"), server.created("r2")],
        [
            server.speech_started("u2"),
            server.done("r2", "cancelled"),
            server.speech_stopped("u2"),
            server.discarded("u2"),
            server.created("r3"),
            server.audio("r3"),
        ],
    ),
    "greeting": (
        [],
        [
            session.open_socket(),
            ev.SessionCreated(session_id="s1"),
            session.configurable(),
            session.reply("g1", "Greet Ada."),
            ev.SessionConfigured(),
            server.created("r1"),
            server.audio("r1"),
            server.done("r1"),
        ],
    ),
    "reconnect": (
        [*HANDSHAKE, *TURN],
        [
            server.speech_started("u2"),
            server.speech_stopped("u2"),
            session.lose(keeps_turn=True),
            session.open_socket(),
            ev.SessionCreated(session_id="s2"),
            ev.SessionConfigured(),
            server.speech_started("u1"),
            server.speech_stopped("u1"),
            server.created("r1"),
        ],
    ),
}


def draw_sequence(name: str) -> str:
    """Return a sequence as a table: what comes, what goes out, and what else follows."""
    before, steps = SEQUENCES[name]
    ids = (f"cl_{n}" for n in itertools.count())
    stage = Stage(Call(new_event_id=lambda: next(ids)))
    for step in before:
        list(_play(stage, step))
    lines = ["| | message | what follows |", "|---|---|---|"]
    for step in steps:
        effects = list(_play(stage, step))
        sent = [effect.event for effect in effects if isinstance(effect, fx.Send)]
        rest = [effect for effect in effects if not isinstance(effect, fx.Send)]
        sign, message = _show_step(step)
        lines.append(f"| {sign} | {message} | {', '.join(filter(None, map(_show, rest)))} |")
        lines += [f"| > | {_show_event(event)} | |" for event in sent]
    return "\n".join(lines)


def _play(stage: Stage[Call], step: Step[Call]) -> Iterator[fx.Effect]:
    """Perform a step, and compose the configuration where the core asks for it."""
    for effect in stage.perform(step):
        yield effect
        if isinstance(effect, fx.Compose):
            yield from stage.perform(session.configure(greet=effect.greet))


def _show_step(step: Step[Call]) -> tuple[str, str]:
    match step:
        case After(seconds=seconds):
            return "", f"*{seconds * 1000:g} ms pass*"
        case Wish(name=name):
            return "", f"*{name}*"
        case _:
            return "<", _show_event(step)


def _show_event(event: Any) -> str:
    words: list[str | None] = [f"`{event.type}`"]
    match event:
        case ev.ResponseCreated(response=body) | ev.ResponseDone(response=body):
            words += [body.id, body.status if body.status != "in_progress" else None]
        case ev.ConversationItemDone(item=item):
            words += [item.id, item.role, item.status]
        case ev.ConversationItemCreate(item=item):
            words += [item.type, item.call_id]
        case ev.SessionConfigure(session=body):
            greets = body.generate_initial_response
            words += ["generate_initial_response: true" if greets else None]
        case ev.ResponseFunctionCallArgumentsDone() | ev.ResponseFunctionCallArgumentsDelta():
            words += [event.response_id, event.call_id]
        case _:
            words += [getattr(event, "response_id", None), getattr(event, "item_id", None)]
    return " ".join(word for word in words if word)


def _show(effect: fx.Effect) -> str:
    match effect:
        case fx.StartTimer(name=name, delay_s=delay_s):
            return f"timer {name.partition(':')[0]} {delay_s:g} s"
        case fx.CancelTimer():
            return ""
        case fx.EndStreams(cut=True):
            return "`EndStreams` cut"
        case fx.BeginResponse(part_id=part_id, reply_id=reply_id):
            return f"`BeginResponse` {part_id}" + (f" for {reply_id}" if reply_id else "")
        case fx.CallFunction(call_id=call_id):
            return f"`CallFunction` {call_id}"
        case fx.Compose(greet=greet, opening=opening):
            return "`Compose`" + (f" greet, {opening!r}" if greet else "")
        case _:
            return f"`{type(effect).__name__}`"


# -------------------------------------------------------------------------------- tables

MACHINES: Final[dict[str, Mapping[tuple[Any, states.Input], Any]]] = {
    "HANDSHAKE": states.HANDSHAKE,
    "TURN": states.TURN,
    "RESPONSE": states.RESPONSE,
    "AWAITED": states.AWAITED,
    "SETUP": states.SETUP,
    "FATE": states.FATE,
}


def draw_machine(name: str) -> str:
    """Return a table of `states` as a picture, with what cannot happen under it."""
    table = MACHINES[name]
    labels: dict[tuple[Enum, Enum], list[str]] = {}
    for (state, why), target in table.items():
        labels.setdefault((state, target), []).append(_label(why))
    (first, _), *_ = table
    lines = ["```mermaid", "stateDiagram-v2", "    direction LR", f"    [*] --> {first.name}"]
    for state in type(first):
        # Arrows that lead back would cross the others' labels.
        stays = [f"(also after {why})" for why in labels.pop((state, state), [])]
        lines.append(f"    {state.name}: {'<br>'.join([state.name, state.value, *stays])}")
    lines += [
        f"    {state.name} --> {target.name}: {'<br>'.join(why)}"
        for (state, target), why in labels.items()
    ]
    impossible: dict[str, list[str]] = {}
    for state in type(first):
        for why in {why: None for _, why in table} | dict.fromkeys(states.Signal):
            if (state, why) in states.IMPOSSIBLE:
                impossible.setdefault(_label(why), []).append(state.name)
    cannot = [f"{why} (in {', '.join(where)})" for why, where in impossible.items()]
    told = [f"\nNever reaches it: {'; '.join(cannot)}."] if cannot else []
    return "\n".join(["\n".join([*lines, "```"]).replace(";", ","), *told])


def _label(why: states.Input) -> str:
    """Name what moves a machine: an event by its type on the wire, a signal by its meaning."""
    if isinstance(why, states.Signal):
        return why.value
    return str(why.__struct_config__.tag).removeprefix("input_audio_buffer.")


def draw_enum(name: str) -> str:
    """Return the members of an enum with their sentences."""
    members = getattr(states, name)
    rows = [f"| `{member.name}` | {member.value or '(nothing)'} |" for member in members]
    return "\n".join(["| | |", "|---|---|", *rows])


def draw(name: str) -> str:
    """Return what stands between the markers of that name."""
    if name in SEQUENCES:
        return draw_sequence(name)
    return draw_machine(name) if name in MACHINES else draw_enum(name)


def redrawn(text: str) -> str:
    """Return a README with all that is drawn in it drawn anew."""
    return _MARKED.sub(lambda found: f"{found[1]}{draw(found[2])}\n{found[3]}", text)


def main() -> None:
    """Print what is drawn, or write it."""
    text = redrawn(README.read_text(encoding="utf-8"))
    if sys.argv[1:] == ["--write"]:
        README.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
