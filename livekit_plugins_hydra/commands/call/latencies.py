"""Prints the latencies of a call as a table."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from livekit_plugins_hydra.report import Exchange, Timeline


def print_latencies(console: Console, timeline: Timeline) -> None:
    """Print the latencies of a call as a table."""
    table = Table(box=None, pad_edge=False, header_style="dim", title=None)
    for name in ("at", "turn", "voice to voice", "detection", "thinking", "tools", "first audio"):
        table.add_column(name, justify="left" if name == "turn" else "right")
    for exchange in timeline.exchanges:
        spent: dict[str, float] = {}
        for name, seconds in exchange.segments:
            spent[name] = spent.get(name, 0.0) + seconds
        names = ("turn detection", "thinking", "tools", "first audio")
        table.add_row(
            f"{exchange.begin_s:.1f}\N{NO-BREAK SPACE}s",
            _describe(exchange),
            Text(_in_ms(exchange.voice_to_voice_s), style="bold"),
            *(_in_ms(spent.get(name)) for name in names),
        )
    console.print()
    console.print(table)
    summary = timeline.summary()
    figures = []
    if summary["plain"]["count"]:
        figures.append(f"median without tools {_in_ms(summary['plain']['median_s'])}")
    if summary["tools"]["count"]:
        figures.append(f"mean with tools {_in_ms(summary['tools']['mean_s'])}")
    console.print(
        "Voice to voice: from the end of the user's speech to the first audio of the answer"
        f"{'; ' if figures else ''}{', '.join(figures)}."
    )
    console.print()


def _describe(exchange: Exchange) -> str:
    if exchange.kind != "speech":
        return "greeting" if exchange.kind == "greeting" else "asked for"
    if exchange.is_discarded:
        return "discarded"
    names = ", ".join(name for each in exchange.tools for name in each.names)
    kind = "barge-in" if exchange.is_barge_in else "user"
    return f"{kind}, {names}" if names else kind


def _in_ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1000:,.0f}\N{NO-BREAK SPACE}ms"
