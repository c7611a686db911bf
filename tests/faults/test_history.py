"""The checker finds every kind of error that is planted in a history, and nothing in one without errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.faults.history import Event, Life, Record, check, line, parse

PATH = ("ACCEPTED", "AT_SIDECAR", "SEEN")
EXPECTED = {("a", "b"): 3}
Histories = tuple[list[Life], list[Record]]


def sending(*numbers: int) -> list[Event]:
    """Three events a message would be too many; what is asked is answered at once."""
    made = []
    for number in numbers:
        made += [Event(number, "sending", (f"m{number}",), "b", number), Event(number, "accepted", (f"m{number}",))]
    return made


def seeing(number: int, attempt: int = 1) -> Event:
    return Event(number, "seen", (f"m{number}",), "a", number, attempt)


def acking(*numbers: int) -> list[Event]:
    ids = tuple(f"m{number}" for number in numbers)
    return [Event(0, "acking", ids), Event(0, "acked", ids)]


def right() -> Histories:
    """A history with a killed receiver and a killed sender in it, in which all is well."""
    lives = [
        Life("a", (Event(0, "began", note="7"), *sending(1), Event(2, "sending", ("m2",), "b", 2))),
        Life("a", (*sending(2, 3), Event(3, "done"))),
        Life("b", (seeing(1), seeing(2), *acking(1), Event(0, "acking", ("m2",)))),
        Life("b", (seeing(2, 2), seeing(3), *acking(2, 3))),
    ]
    records = [Record(f"m{number}", "a", "b", (*PATH, "ACKED")) for number in (1, 2, 3)]
    return lives, records


def with_life(number: int, change: Callable[[list[Event]], list[Event]]) -> Histories:
    lives, records = right()
    lives[number] = replace(lives[number], events=tuple(change(list(lives[number].events))))
    return lives, records


def with_record(*states: str, number: int = 2) -> Histories:
    lives, records = right()
    records[number] = replace(records[number], states=states)
    return lives, records


def kinds(history: Histories) -> set[str]:
    return {violation.kind for violation in check(*history, EXPECTED)}


def test_a_history_with_kills_in_it_has_no_violation_when_all_is_well():
    assert check(*right(), EXPECTED) == []


def test_what_only_a_killed_process_knew_is_no_violation():
    """Seen but not written down, acknowledged but not written down, accepted but not written down."""
    unseen = with_life(2, lambda events: [seeing(1), *acking(1)])
    assert check(*unseen, EXPECTED) == []
    unanswered = with_life(3, lambda events: [*events[:-1]])
    assert check(*unanswered, EXPECTED) == []
    lives, records = right()
    lives[1] = Life("a", (*lives[1].events, Event(9, "sending", ("m9",), "b", 4)))
    assert check(lives, records, EXPECTED) == []


def lost_by_the_store() -> Histories:
    lives, records = right()
    return lives, records[:2]


def swapped(events: list[Event]) -> list[Event]:
    return [events[1], events[0], *events[2:]]


def without_sight_and_acknowledgement(events: list[Event]) -> list[Event]:
    return [seeing(2, 2), *acking(2)]


def recorded_twice() -> Histories:
    lives, records = right()
    return lives, [*records, records[0]]


def two_ends() -> Histories:
    return with_record(*PATH, "ACKED", "DEAD")


PLANTED: dict[str, tuple[str, Histories]] = {
    "accepted and gone": ("lost", lost_by_the_store()),
    "acknowledged by nobody": ("lost", with_life(3, without_sight_and_acknowledgement)),
    "acknowledged without having been seen": ("lost", with_life(3, lambda events: [events[0], *acking(2, 3)])),
    "duplicate in one process": ("seen twice", with_life(3, lambda events: [*events[:2], seeing(3), *events[2:]])),
    "seen after its acknowledgement by the same process": (
        "seen after acknowledgement",
        with_life(2, lambda events: [*events, seeing(1)]),
    ),
    "seen after its acknowledgement by the next process": (
        "seen after acknowledgement",
        with_life(3, lambda events: [seeing(1, 2), *events]),
    ),
    "swapped within a process": ("order", with_life(2, swapped)),
    "swapped across processes": (
        "order",
        with_life(2, lambda events: [seeing(1), seeing(3), *acking(1, 3)]),
    ),
    "two final states in one record": ("two final states", two_ends()),
    "two records with a final state": ("two final states", recorded_twice()),
    "no final state": ("no final state", with_record(*PATH)),
    "dead without a reason in the plan": ("given up", with_record("ACCEPTED", "DEAD")),
    "expired long before its time": ("given up", with_record(*PATH, "EXPIRED")),
    "acknowledged and bounced all the same": ("lost acknowledgement", with_record(*PATH, "BOUNCED")),
    "offered again as if for the first time": (
        "repeat without a mark",
        with_life(3, lambda events: [seeing(2), *events[1:]]),
    ),
    "seen by somebody it was not sent to": (
        "not what was sent",
        ([*right()[0], Life("c", (seeing(1),))], right()[1]),
    ),
    "never sent by anybody": ("not what was sent", with_life(3, lambda events: [*events, seeing(8)])),
    "a sender that stopped": ("incomplete", with_life(1, lambda events: events[:2])),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_error_is_found(name: str):
    kind, history = PLANTED[name]
    assert kind in kinds(history)


def test_every_rule_has_a_planted_error():
    assert {kind for kind, _ in PLANTED.values()} == {
        "given up",
        "incomplete",
        "lost",
        "lost acknowledgement",
        "no final state",
        "not what was sent",
        "order",
        "repeat without a mark",
        "seen after acknowledgement",
        "seen twice",
        "two final states",
    }


def test_a_line_torn_by_a_kill_counts_as_not_written():
    whole = line(seeing(1)) + line(seeing(2))
    assert parse("b", whole) == Life("b", (seeing(1), seeing(2)))
    assert parse("b", whole[:-1]) == Life("b", (seeing(1),))
    assert parse("b", b"") == Life("b", ())
