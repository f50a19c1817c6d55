"""The session's own history, and what it takes from the application's context."""

from __future__ import annotations

import time
from typing import Any

import pytest
from livekit import rtc
from livekit.agents import llm

from livekit_plugins_hydra.voice.chat import MAX_ITEMS, Change, ChatLog

PLAYED = ("u1", "a1")
"""What the framework has got of the call below, in its history."""


def message(item_id: str, text: str = "", role: Any = "user", **fields: Any) -> llm.ChatMessage:
    """Return a message; its text is its id where none is given."""
    return llm.ChatMessage(id=item_id, role=role, content=[text or item_id], **fields)


def a_call() -> ChatLog:
    """Return the history of a call in which the user has asked twice; the answer plays."""
    log = ChatLog()
    for item_id, role in (("u1", "user"), ("a1", "assistant"), ("u2", "user"), ("a2", "assistant")):
        log.add(message(item_id, role=role))
    return log


def has(item_id: str) -> bool:
    """Tell what the framework has got."""
    return item_id in PLAYED


def ids(log: ChatLog) -> list[str]:
    """Return the ids of what is in a history, in order."""
    return [item.id for item in log.copy().items]


def texts(log: ChatLog) -> list[str]:
    """Return what a new connection is told."""
    return [each.text for each in log.lines()]


# ------------------------------------------------------------------------ removed and edited


def test_what_was_removed_is_gone_but_not_what_is_still_being_said() -> None:
    """The framework gets a message when it was played: before, nobody can have removed it."""
    log = a_call()
    change = log.take(llm.ChatContext([message("a1", role="assistant")]), has=has)

    assert ids(log) == ["a1", "u2", "a2"]
    assert change == Change(removed=["u1"])


def test_what_the_application_has_told_can_always_be_removed() -> None:
    """It has it, whatever the framework's own history has."""
    log = ChatLog()
    log.take(llm.ChatContext([message("fact")]), has=has)

    assert log.take(llm.ChatContext.empty(), has=has) == Change(removed=["fact"])
    assert ids(log) == []


def test_who_drives_a_session_directly_removes_what_is_not_there() -> None:
    """There is no framework that would have it later."""
    log = a_call()
    log.take(llm.ChatContext([message("u2")]), has=lambda _: True)

    assert ids(log) == ["u2"]


def test_what_was_edited_is_what_it_is_now() -> None:
    """A redaction, of a message as of what a function returned; the place is the same."""
    log = a_call()
    log.add(llm.FunctionCall(id="c", call_id="c1", name="look", arguments="{}"))
    log.add(llm.FunctionCallOutput(id="o", call_id="c1", output="4711", is_error=False))
    ctx = log.copy()
    redacted = message("u1", "[redacted]")
    closed = llm.FunctionCallOutput(id="o", call_id="c1", output="****", is_error=False)
    ctx.items[0], ctx.items[5] = redacted, closed
    change = log.take(ctx, has=has)

    assert texts(log) == ["[redacted]", "a1", "u2", "a2", "{}", "****"]
    assert change == Change(edited=[redacted, closed])


def test_spaces_are_no_edit() -> None:
    """The framework joins words in its own way."""
    log = a_call()
    spaced = message("a1", " a1 ", role="assistant")

    assert log.take(llm.ChatContext([message("u1"), spaced]), has=has) == Change()


def test_a_message_that_was_cut_stays_cut() -> None:
    """Where nothing keeps text to the pace of speech, the framework has all of it."""
    log = ChatLog()
    log.add(message("a1", "One two", role="assistant", interrupted=True))
    whole = message("a1", "One two three four.", role="assistant", interrupted=True)

    assert log.take(llm.ChatContext([whole]), has=has) == Change()
    assert texts(log) == ["One two"]
    redacted = message("a1", "[redacted]", role="assistant", interrupted=True)
    assert log.take(llm.ChatContext([redacted]), has=has) == Change(edited=[redacted])


def test_a_message_of_which_nothing_was_played_was_not_said() -> None:
    """The framework may have its text all the same."""
    log = ChatLog()
    item_id = log.unique_id("a1")
    unsaid = message(item_id, "One two three.", role="assistant", interrupted=True)

    assert log.take(llm.ChatContext([unsaid]), has=has) == Change()
    assert ids(log) == []


# --------------------------------------------------------------------------- late and moved


def test_what_is_loaded_late_stands_where_it_was_said() -> None:
    """By `created_at`, wherever in the list it is; and a server that is up is told it."""
    log = a_call()
    first = message("old 1", created_at=time.time() - 60)
    second = message("old 2", role="assistant", created_at=time.time() - 50)
    ctx = llm.ChatContext([*log.copy().items, second, first])

    assert log.take(ctx, has=has) == Change(new=[first, second])
    assert ids(log) == ["old 1", "old 2", "u1", "a1", "u2", "a2"]


def test_what_is_put_before_something_stands_before_it() -> None:
    """An application that inserts at an index need not think of dates."""
    log = a_call()
    ctx = log.copy()
    ctx.items[1:1] = [message("new 1"), message("new 2")]
    log.take(ctx, has=has)

    assert ids(log) == ["u1", "new 1", "new 2", "a1", "u2", "a2"]


