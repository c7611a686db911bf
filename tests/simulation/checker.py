"""Does a history keep every promise of docs/design/messages.md? Pure: history in, broken promises out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise

from controlplane.domain.message import Record, State
from tests.simulation.history import Acked, Acking, History, JournalLost, Letter, Sending, Sent, Shown

SLACK_MS = 20
"""An answer that was being given when the message's time was over is still given."""


class _Facts:
    """The history, by message."""

    def __init__(self, history: History) -> None:
        self.letters: dict[bytes, Letter] = {}
        self.attempts: Counter[bytes] = Counter()
        self.answers: dict[bytes, list[Sent]] = defaultdict(list)
        self.shown: dict[bytes, list[Shown]] = defaultdict(list)
        self.asked: set[bytes] = set()
        self.lost_journals: set[str] = set()
        self.notices = {notice for notice, _ in history.notices}
        self.small_mailboxes = history.small_mailboxes
        self.max_attempts = history.max_attempts
        self.told = Counter(about for _, about in history.notices)
        self.records: dict[bytes, list[Record]] = defaultdict(list)
        for happening in history.happenings:
            match happening:
                case Letter():
                    self.letters[happening.id] = happening
                case Sending():
                    self.attempts[happening.id] += 1
                case Sent():
                    self.answers[happening.id].append(happening)
                case Shown():
                    self.shown[happening.id].append(happening)
                case Acking():
                    self.asked.add(happening.id)
                case JournalLost():
                    self.lost_journals.add(happening.agent)
                case _:
                    pass
        for record in history.records:
            self.records[record.message_id].append(record)

    def may_expire(self, key: bytes) -> bool:
        """Whether its time may have been over while it held up others."""
        return key in self.letters and self.letters[key].expire_time_ms > 0

    def accepted(self, letter: Letter) -> bool:
        return any(sent.answer == "accepted" for sent in self.answers[letter.id])

    def refused(self, letter: Letter) -> bool:
        """Whether every attempt to send it was refused for good."""
        answers = self.answers[letter.id]
        refused = sum(sent.answer == "refused" for sent in answers)
        return refused > 0 and refused == self.attempts[letter.id]


def broken(history: History) -> list[str]:
    """Return every promise that was broken, in words; empty is what is wanted."""
    facts = _Facts(history)
    found = list(history.troubles)
    for letter in facts.letters.values():
        found += _kept(letter, facts) if letter.durable else _passed(letter, facts)
        found += _honest(letter, facts)
    found += _invented(facts)
    found += _once(history)
    found += _in_order(history, facts)
    found += _held_up(history, facts)
    found += _stored_in_order(facts)
    return found


def _name(letter: Letter) -> str:
    quality = "durable" if letter.durable else "ephemeral"
    return f"{quality} message {letter.number} from {letter.sender} to {letter.recipient}"


def _kept(letter: Letter, facts: _Facts) -> Iterator[str]:
    """A durable message that was accepted is never lost and ends once."""
    records, name = facts.records[letter.id], _name(letter)
    if not records:
        if facts.accepted(letter):
            yield f"lost: {name} was accepted and is nowhere"
        if facts.shown[letter.id]:
            yield f"invented: {name} was shown and never stored"
        return
    if len(records) > 1:
        yield f"stored twice: {name}"
    if facts.refused(letter):
        yield f"refused and stored: {name}"
    record = records[0]
    final = [state for state, _ in record.hops if state.final]
    ranks = [state.rank for state, _ in record.hops]
    if len(final) != 1:
        yield f"final states: {name} has {[state.value for state in final]}"
    again = [state for (state, _), (other, _) in pairwise(record.hops) if state is other]
    if ranks != sorted(ranks) or any(state is not State.SEEN for state in again):
        yield f"states go back: {name} went {[state.value for state, _ in record.hops]}"
    if letter.recipient not in facts.lost_journals:
        yield from _counted(letter, record, facts)
    if record.state is State.ACKED and letter.id not in facts.asked:
        yield f"lost: {name} is ACKED and its recipient never acknowledged it"
    least = 0 if facts.small_mailboxes else 1
    if record.state is State.BOUNCED and not least <= facts.told[letter.id] <= 1:
        yield f"its sender was told {facts.told[letter.id]} times that it bounced: {name}"
    if record.state is State.ACKED and not facts.shown[letter.id]:
        yield f"lost: {name} is ACKED and was never shown"


def _counted(letter: Letter, record: Record, facts: _Facts) -> Iterator[str]:
    """An attempt is an agent process that fetched the message; only who was given all of them is a dead letter."""
    processes = len({shown.process for shown in facts.shown[letter.id]})
    if record.state in {State.ACKED, State.DEAD} and record.attempts < processes:
        yield f"counted {record.attempts} of the {processes} processes that were shown {_name(letter)}"
    if record.state is State.DEAD and record.attempts < facts.max_attempts:
        yield f"given up after {record.attempts} attempts of {facts.max_attempts}: {_name(letter)}"


