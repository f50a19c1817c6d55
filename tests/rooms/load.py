"""Holds room calls on one machine, and says how many stay clean and what they cost.

    .venv/bin/python -m tests.rooms.namespace .venv/bin/python -m tests.rooms.load --calls 8

A call is a guest with real WebRTC on either side of a real LiveKit server: it asks, is answered
with a steady tone, breaks in, and so on. It is clean if all its questions were answered, no gap was
heard in an answer, and each barge-in silenced the agent at the listener within 150 ms of the
moment that Hydra said that the user speaks. All of it runs on this machine: server, agents, guests
and an emulated Hydra.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import random
import signal
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from livekit import api

from .accounting import Usage, machine_s, memory_mb
from .guests import Guest, joined
from .livekit_server import LiveKit, find_program, running
from .namespace import ADDRESS_VARIABLE
from .programs import Program
from .sound import LOUD, RATE_HZ, Utterance, level, recording

BARGE_IN_S: Final = 0.150
"""From Hydra's word to silence at the listener. Source: the issue that asked for this."""

LISTEN_S: Final = 4.0
"""How much of an answer is heard before the user breaks in."""

CYCLE_S: Final = 7.0
"""From question to question, about. Callers begin at any moment of it, and not all at once."""

SEED: Final = 1
"""Of those moments: the same in each run."""

GAP_MS: Final = 20
"""A dip of the tone that is shorter is not heard."""

PATIENCE_S: Final = 90.0


@dataclass
class Call:
    """What was measured of one call."""

    room: str
    guest: Guest
    answers_s: list[float] = field(default_factory=list)
    """From the last word to the first sound."""

    heard_s: float = 0.0
    gaps_ms: list[int] = field(default_factory=list)
    barge_ins_s: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    used: dict[str, float] = field(default_factory=lambda: {"loop_s": 0.0, "plugin_s": 0.0})
    memory_mb: float = 0.0

    @property
    def is_clean(self) -> bool:
        """Whether a person would have noticed nothing."""
        return (
            not self.failures
            and bool(self.barge_ins_s)
            and not self.gaps_ms
            and max(self.barge_ins_s) <= BARGE_IN_S
        )

    async def talk(self, until: float) -> None:
        """Ask, listen, break in, and again; the last answer is cut by the end of the call."""
        question = recording("user-question", 48_000)
        while time.monotonic() < until:
            ended_at = await self.guest.say(question)
            ear = self.guest.agent_ear
            try:
                await self.guest.until(lambda: ear.last_began_at > ended_at)  # noqa: B023
            except TimeoutError:
                self.failures.append("not answered")
                return
            self.answers_s.append(ear.last_began_at - ended_at)
            try:
                await self.guest.until(lambda: ear.last_duration_s > LISTEN_S)  # noqa: B023
            except TimeoutError:
                self.failures.append("an answer in pieces")
                return

    def measure(self, speech_started_at: Sequence[float]) -> None:
        """Set what was heard against the moments at which Hydra said that the user speaks."""
        for answer in self.guest.agent_ear.utterances():
            self.heard_s += answer.duration_s
            self.gaps_ms += gaps_ms(answer)
            during = [at for at in speech_started_at if answer.begins_at < at < answer.ends_at + 1]
            if during:
                self.barge_ins_s.append(answer.ends_at - during[0])


@dataclass(frozen=True)
class Load:
    """Calls that were held at once, and what they used."""

    calls: Sequence[Call]
    elapsed_s: float
    used_s: dict[str, float]
    """CPU seconds, by the program."""

    others_s: float
    """CPU seconds of all else on this machine meanwhile."""

    def report(self) -> list[str]:
        """Return the figures, a line each."""
        calls, n_calls = self.calls, len(self.calls)
        gaps = [gap for call in calls for gap in call.gaps_ms]
        heard_s = math.fsum(call.heard_s for call in calls)
        loop_s = math.fsum(call.used["loop_s"] for call in calls)
        plugin_s = math.fsum(call.used["plugin_s"] for call in calls)
        return [
            f"{n_calls} calls for {self.elapsed_s:.0f} s; {os.cpu_count()} cores, each 100 %",
            f"clean calls: {sum(call.is_clean for call in calls)} of {n_calls}",
            f"late audio: {len(gaps)} gaps, {sum(gaps)} ms in {heard_s:.0f} s of answers",
            "barge-in to silence at the listener: "
            + _spread([value for call in calls for value in call.barge_ins_s]),
            "last word to first sound: "
            + _spread([value for call in calls for value in call.answers_s]),
            *(f"CPU of {name}: {self._share(used_s)}" for name, used_s in self.used_s.items()),
            f"CPU of an agent: {self._share(self.used_s['agents'] / n_calls)},"
            f" of it the event loop {self._share(loop_s / n_calls)},"
            f" of that the plugin {self._share(plugin_s / n_calls)}",
            f"memory of an agent: {statistics.median(call.memory_mb for call in calls):.0f} MB",
            f"CPU of others on this machine meanwhile: {self._share(self.others_s)}",
            *(f"{call.room}: {failure}" for call in calls for failure in call.failures),
        ]

    def _share(self, seconds: float) -> str:
        return f"{100 * seconds / self.elapsed_s:.1f} %"


