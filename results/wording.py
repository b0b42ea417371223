"""Words that agree with their numbers."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return "1 epoch", "2 epochs": a number with a noun whose plural ends in s."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
