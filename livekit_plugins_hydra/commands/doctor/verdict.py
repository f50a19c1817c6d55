"""What the doctor says in the end: a table or JSON, and an exit code."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Final

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from livekit_plugins_hydra import __version__
from livekit_plugins_hydra.commands.exits import Exit
from livekit_plugins_hydra.options import Options
from livekit_plugins_hydra.report.counting import counted

from .examination import MAX_CONNECTIONS, Examination
from .findings import Finding, Status
from .network import Address

_MARKS: Final[dict[Status, tuple[str, str]]] = {
    "ok": ("✓", "green"),
    "note": ("•", "cyan"),
    "warn": ("!", "yellow"),
    "fail": ("✗", "bold red"),
    "skip": ("-", "dim"),
}

_GROUPS: Final = {
    "machine": "This machine",
    "network": "The way there",
    "session": "The session",
    "protocol": "Open questions of the protocol",
    "call": "A call",
}


def exit_code(examination: Examination) -> Exit:
    """Return the exit code that says what is wrong."""
    if examination.has("interrupted", "skip"):
        return Exit.INTERRUPTED
    if examination.failed("key_present") or examination.failed("auth"):
        return Exit.NO_KEY
    if any(examination.failed(name) for name in ("dns", "tcp", "tls", "connection")):
        return Exit.NO_CONNECTION
    if examination.failed("voice"):
        return Exit.USAGE
    is_well = all(each.status != "fail" for each in examination.findings)
    return Exit.OK if is_well else Exit.FAILED


def print_findings(console: Console, examination: Examination) -> None:
    """Print the table: a mark and an answer for each finding, and the remedy under it."""
    for group, heading in _GROUPS.items():
        found = [each for each in examination.findings if each.group == group]
        if not found:
            continue
        console.print(heading, style="bold")
        console.print(_table(found))
        console.print()
    counts = dict.fromkeys(_MARKS, 0)
    for each in examination.findings:
        counts[each.status] += 1
    console.print(
        f"{counts['ok']} good, {counted(counts['note'], 'answer')} to open questions,"
        f" {counted(counts['warn'], 'warning')}, {counted(counts['fail'], 'failure')}."
    )
    if examination.ledger.n_connections:
        console.print(f"This took {examination.ledger.sentence}; at most {MAX_CONNECTIONS}.")


def _table(found: Iterable[Finding]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(width=1)
    table.add_column(width=34, no_wrap=True)
    table.add_column(overflow="fold")
    for each in found:
        mark, color = _MARKS[each.status]
        answer = Text(each.answer, style="dim" if each.status == "skip" else "")
        if each.remedy:
            answer.append(f"\n→ {each.remedy}", style="yellow" if each.status != "note" else "dim")
        if each.known and each.status == "note":
            answer.append(f"\n  known: {each.known}", style="dim")
        table.add_row(Text(mark, style=color), each.title, answer)
    return table


def as_json(examination: Examination, options: Options, code: Exit, *, is_offline: bool) -> str:
    """Return all of it for programs."""
    address = Address.of(options.base_url)
    document = {
        "plugin": __version__,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "server": "emulated" if is_offline else f"{address.host}:{address.port}",
        "model": options.model,
        "voice": options.voice,
        "auth": options.auth,
        "exit_code": int(code),
        "connections": examination.ledger.n_connections,
        "connected_s": round(examination.ledger.connected_s, 1),
        "findings": [asdict(each) for each in examination.findings],
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()
