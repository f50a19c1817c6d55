"""Counts in words."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number and its noun: "1 call", "2 calls"."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"