def test_a_text_that_is_known_late_stands_where_it_began() -> None:
    """Between what was said before and after it, also if a part of that was loaded."""
    log = ChatLog()
    place = log.take_place()
    log.add(message("a1", role="assistant"))
    log.take(llm.ChatContext([message("old", created_at=1.0), *log.copy().items]), has=has)
    log.add(message("u1"), place=place)

    assert ids(log) == ["old", "u1", "a1"]


def test_what_was_put_in_another_order_is_in_that_order() -> None:
    """Of what the application has; what is still being said stays where it is."""
    log = a_call()
    log.take(llm.ChatContext([message("a1", role="assistant"), message("u1")]), has=has)

    assert ids(log) == ["a1", "u1", "u2", "a2"]


def test_what_the_framework_got_too_late_is_not_moved() -> None:
    """It is appended to the agent's context, behind what was said after it."""
    log = a_call()
    ctx = llm.ChatContext([message("u1"), message("u2"), message("a1", role="assistant")])
    log.take(ctx, has=lambda item_id: item_id in ("u1", "u2"))

    assert ids(log) == ["u1", "a1", "u2", "a2"]


# -------------------------------------------------------------------------------- what is new


def test_what_this_call_has_said_is_nothing_new_for_its_server() -> None:
    """Its text may come from the application alone, as from a transcription node."""
    log = ChatLog()
    item_id = log.unique_id("a1")
    ctx = llm.ChatContext([message(item_id, "Hello.", role="assistant")])

    assert log.take(ctx, has=has) == Change()
    assert texts(log) == ["Hello."]


def test_the_framework_s_own_notes_are_no_part_of_the_conversation() -> None:
    """Instructions, handoffs, and changes of the configuration."""
    ctx = llm.ChatContext(
        [
            message("lk.agent_task.instructions", "Be kind.", role="system"),
            llm.AgentConfigUpdate(instructions="Be kind."),
            llm.AgentHandoff(new_agent_id="other"),
        ]
    )
    log = ChatLog()

    assert log.take(ctx, has=has) == Change()
    assert ids(log) == []


def test_another_agent_s_context_is_all_that_it_knows() -> None:
    """What the one before knew goes with it, also what its framework never got."""
    log = a_call()
    handed = message("u1")
    change = log.take(llm.ChatContext([handed]), has=has, is_another_agents=True)

    assert change == Change(removed=["a1", "u2", "a2"])
    assert ids(log) == ["u1"]


def test_the_session_s_history_does_not_grow() -> None:
    """The newest items are kept; older ones are not taken for new when the framework has them."""
    log = ChatLog()
    whole = llm.ChatContext.empty()
    for number in range(3 * MAX_ITEMS):
        whole.items.append(message(str(number)))
        assert log.take(whole, has=has) == Change(new=[whole.items[-1]])

    assert ids(log) == [str(number) for number in range(2 * MAX_ITEMS, 3 * MAX_ITEMS)]
    assert log.unique_id("0") != "0"


def test_a_history_that_is_longer_than_what_is_kept_has_its_newest() -> None:
    """However long it is when it is loaded."""
    log = ChatLog()
    whole = llm.ChatContext([message(str(number)) for number in range(2 * MAX_ITEMS)])
    change = log.take(whole, has=has)

    assert change.new == whole.items[MAX_ITEMS:] == log.copy().items


# ------------------------------------------------------------------------------------- words


FRAME = rtc.AudioFrame(bytes(960), 24_000, 1, 480)


@pytest.mark.parametrize(
    ("item", "told"),
    [
        (message("m", "Hello."), ("user", "Hello.")),
        (message("m", "Hurry.", role="system"), ("system", "Hurry.")),
        (message("m", "Hurry.", role="developer"), ("system", "Hurry.")),
        (
            message("m", 'Say "yes".', role="assistant"),
            ("system", 'You have said to the user: "Say \\"yes\\"."'),
        ),
        (
            llm.ChatMessage(
                role="user", content=["Look.", llm.AudioContent(frame=[FRAME], transcript="There.")]
            ),
            ("user", "Look.\nThere."),
        ),
        (
            llm.FunctionCallOutput(call_id="c1", name="look", output="a cat", is_error=False),
            ("system", "Result of the function look: a cat"),
        ),
        (llm.FunctionCallOutput(call_id="c1", output="", is_error=False), ("system", "")),
        (llm.FunctionCall(call_id="c1", name="look", arguments="{}"), ("system", "")),
    ],
    ids=["user", "system", "developer", "assistant", "audio", "output", "nothing", "call"],
)
def test_a_server_is_told_in_words(item: llm.ChatItem, told: tuple[str, str]) -> None:
    """Of each kind of item in its way; an assistant's words as what it has said."""
    assert ChatLog().as_text(item) == told


def test_a_function_has_its_name_from_its_call_where_its_output_has_none() -> None:
    """As those of an application that keeps its own history."""
    log = ChatLog()
    output = llm.FunctionCallOutput(call_id="c1", output="a cat", is_error=False)
    assert log.as_text(output)[1] == "Result of the function that was called: a cat"

    log.add(llm.FunctionCall(call_id="c1", name="look", arguments="{}"))
    assert log.as_text(output)[1] == "Result of the function look: a cat"
