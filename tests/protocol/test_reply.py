"""The texts that wait for the next request."""

from __future__ import annotations

from livekit_plugins_hydra.protocol.conversation import Conversation
from livekit_plugins_hydra.protocol.line import Line
from livekit_plugins_hydra.protocol.reply import MAX_WAITING, Texts
from livekit_plugins_hydra.protocol.states import About


def test_texts_that_no_server_takes_do_not_pile_up() -> None:
    """The newest wait; a new connection has all of them in its history."""
    texts = Texts()
    for number in range(3 * MAX_WAITING):
        texts.add("user", str(number), About.TEXT)
        (sent,) = texts.take()
        texts.add_again(sent)

    assert texts.take() == []
    assert [text.text for text in texts] == [
        str(number) for number in range(2 * MAX_WAITING, 3 * MAX_WAITING)
    ]


def test_a_text_can_be_withdrawn_as_long_as_it_waits() -> None:
    """By the id of its item; and it is told whether that came in time."""
    texts = Texts()
    texts.add("user", "one", About.TEXT, item_id="m1")
    texts.add("system", "two", About.NEXT, item_id="m2")

    assert texts.forget("m2")
    assert not texts.forget("m2")
    assert texts.last_about is About.TEXT
    assert [text.text for text in texts.take()] == ["one"]
    assert not texts
    assert texts.last_about is None


def test_a_connection_of_many_hours_does_not_remember_all_its_texts() -> None:
    """Only the newest can still be refused."""
    line = Line(Conversation(lambda: "cl"))
    for number in range(3 * MAX_WAITING):
        line.note_sent([str(number)], None)

    assert list(line.sent_texts) == [str(n) for n in range(2 * MAX_WAITING, 3 * MAX_WAITING)]
