"""What the contract suites store: small valid values, and a clock that is moved by hand."""

from __future__ import annotations

from typing import Any

from claude_conductor.ids import DEFAULT_TENANT, TaskId, TenantId, uuid7
from controlplane.domain.message import IncomingFrame
from controlplane.domain.task import Spec, State, Task

BOX = "default/agent-1"
START = 1_800_000_000.0
START_MS = int(START * 1000)
DAY_MS = 24 * 3600 * 1000


class HandClock:
    def __init__(self, now: float = START) -> None:
        self.time = now

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    def pass_(self, seconds: float) -> None:
        self.time += seconds


def task_id(number: int) -> TaskId:
    """Ids far enough apart in time that a prefix of 8 digits tells them apart."""
    return TaskId("task_" + uuid7((number + 1) << 16, number).hex())


def task(number: int, **changes: Any) -> Task:
    spec = changes.pop("spec", Spec(prompt=f"do {number}"))
    given = {
        "id": task_id(number),
        "tenant_id": DEFAULT_TENANT,
        "state": State.QUEUED,
        "reason": "waits for a free agent",
        "create_time": START + number,
        "submitter": "operator",
        "queue_time": START + number,
    }
    return Task(spec=spec, **{**given, **changes})


def message_id(number: int) -> bytes:
    return uuid7(START_MS + number, number)


def frame(*numbers: int, **changes: Any) -> IncomingFrame:
    given = {
        "mailbox": BOX,
        "sender": "agent/sender",
        "type": "note",
        "message_ids": b"".join(message_id(number) for number in numbers),
        "expire_time_ms": START_MS + 7 * DAY_MS,
        "frame": b"frame " + repr(numbers).encode(),
        "accept_time_ms": START_MS,
    }
    return IncomingFrame(**{**given, **changes})


OTHER_TENANT = TenantId("other")
