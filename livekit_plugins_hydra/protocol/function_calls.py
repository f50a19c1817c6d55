"""The function calls of one connection, and which of them the server waits for.

A function call is taken once, whether it comes as an event or as an item, and even if its
response has ended: the server waits for an output of each.
"""

from __future__ import annotations

from collections.abc import Iterable

from . import effects as fx
from . import events as ev
from .response import Response


class FunctionCalls:
    """Ids of the function calls that need an output, and of those that do not any more."""

    def __init__(self) -> None:
        self.open: set[str] = set()
        self._closed: set[str] = set()

    def is_known(self, call_id: str) -> bool:
        """Return whether a function call was taken before."""
        return call_id in self.open or call_id in self._closed

    def take(
        self,
        response: Response,
        *,
        item_id: str | None,
        call_id: str,
        name: str | None,
        arguments: str | None,
        now: float,
    ) -> list[fx.Effect]:
        """Run a function that `response` calls, in a part of its own if it is late."""
        self.open.add(call_id)
        out = response.reopen()
        response.last_event_at = now
        response.has_called = response.has_begun = True
        call = fx.CallFunction(
            response.part_id,
            item_id=item_id or f"item_{call_id}",
            call_id=call_id,
            name=name or "",
            arguments=arguments or "{}",
        )
        return [*out, call, fx.UserAnswered(), response.start_grace()]

    def take_items(
        self, response: Response, items: Iterable[ev.Item], now: float
    ) -> list[fx.Effect]:
        """Take function calls that come as items; most came as events before.

        An incomplete one may lack arguments, and one without an id can't be answered.
        """
        out: list[fx.Effect] = []
        for item in items:
            if item.call_id and item.status != "incomplete" and not self.is_known(item.call_id):
                out += self.take(
                    response,
                    item_id=item.id,
                    call_id=item.call_id,
                    name=item.name,
                    arguments=item.arguments,
                    now=now,
                )
        return out

    def answer(self, call_id: str) -> None:
        """An output is sent."""
        self.open.remove(call_id)
        self._closed.add(call_id)

    def give_up(self) -> None:
        """The server no longer waits for outputs."""
        self._closed |= self.open
        self.open.clear()
