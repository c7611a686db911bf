"""Does what agents wrote down, together with where the control plane says every message ended, keep the guarantees?

Each process of an agent writes a file of its own, one line an event, with no buffer of its own between it and the kernel: a kill
loses no line that was written. What it claims is therefore exact in one direction only, and the rules follow from that:

- `sending` is written before the call. Without a line that follows, the message may have been accepted or not.
- `accepted` is written after the answer: the message must be in a final state, and in one only.
- `seen` is written after the answer to Fetch. A process killed in between has seen what it did not write; nothing follows from
  a missing line but that the next process is offered the message.
- `acking` is written before the call to Acknowledge, `acked` after its answer: from then on nobody may see the message again.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

FINAL = frozenset({"ACKED", "EXPIRED", "BOUNCED", "DEAD"})


@dataclass(frozen=True, slots=True)
class Event:
    """One line. `time` is monotonic seconds of the machine, the same for all processes."""

    time: float
    kind: str
    ids: tuple[str, ...] = ()
    peer: str = ""
    """Whom it was sent to, or who sent it."""
    number: int = 0
    """Which message of its pair, from 1."""
    attempt: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Life:
    """What one process of an agent wrote, in its order."""

    agent: str
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """Where a message stands at the control plane: the states it went through, the present one last."""

    message_id: str
    sender: str
    recipient: str
    states: tuple[str, ...]
    reason: str = ""


@dataclass(frozen=True, slots=True, order=True)
class Violation:
    """A guarantee that was not kept."""

    kind: str
    message_id: str
    detail: str


@dataclass(frozen=True, slots=True)
class Sent:
    """A message as its sender wrote it down."""

    sender: str
    recipient: str
    number: int


def line(event: Event) -> bytes:
    """Return an event as it is written."""
    values = [round(event.time, 4), event.kind, event.ids, event.peer, event.number, event.attempt, event.note]
    return json.dumps(values, separators=(",", ":")).encode() + b"\n"


def parse(agent: str, text: bytes) -> Life:
    """Read a file; a last line without its end was torn by a kill and counts as not written."""
    events = []
    for raw in text.split(b"\n")[:-1]:
        time, kind, ids, peer, number, attempt, note = json.loads(raw)
        events.append(Event(time, kind, tuple(ids), peer, number, attempt, note))
    return Life(agent, tuple(events))


@dataclass(slots=True)
class History:
    """All lives, those of one agent in the order they were lived, and the records read at the end."""

    lives: Sequence[Life]
    records: Sequence[Record]
    sent: dict[str, Sent] = field(default_factory=dict)
    accepted: set[str] = field(default_factory=set)
    acking: set[str] = field(default_factory=set)
    acked: set[str] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)
    by_id: dict[str, list[Record]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        """Index what is asked for often."""
        sets = {"accepted": self.accepted, "acking": self.acking, "acked": self.acked, "seen": self.seen}
        for life in self.lives:
            for event in life.events:
                if event.kind in sets:
                    sets[event.kind].update(event.ids)
                elif event.kind == "sending":
                    self.sent[event.ids[0]] = Sent(life.agent, event.peer, event.number)
        for record in self.records:
            self.by_id[record.message_id].append(record)


def check(lives: Sequence[Life], records: Sequence[Record], expected: Mapping[tuple[str, str], int]) -> list[Violation]:
    """Return every violation.

    Args:
        lives: Of all agents; those of one agent in the order they were lived.
        records: Everything the control plane knows at the end.
        expected: How many messages each (sender, recipient) had to get accepted.
    """
    history = History(lives, records)
    rules = (_unsent, _lost, _unfinished, _two_ends, _given_up, _twice, _after_ack, _order, _unmarked, _forged)
    found = [violation for rule in rules for violation in rule(history)]
    return sorted([*found, *_incomplete(history, expected)])


def _unsent(history: History) -> Iterator[Violation]:
    """What an agent was told is accepted, the control plane must know."""
    for message_id in history.accepted - history.by_id.keys():
        yield Violation("lost", message_id, f"accepted of {history.sent.get(message_id)}, unknown to the control plane")


def _lost(history: History) -> Iterator[Violation]:
    """What ended as acknowledged, its recipient must have seen and wanted to acknowledge."""
    for record in history.records:
        if record.states[-1] == "ACKED" and not {record.message_id} <= history.acking & history.seen and _ours(record):
            yield Violation("lost", record.message_id, f"ended as ACKED, but {record.recipient} never acknowledged it")
        elif record.states[-1] != "ACKED" and record.message_id in history.acked:
            yield Violation("lost acknowledgement", record.message_id, f"acknowledged by its agent, is {record.states[-1]}")


def _unfinished(history: History) -> Iterator[Violation]:
    for record in history.records:
        if record.states[-1] not in FINAL and _ours(record):
            yield Violation("no final state", record.message_id, f"is {record.states[-1]} at {record.recipient}")


def _two_ends(history: History) -> Iterator[Violation]:
    """A message has one record per recipient, and one final state in it, the last."""
    for message_id, records in history.by_id.items():
        ends = [state for record in records for state in record.states if state in FINAL]
        if len(ends) > 1 or len(records) > 1:
            where = ", ".join(f"{record.recipient}: {'>'.join(record.states)}" for record in records)
            yield Violation("two final states", message_id, where)


def _given_up(history: History) -> Iterator[Violation]:
    """Nothing here is old enough to expire, and no plan of faults uses up the attempts of a message."""
    for record in history.records:
        if record.states[-1] in FINAL - {"ACKED"} and _ours(record):
            yield Violation("given up", record.message_id, f"{record.states[-1]} at {record.recipient}: {record.reason}")


def _twice(history: History) -> Iterator[Violation]:
    for life in history.lives:
        for message_id, count in Counter(_seen(life)).items():
            if count > 1:
                yield Violation("seen twice", message_id, f"{count} times by one process of {life.agent}")


def _after_ack(history: History) -> Iterator[Violation]:
    acked: dict[str, set[str]] = defaultdict(set)
    for life in history.lives:
        over = acked[life.agent]
        for event in life.events:
            if event.kind == "acked":
                over.update(event.ids)
            elif event.kind == "seen" and event.ids[0] in over:
                yield Violation("seen after acknowledgement", event.ids[0], f"by {life.agent}")


def _order(history: History) -> Iterator[Violation]:
    """Within a process, and among the first sights of all processes of an agent, a pair's messages come in their order.

    A process that was killed before it wrote down what it saw leaves out the end of an answer only, so that the next process
    cannot be the first to see something older than what was seen before.
    """
    first: dict[tuple[str, str], list[Event]] = defaultdict(list)
    known: dict[str, set[str]] = defaultdict(set)
    for life in history.lives:
        within: dict[tuple[str, str], list[Event]] = defaultdict(list)
        for event in life.events:
            if event.kind != "seen":
                continue
            within[event.peer, life.agent].append(event)
            if event.ids[0] not in known[life.agent]:
                known[life.agent].add(event.ids[0])
                first[event.peer, life.agent].append(event)
        yield from _backwards(within, "by one process")
    yield from _backwards(first, "among first sights")


def _backwards(by_pair: Mapping[tuple[str, str], Sequence[Event]], where: str) -> Iterator[Violation]:
    for (sender, recipient), events in by_pair.items():
        for before, after in pairwise(events):
            if after.number < before.number:
                detail = f"{sender} -> {recipient}: {after.number} after {before.number}, {where}"
                yield Violation("order", after.ids[0], detail)


def _unmarked(history: History) -> Iterator[Violation]:
    """What an earlier process saw comes with a higher attempt."""
    attempts: dict[tuple[str, str], int] = {}
    for life in history.lives:
        here = {event.ids[0]: event.attempt for event in life.events if event.kind == "seen"}
        for message_id, attempt in here.items():
            before = attempts.get((life.agent, message_id), 0)
            if attempt <= before:
                detail = f"attempt {attempt} after attempt {before} at {life.agent}"
                yield Violation("repeat without a mark", message_id, detail)
            attempts[life.agent, message_id] = attempt


def _forged(history: History) -> Iterator[Violation]:
    """What was seen and what is recorded is what somebody sent, from and to whom it was sent."""
    for life in history.lives:
        for event in life.events:
            if event.kind == "seen" and history.sent.get(event.ids[0]) != Sent(event.peer, life.agent, event.number):
                detail = f"{life.agent} saw number {event.number} of {event.peer}; sent was {history.sent.get(event.ids[0])}"
                yield Violation("not what was sent", event.ids[0], detail)
    for record in history.records:
        sent = history.sent.get(record.message_id)
        if _ours(record) and (sent is None or (sent.sender, sent.recipient) != (record.sender, record.recipient)):
            detail = f"recorded from {record.sender} to {record.recipient}; sent was {sent}"
            yield Violation("not what was sent", record.message_id, detail)


def _incomplete(history: History, expected: Mapping[tuple[str, str], int]) -> Iterator[Violation]:
    counts = Counter((history.sent[each].sender, history.sent[each].recipient) for each in history.accepted & history.sent.keys())
    for pair, count in expected.items():
        if counts[pair] != count:
            yield Violation("incomplete", "", f"{pair[0]} -> {pair[1]}: {counts[pair]} of {count} were accepted")


def _ours(record: Record) -> bool:
    """Leave out the control plane's own notices."""
    return record.sender != "conductor"


def _seen(life: Life) -> Iterable[str]:
    return (event.ids[0] for event in life.events if event.kind == "seen")
