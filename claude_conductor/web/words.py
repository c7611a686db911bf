"""How do numbers, times and what agents wrote read on a page? Filters of the templates."""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Callable
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from markupsafe import Markup, escape

from claude_conductor.units import format_size
from claude_conductor.v1 import agent_pb2, message_pb2, task_pb2

_ENUMS: Final[dict[str, tuple[Any, str]]] = {
    "task": (task_pb2.TaskState, "TASK_STATE_"),
    "agent": (agent_pb2.AgentState, "AGENT_STATE_"),
    "message": (message_pb2.MessageState, "MESSAGE_STATE_"),
    "failure": (task_pb2.FailureKind, "FAILURE_KIND_"),
    "level": (agent_pb2.IsolationLevel, "ISOLATION_LEVEL_"),
    "question": (task_pb2.QuestionState, "QUESTION_STATE_"),
}
_CODE: Final = re.compile(r"`([^`]+)`")
_SHORT_ID: Final = 18


def word(number: int, kind: str) -> str:
    """Return the word of an enum's value, such as `waiting_for_human`; of a newer one its number."""
    enum, prefix = _ENUMS[kind]
    try:
        return str(enum.Name(number)).removeprefix(prefix).lower()
    except ValueError:
        return str(number)


def number_of(name: str, kind: str) -> int:
    """Return the value of a word.

    Raises:
        ValueError: There is no such word.
    """
    enum, prefix = _ENUMS[kind]
    return int(enum.Value(prefix + name.upper()))


def spaced(text: str) -> str:
    """Return a word of an enum as people write it."""
    return text.replace("_", " ")


def seconds(value: Timestamp | Duration) -> float:
    """Return a time in seconds since the epoch, or a duration in seconds."""
    return value.seconds + value.nanos / 1e9


def span(value: float) -> str:
    """Return seconds as people say them, in one or two units: `4 s`, `12 min`, `3 h 5 min`, `2 d`."""
    whole = max(0, int(value))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86_400:
        hours, minutes = divmod(whole // 60, 60)
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{whole // 86_400} d"


def age(value: Timestamp) -> str:
    """Return how long ago a time was; empty for none."""
    return span(time.time() - seconds(value)) if value.seconds else ""


def between(first: Timestamp, last: Timestamp) -> str:
    """Return the time from one to the other, or until now while there is no other."""
    if not first.seconds:
        return ""
    passed = (seconds(last) if last.seconds else time.time()) - seconds(first)
    return f"{passed * 1000:.0f} ms" if passed < 1 else f"{passed:.1f} s" if passed < 10 else span(passed)


def iso(value: Timestamp) -> str:
    """Return a time as machines write it."""
    return str(value.ToJsonString()) if value.seconds else ""


def clock(value: Timestamp) -> str:
    """Return the time of day, here."""
    return time.strftime("%H:%M:%S", time.localtime(value.seconds)) if value.seconds else ""


def size(value: int) -> str:
    """Return bytes as people write them."""
    return format_size(value)


def count(value: int) -> str:
    """Return a number with thin gaps."""
    return f"{value:,}".replace(",", "\u202f")


def money(value: float) -> str:
    """Return US dollars."""
    return f"${value:,.2f}" if value >= 1 or not value else f"${value:.4f}"


def short(value: str) -> str:
    """Return an id short enough for a table; a prefix of it, so it can be used."""
    return value if len(value) <= _SHORT_ID else f"{value[:_SHORT_ID]}…"


def plain(text: str) -> str:
    """Return what somebody wrote with control characters and marks of writing direction made visible."""
    return "".join(character if _harmless(character) else _seen(character) for character in text)


def said(text: str) -> Markup:
    """Return a sentence of ours, what stands between backticks as code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(plain(text)))))  # noqa: S704 - escaped just before


def _harmless(character: str) -> bool:
    return character in "\n\t" or unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Co"}


def _seen(character: str) -> str:
    return chr(0x2400 + ord(character)) if ord(character) < 0x20 else f"⟨U+{ord(character):04X}⟩"


FILTERS: Final[dict[str, Callable[..., object]]] = {
    each.__name__: each
    for each in (word, spaced, span, age, between, iso, clock, size, count, money, short, plain, said, seconds)
}