def _passed(letter: Letter, facts: _Facts) -> Iterator[str]:
    """An ephemeral message is shown once at most, ever, and never after its sender was told that it is not."""
    if facts.records[letter.id]:
        yield f"stored: {_name(letter)}"
    if len(facts.shown[letter.id]) > 1:
        yield f"shown twice: {_name(letter)}"
    if facts.refused(letter) and facts.shown[letter.id]:
        yield f"refused and shown: {_name(letter)}"


def _honest(letter: Letter, facts: _Facts) -> Iterator[str]:
    """Whoever is shown a message is its recipient, is told its sender, and sees when it is not the first to see it."""
    before: set[int] = set()
    for shown in facts.shown[letter.id]:
        if shown.agent != letter.recipient:
            yield f"shown to {shown.agent}: {_name(letter)}"
        if shown.claimed != f"agent/{letter.sender}":
            yield f"said to be from {shown.claimed}: {_name(letter)}"
        if letter.expire_time_ms and shown.time_ms >= letter.expire_time_ms + SLACK_MS:
            yield f"shown {shown.time_ms - letter.expire_time_ms} ms after its time was over: {_name(letter)}"
        if before and shown.attempt == 1 and shown.agent not in facts.lost_journals:
            yield f"repeated without saying so: {_name(letter)}"
        before.add(shown.process)


def _invented(facts: _Facts) -> Iterator[str]:
    for key in (*facts.shown, *facts.records):
        if key not in facts.letters and key not in facts.notices:
            yield f"nobody sent {key.hex()}"


def _once(history: History) -> Iterator[str]:
    """Never twice to one agent process, never again after it was acknowledged (unless the disk that knew it was lost)."""
    seen: Counter[tuple[str, int, bytes]] = Counter()
    acked: set[tuple[str, bytes]] = set()
    for happening in history.happenings:
        match happening:
            case Shown(id=key, agent=agent, process=process):
                seen[agent, process, key] += 1
                if seen[agent, process, key] == 2:
                    yield f"shown twice to process {process} of {agent}: position {happening.position}"
                if (agent, key) in acked:
                    yield f"shown to {agent} after it was acknowledged: position {happening.position}"
            case Acked(id=key, agent=agent):
                acked.add((agent, key))
            case JournalLost(agent=agent):
                acked = {pair for pair in acked if pair[0] != agent}
            case _:
                pass


def _in_order(history: History, facts: _Facts) -> Iterator[str]:
    """One agent process sees the messages of a sender, of one quality, in the order in which they were sent."""
    last: dict[tuple[object, ...], int] = {}
    for happening in history.happenings:
        if not isinstance(happening, Shown) or happening.id not in facts.letters:
            continue
        letter = facts.letters[happening.id]
        key = (happening.agent, happening.process, letter.sender, letter.durable)
        if letter.number <= last.get(key, 0):
            yield f"out of order: process {happening.process} saw {_name(letter)} after {last[key]}"
        last[key] = max(letter.number, last.get(key, 0))


def _held_up(history: History, facts: _Facts) -> Iterator[str]:
    """What an earlier process did not acknowledge comes alone of its sender, until it is acknowledged or given up."""
    first: dict[tuple[str, bytes], int] = {}
    failing: dict[tuple[str, int, str], Shown] = {}
    asked: set[bytes] = set()
    for happening in history.happenings:
        match happening:
            case Acking(id=key):
                asked.add(key)
            case Shown(id=key, agent=agent, process=process, position=position) if position:
                pair = (agent, process, happening.claimed)
                before = failing.get(pair)
                if before is not None and before.id not in asked and not facts.may_expire(before.id):
                    yield f"position {position} of {agent} went past {before.position}, at which a process before failed"
                if first.setdefault((agent, key), process) != process and agent not in facts.lost_journals:
                    failing[pair] = happening
            case _:
                pass


def _stored_in_order(facts: _Facts) -> Iterator[str]:
    """Positions have no gaps and never repeat, and follow the order of sending for each pair."""
    by_mailbox: dict[str, list[Record]] = defaultdict(list)
    for records in facts.records.values():
        for record in records:
            by_mailbox[record.mailbox].append(record)
    for mailbox, records in by_mailbox.items():
        records.sort(key=lambda record: record.position)
        if [record.position for record in records] != list(range(1, len(records) + 1)):
            yield f"positions of {mailbox} have gaps or repeat: {[record.position for record in records]}"
        last: dict[str, int] = {}
        for record in records:
            letter = facts.letters.get(record.message_id)
            if letter is None:
                continue
            if letter.number <= last.get(letter.sender, 0):
                yield f"stored out of order: {_name(letter)} behind {last[letter.sender]}"
            last[letter.sender] = max(letter.number, last.get(letter.sender, 0))
