"""What may be spent, and how do amounts of it add up?

Four things are limited, each for itself: the time agents work, turns of models, tokens, and money. Tokens are those a model reads
anew (what it writes to the provider's cache included) and those it writes; what is read from the cache counts as money alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from claude_conductor.ids import TaskId
from claude_conductor.units import format_duration

_CENT: Final = 1e-9
"""US dollars, and seconds, by which sums of floating-point numbers may be off."""


@dataclass(frozen=True, slots=True)
class Spent:
    """An amount of each. Time in seconds."""

    seconds: float = 0.0
    turns: int = 0
    tokens: int = 0
    usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Budget:
    """The most of each; None: no limit. Time in seconds."""

    seconds: float | None = None
    turns: int | None = None
    tokens: int | None = None
    usd: float | None = None

    @property
    def limited(self) -> bool:
        """Whether anything is limited."""
        return self != Budget()


@dataclass(frozen=True, slots=True)
class Share:
    """The part of a task's budget that a subtask has; what it does not use comes back with its end."""

    task_id: TaskId
    amount: Spent
    """Of what has no limit, nothing."""


def total(parts: Iterable[Spent]) -> Spent:
    """Return the sum."""
    listed = list(parts)
    return Spent(
        seconds=sum(part.seconds for part in listed),
        turns=sum(part.turns for part in listed),
        tokens=sum(part.tokens for part in listed),
        usd=sum(part.usd for part in listed),
    )


def larger(one: Spent, other: Spent) -> Spent:
    """Return of each the larger amount."""
    return Spent(
        max(one.seconds, other.seconds), max(one.turns, other.turns), max(one.tokens, other.tokens), max(one.usd, other.usd)
    )


def left(budget: Budget, gone: Spent) -> Budget:
    """Return what may still be spent; never below 0."""
    return Budget(
        seconds=None if budget.seconds is None else _at_least_0(budget.seconds - gone.seconds),
        turns=None if budget.turns is None else max(0, budget.turns - gone.turns),
        tokens=None if budget.tokens is None else max(0, budget.tokens - gone.tokens),
        usd=None if budget.usd is None else _at_least_0(budget.usd - gone.usd),
    )


def within(amount: Spent, rest: Budget) -> str:
    """Return which of the four the amount has more of than the rest allows, such as `tokens`; empty if it fits."""
    checks = (
        ("time", rest.seconds, amount.seconds),
        ("turns", rest.turns, amount.turns),
        ("tokens", rest.tokens, amount.tokens),
        ("usd", rest.usd, amount.usd),
    )
    return next((name for name, most, wanted in checks if most is not None and wanted > most + _CENT), "")


def empty(rest: Budget) -> str:
    """Return of which of the four nothing is left; empty if there is some of each."""
    parts = (("time", rest.seconds), ("turns", rest.turns), ("tokens", rest.tokens), ("usd", rest.usd))
    return next((name for name, most in parts if most is not None and most <= _CENT), "")


def half(rest: Budget) -> Budget:
    """Return half of each, which is what a subtask gets that does not say how much it needs."""
    return Budget(
        seconds=None if rest.seconds is None else rest.seconds / 2,
        turns=None if rest.turns is None else rest.turns // 2,
        tokens=None if rest.tokens is None else rest.tokens // 2,
        usd=None if rest.usd is None else rest.usd / 2,
    )


def over(first: Budget, second: Budget) -> Budget:
    """Return the first, with limits of the second where it has none."""
    return Budget(
        seconds=second.seconds if first.seconds is None else first.seconds,
        turns=second.turns if first.turns is None else first.turns,
        tokens=second.tokens if first.tokens is None else first.tokens,
        usd=second.usd if first.usd is None else first.usd,
    )


def share_of(granted: Budget, parent: Budget) -> Spent:
    """Return what a budget takes from that of the parent: nothing of what the parent has no limit for."""
    return Spent(
        seconds=(granted.seconds or 0.0) if parent.seconds is not None else 0.0,
        turns=(granted.turns or 0) if parent.turns is not None else 0,
        tokens=(granted.tokens or 0) if parent.tokens is not None else 0,
        usd=(granted.usd or 0.0) if parent.usd is not None else 0.0,
    )


def given(amount: Spent, parent: Budget, wanted: Budget) -> Budget:
    """Return the budget of a subtask with this share: what the parent has no limit for is what was wanted."""
    return Budget(
        seconds=wanted.seconds if parent.seconds is None else amount.seconds,
        turns=wanted.turns if parent.turns is None else amount.turns,
        tokens=wanted.tokens if parent.tokens is None else amount.tokens,
        usd=wanted.usd if parent.usd is None else amount.usd,
    )


def words(budget: Budget) -> str:
    """Return the limits for people, such as `$2.00, 30 turns`; empty where there are none."""
    return ", ".join(
        text
        for text, limit in (
            (f"${budget.usd or 0:.4g}", budget.usd),
            (f"{budget.tokens or 0} tokens", budget.tokens),
            (f"{budget.turns or 0} turns", budget.turns),
            (format_duration(budget.seconds or 0), budget.seconds),
        )
        if limit is not None
    )


def only(budget: Budget, name: str) -> Budget:
    """Return the limit of one of the four alone."""
    return Budget(
        seconds=budget.seconds if name == "time" else None,
        turns=budget.turns if name == "turns" else None,
        tokens=budget.tokens if name == "tokens" else None,
        usd=budget.usd if name == "usd" else None,
    )


def _at_least_0(value: float) -> float:
    return value if value > _CENT else 0.0