def gaps_ms(answer: Utterance) -> list[int]:
    """Return the lengths of the dips of a steady tone, its ends left out."""
    n_step = RATE_HZ // 100
    n_whole = answer.samples.size // n_step
    levels = np.array(
        [level(each) for each in np.split(answer.samples[: n_whole * n_step], n_whole)]
    )
    is_low = levels[3:-3] < max(LOUD, float(np.median(levels)) / 2)
    found, length = [], 0
    for low in [*is_low, False]:
        if low:
            length += 10
        elif length:
            found.append(length)
            length = 0
    return [each for each in found if each >= GAP_MS]


async def join(livekit: LiveKit, number: int, hydra_url: str, calls: AsyncExitStack) -> Call:
    """Bring a guest and an agent into a room of their own."""
    room = f"load-{number}"
    client = livekit.client()
    try:
        await client.agent_dispatch.create_dispatch(
            api.CreateAgentDispatchRequest(agent_name="load", room=room, metadata=hydra_url)
        )
    finally:
        await client.aclose()
    token = livekit.token(room, f"user-{number}")
    guest = await calls.enter_async_context(joined(livekit.url, token))
    call = Call(room, guest)
    try:
        await guest.until(lambda: guest.told("used"), PATIENCE_S)
    except TimeoutError:
        call.failures.append("no agent")
    return call


def starts_by_room(hydra: Program) -> dict[str, list[float]]:
    """Return when Hydra has said that each user speaks."""
    starts: dict[str, list[float]] = defaultdict(list)
    for line in hydra.find("speech_started_at"):
        told = json.loads(line)
        starts[told["room"]].append(told["speech_started_at"])
    return starts


async def hold(livekit: LiveKit, n_calls: int, seconds: float) -> Load:
    """Hold so many calls for so long, and measure them."""
    hydra = Program.python("-m", "tests.rooms.load_hydra")
    worker = Program.python(
        *("-m", "tests.rooms.load_worker", "dev", "--no-reload", "--log-level", "info"),
        **livekit.environment,
    )
    with hydra, worker:
        url = json.loads(await hydra.has_said('"url"'))["url"]
        await worker.has_said("registered worker")
        async with AsyncExitStack() as stack:
            calls = [await join(livekit, number, url, stack) for number in range(n_calls)]
            families = {
                "livekit-server": Usage(livekit.program.pid),
                "agents": Usage(worker.pid),
                "emulated Hydra": Usage(hydra.pid),
            }
            guests_s, others_s, began_at = time.process_time(), machine_s(), time.monotonic()
            before = [used_by(call) for call in calls]
            moments = random.Random(SEED)
            async with asyncio.TaskGroup() as talking:
                for call in calls:
                    delay_s = moments.uniform(0.0, CYCLE_S)
                    talking.create_task(_talk_later(call, delay_s, began_at + seconds))
            elapsed_s = time.monotonic() - began_at
            used_s = {name: usage.since_begin() for name, usage in families.items()}
            used_s["guests"] = time.process_time() - guests_s
            others_s = machine_s() - others_s - math.fsum(used_s.values())
            starts = starts_by_room(hydra)
            for call, earlier in zip(calls, before, strict=True):
                call.measure(starts[call.room])
                later = used_by(call)
                call.used = {name: later[name] - earlier[name] for name in ("loop_s", "plugin_s")}
                call.memory_mb = memory_mb(int(later["pid"]))
        return Load(calls, elapsed_s, used_s, max(0.0, others_s))


def used_by(call: Call) -> dict[str, float]:
    """Return what a call's process has told last."""
    told = call.guest.told("used")
    return told[-1] if told else {"pid": 0, "loop_s": 0.0, "plugin_s": 0.0}


async def _talk_later(call: Call, delay_s: float, until: float) -> None:
    await asyncio.sleep(delay_s)
    if not call.failures:
        await call.talk(until)


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "none"
    milliseconds = [1000 * value for value in values]
    return (
        f"median {statistics.median(milliseconds):.0f} ms,"
        f" worst {max(milliseconds):.0f} ms of {len(values)}"
    )


def main() -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="tests.rooms.load", description=__doc__.split("\n")[0])
    parser.add_argument("--calls", type=int, default=4, help="how many at once (4)")
    parser.add_argument("--seconds", type=float, default=30.0, help="for how long (30)")
    arguments = parser.parse_args()
    address = os.environ.get(ADDRESS_VARIABLE)
    if address is None:
        print("Run it on a network of its own; see the head of this file.", file=sys.stderr)
        return 2
    if find_program() is None:
        print("There is no livekit-server.", file=sys.stderr)
        return 2
    # Whatever has been started ends with this.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with running(address) as livekit:
        held = asyncio.run(hold(livekit, arguments.calls, arguments.seconds))
        print("\n".join(held.report()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
