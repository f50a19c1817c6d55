"""Timers of a call: any number of names, one alarm."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import patch

from livekit_plugins_hydra.timers import Timers


def noting() -> tuple[Timers, list[tuple[str, float]]]:
    """Return timers, and where each that runs out is noted, with the seconds that it took."""
    loop = asyncio.get_running_loop()
    began_at = loop.time()
    told: list[tuple[str, float]] = []
    return Timers(lambda name: told.append((name, round(loop.time() - began_at, 1)))), told


async def test_timers_run_out_in_their_order() -> None:
    """Whichever is due first is told first, at its time, and once."""
    timers, told = noting()
    for name, delay_s in {"late": 3.0, "early": 1.0, "middle": 2.0, "too": 2.0}.items():
        timers.start(name, delay_s)
    await asyncio.sleep(10.0)
    assert told == [("early", 1.0), ("middle", 2.0), ("too", 2.0), ("late", 3.0)]


async def test_a_timer_that_is_started_again_is_moved() -> None:
    """To an earlier time as well as to a later one."""
    timers, told = noting()
    timers.start("later", 1.0)
    timers.start("sooner", 5.0)
    timers.start("later", 3.0)
    timers.start("sooner", 2.0)
    await asyncio.sleep(10.0)
    assert told == [("sooner", 2.0), ("later", 3.0)]


async def test_a_timer_that_is_stopped_is_silent() -> None:
    """By its name, by another one that runs out at the same time, or all of them."""
    told: list[str] = []

    def take(name: str) -> None:
        told.append(name)
        timers.cancel("second")

    timers = Timers(take)
    for name in ("stopped", "first", "second"):
        timers.start(name, 1.0)
    timers.cancel("stopped")
    timers.cancel("unknown")
    await asyncio.sleep(2.0)
    timers.start("third", 1.0)
    timers.close()
    await asyncio.sleep(2.0)
    assert told == ["first"]


async def test_one_failure_stops_no_other_timer() -> None:
    """What the taker of one raises goes to the event loop; the others run out all the same."""
    loop = asyncio.get_running_loop()
    told: list[str] = []
    reported: list[BaseException | None] = []
    loop.set_exception_handler(lambda _, context: reported.append(context.get("exception")))

    def take(name: str) -> None:
        if name == "bad":
            raise ValueError(name)
        told.append(name)

    timers = Timers(take)
    for name, delay_s in {"bad": 1.0, "same": 1.0, "next": 2.0}.items():
        timers.start(name, delay_s)
    await asyncio.sleep(3.0)
    assert told == ["same", "next"]
    assert [str(error) for error in reported] == ["bad"]


async def test_what_is_stopped_in_time_costs_the_loop_nothing() -> None:
    """A thousand timers that are started and stopped need one alarm, which rings in vain once."""
    loop = asyncio.get_running_loop()
    alarms: list[Any] = []
    told: list[str] = []
    call_at = loop.call_at

    def note(*args: Any, **options: Any) -> asyncio.TimerHandle:
        alarms.append(args)
        return call_at(*args, **options)

    timers = Timers(told.append)
    with patch.object(loop, "call_at", note):
        for number in range(1000):
            timers.start(f"stall:{number}", 15.0)
            timers.cancel(f"stall:{number}")
        timers.start("answer", 20.0)
    assert len(alarms) == 1
    await asyncio.sleep(30.0)
    assert told == ["answer"]
