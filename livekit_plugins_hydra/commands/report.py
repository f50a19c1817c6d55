"""``livekit-hydra report``: a wire log, and perhaps a recording, as a page."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import errors, output
from .exits import Exit, stop

if TYPE_CHECKING:
    from livekit_plugins_hydra.report.lines import LogLine


def report(
    wire_log: Annotated[
        Path, typer.Argument(help="The file of RealtimeModel(wire_log=) or HYDRA_WIRE_LOG.")
    ],
    recording: Annotated[
        Path | None,
        typer.Argument(help="The call as audio: user left, agent right; wav, flac, ogg, mp3."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where to write the page.")] = Path("report.html"),
    call: Annotated[
        str, typer.Option(help="Which call of the log: its id, or its number; the last one.")
    ] = "",
    recording_at: Annotated[
        float,
        typer.Option(help="Seconds from the call's begin to the recording's."),
    ] = 0.0,
    title: Annotated[str, typer.Option(help="A heading for the page.")] = "",
) -> None:
    """Make one self-contained page of a call: waveforms, events, latencies, and the wire log."""
    from livekit_plugins_hydra.report import LogUnreadable, calls_in, read, render
    from livekit_plugins_hydra.report.counting import counted
    from livekit_plugins_hydra.report.page import AUDIO_RATE_HZ

    from .files import read_audio, write_page

    unreadable: list[str] = []
    try:
        lines_read = read(
            wire_log, passed_over=lambda path, n: unreadable.append(f"line {n} of {path.name}")
        )
        calls = calls_in(lines_read)
    except LogUnreadable as problem:
        stop(Exit.USAGE, str(problem))
    lines = _choose(calls, call)
    if not math.isfinite(recording_at):
        stop(Exit.USAGE, f"--recording-at takes seconds, not {recording_at}")
    audio = None
    if recording is not None:
        audio = read_audio(recording, rate_hz=AUDIO_RATE_HZ, n_channels=2)
    page = render(lines, audio=audio, audio_at_s=recording_at, title=title)
    write_page(out, page, "Name another file with --out.")
    if unreadable:
        errors().print(
            f"{counted(len(unreadable), 'line')} can't be read; the first is {unreadable[0]}"
        )
    number = list(calls).index(lines[0].call) + 1
    of = f", call {number} of {len(calls)} (--call chooses)" if len(calls) > 1 else ""
    output().print(f"{out} shows {counted(len(lines), 'frame or note', 'frames and notes')}{of}")


def _choose(calls: dict[str, list[LogLine]], wanted: str) -> list[LogLine]:
    ids = list(calls)
    if not wanted:
        return calls[ids[-1]]
    if wanted.isdecimal() and 1 <= int(wanted) <= len(ids):
        return calls[ids[int(wanted) - 1]]
    found = [each for each in ids if each.startswith(wanted)]
    if len(found) != 1:
        listed = "\n".join(
            f"  {number}  {each}  {calls[each][0].time}  {len(calls[each])} lines"
            for number, each in enumerate(ids, 1)
        )
        stop(Exit.USAGE, f"the log has no call {wanted!r}", f"It has these:\n{listed}")
    return calls[found[0]]
