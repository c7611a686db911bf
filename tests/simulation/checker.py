"""Does a history keep every promise of docs/design/messages.md? Pure: history in, broken promises out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise

from controlplane.domain.message import Record, State
from controlplane.domain.routing import local_name
from controlplane.interfaces.publication_store import FULL
from tests.simulation.history import Acked, Acking, Asking, History, JournalLost, Letter, Redriving, Sending, Sent, Shown, Waited

SLACK_MS = 20
"""An answer that was being given when the message's time was over is still given."""


class _Facts:
    """The history, by message."""

    def __init__(self, history: History) -> None:
        self.letters: dict[bytes, Letter] = {}
        self.attempts: Counter[bytes] = Counter()
        self.answers: dict[bytes, list[Sent]] = defaultdict(list)
        self.shown: dict[bytes, list[Shown]] = defaultdict(list)
        self.asked: set[tuple[bytes, str]] = set()
        self.wishes: Counter[bytes] = Counter()
        """How often somebody wanted a dead letter sent again."""
        self.lost_journals: set[str] = set()
        self.notices = {notice for notice, _ in history.notices}
        self.small_mailboxes = history.small_mailboxes
        self.revived = history.revived
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
                    self.asked.add((happening.id, happening.agent))
                case Redriving():
                    self.wishes[happening.id] += 1
                case JournalLost():
                    self.lost_journals.add(happening.agent)
                case _:
                    pass
        for record in history.records:
            self.records[record.message_id].append(record)

    def may_expire(self, key: bytes) -> bool:
        """Whether its time may have been over while it held up others."""
        return key in self.letters and self.letters[key].expire_time_ms > 0 and not self.wishes[key]

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
    found += _answered(history, facts)
    found += _stored_in_order(facts)
    return found


def _name(letter: Letter) -> str:
    quality = "durable" if letter.durable else "ephemeral"
    return f"{quality} message {letter.number} from {letter.sender} to {letter.recipient}"


def _kept(letter: Letter, facts: _Facts) -> Iterator[str]:
    """A durable message that was accepted is never lost, and ends once for each of its readers."""
    records, name = facts.records[letter.id], _name(letter)
    by_reader = {local_name(record.mailbox): record for record in records}
    told = {sent.recipients for sent in facts.answers[letter.id] if sent.answer == "accepted"}
    if told - {len(letter.readers)}:
        yield f"its sender was told that {told} get it, and {len(letter.readers)} do: {name}"
    if not records:
        if facts.accepted(letter) and letter.readers:
            yield f"lost: {name} was accepted and is nowhere"
        if facts.shown[letter.id]:
            yield f"invented: {name} was shown and never stored"
        return
    if len(records) > len(by_reader):
        yield f"stored twice: {name}"
    if strangers := by_reader.keys() - set(letter.readers):
        yield f"in the mailbox of {strangers}, who are no readers of it: {name}"
    if missing := set(letter.readers) - by_reader.keys():
        yield f"lost: some of its readers have {name}, {missing} have not"
    if facts.refused(letter):
        yield f"refused and stored: {name}"
    for reader, record in by_reader.items():
        yield from _ended(letter, reader, record, facts)


def _ended(letter: Letter, reader: str, record: Record, facts: _Facts) -> Iterator[str]:
    """For one reader it ends once; as a dead letter it may be sent again if somebody wants that, and then ends once more."""
    name = f"{_name(letter)} for {reader}" if letter.shared else _name(letter)
    lives = _lives(record)
    for life in lives:
        final = [state for state in life if state.final]
        if len(final) != 1 or (life is not lives[-1] and final != [State.DEAD]):
            yield f"final states: {name} has {[state.value for state in final]}"
        again = [state for state, other in pairwise(life) if state is other]
        ranks = [state.rank for state in life]
        if ranks != sorted(ranks) or any(state is not State.SEEN for state in again):
            yield f"states go back: {name} went {[state.value for state, _ in record.hops]}"
    if len(lives) - 1 > facts.wishes[letter.id]:
        yield f"sent again {len(lives) - 1} times, which was wanted {facts.wishes[letter.id]} times: {name}"
    if (letter.id, reader) in facts.revived and record.state is not State.ACKED and not facts.may_expire(letter.id):
        yield f"sent again when nothing failed any more, and {record.state.value}: {name}"
    seen = [shown for shown in facts.shown[letter.id] if shown.agent == reader]
    if reader not in facts.lost_journals:
        yield from _counted(letter, record, facts, len({shown.process for shown in seen}))
    if record.state is State.ACKED and (letter.id, reader) not in facts.asked:
        yield f"lost: {name} is ACKED and its recipient never acknowledged it"
    least = 0 if facts.small_mailboxes else 1
    if record.state is State.BOUNCED and not least <= facts.told[letter.id] <= 1:
        yield f"its sender was told {facts.told[letter.id]} times that it bounced: {name}"
    if record.state is State.ACKED and not seen:
        yield f"lost: {name} is ACKED and was never shown"


def _lives(record: Record) -> list[list[State]]:
    """Return the states it went through, anew each time it was sent again."""
    lives: list[list[State]] = []
    for state, _ in record.hops:
        if not lives or (state is State.ACCEPTED and lives[-1][-1] is State.DEAD):
            lives.append([])
        lives[-1].append(state)
    return lives


def _counted(letter: Letter, record: Record, facts: _Facts, processes: int) -> Iterator[str]:
    """An attempt is an agent process that fetched the message; only who was given all of them is a dead letter."""
    sent_again = len(_lives(record)) > 1  # then they are counted anew
    if record.state in {State.ACKED, State.DEAD} and record.attempts < processes and not sent_again:
        yield f"counted {record.attempts} of the {processes} processes that were shown {_name(letter)}"
    no_room = letter.shared and facts.small_mailboxes and record.reason == FULL
    if record.state is State.DEAD and record.attempts < facts.max_attempts and not no_room:
        yield f"given up after {record.attempts} attempts of {facts.max_attempts}: {_name(letter)}"


def _passed(letter: Letter, facts: _Facts) -> Iterator[str]:
    """An ephemeral message is shown to a reader once at most, ever, and never after its sender was told that it is not."""
    if facts.records[letter.id]:
        yield f"stored: {_name(letter)}"
    if max(Counter(shown.agent for shown in facts.shown[letter.id]).values(), default=0) > 1:
        yield f"shown twice: {_name(letter)}"
    if facts.refused(letter) and facts.shown[letter.id]:
        yield f"refused and shown: {_name(letter)}"


def _honest(letter: Letter, facts: _Facts) -> Iterator[str]:
    """Whoever is shown a message is its recipient, is told its sender, and sees when it is not the first to see it."""
    before: set[tuple[str, int]] = set()
    for shown in facts.shown[letter.id]:
        if shown.agent not in letter.readers:
            yield f"shown to {shown.agent}: {_name(letter)}"
        if shown.claimed != f"agent/{letter.sender}":
            yield f"said to be from {shown.claimed}: {_name(letter)}"
        if facts.may_expire(letter.id) and shown.time_ms >= letter.expire_time_ms + SLACK_MS:
            yield f"shown {shown.time_ms - letter.expire_time_ms} ms after its time was over: {_name(letter)}"
        again = any(agent == shown.agent for agent, _ in before)
        if again and shown.attempt == 1 and shown.agent not in facts.lost_journals and not facts.wishes[letter.id]:
            yield f"repeated without saying so: {_name(letter)}"
        before.add((shown.agent, shown.process))


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
    """One agent process sees the messages of a sender, of one quality, in the order in which they were sent.

    But for the answer it waits for, which comes first, and dead letters that are sent again, which come last.
    """
    last: dict[tuple[object, ...], int] = {}
    for happening in history.happenings:
        if not isinstance(happening, Shown) or happening.id not in facts.letters:
            continue
        letter = facts.letters[happening.id]
        if happening.reply_to or facts.wishes[letter.id]:
            continue
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
            case Shown(id=key, agent=agent, process=process, position=position) if position and not happening.reply_to:
                pair = (agent, process, happening.claimed)
                before = failing.get(pair)
                if before is not None and before.id not in asked and not facts.may_expire(before.id):
                    yield f"position {position} of {agent} went past {before.position}, at which a process before failed"
                anew = happening.attempt == 1 and facts.wishes[key]
                if first.setdefault((agent, key), process) != process and agent not in facts.lost_journals and not anew:
                    failing[pair] = happening
            case _:
                pass


def _answered(history: History, facts: _Facts) -> Iterator[str]:
    """Who waits for an answer is handed that and nothing else, and no fetch of the same process takes it away meanwhile."""
    waiting: set[tuple[str, int, bytes]] = set()
    asked: set[bytes] = set()
    for happening in history.happenings:
        match happening:
            case Asking(id=key, agent=agent, process=process):
                if key not in asked:  # of a question that is asked again, a fetch may have had the answer in between
                    waiting.add((agent, process, key))
                asked.add(key)
            case Waited(id=key, agent=agent, process=process):
                waiting.discard((agent, process, key))
            case Shown(id=key, agent=agent, process=process, reply_to=question) if key in facts.letters:
                letter = facts.letters[key]
                if question and letter.answers != question:
                    yield f"{_name(facts.letters[question])} was answered with {_name(letter)}"
                if not question and (agent, process, letter.answers) in waiting:
                    yield f"fetched while it was waited for: {_name(letter)}"
            case _:
                pass


def _stored_in_order(facts: _Facts) -> Iterator[str]:
    """Positions never repeat, have no gaps but those of letters that were sent again, and follow the order of sending."""
    by_mailbox: dict[str, list[Record]] = defaultdict(list)
    for records in facts.records.values():
        for record in records:
            by_mailbox[record.mailbox].append(record)
    for mailbox, records in by_mailbox.items():
        records.sort(key=lambda record: record.position)
        moved = [record for record in records if len(_lives(record)) > 1]
        left = sum(len(_lives(record)) - 1 for record in moved)
        if len({record.position for record in records}) < len(records) or records[-1].position != len(records) + left:
            yield f"positions of {mailbox} have gaps or repeat: {[record.position for record in records]}"
        last: dict[str, int] = {}
        for record in records:
            letter = facts.letters.get(record.message_id)
            if letter is None or record in moved:
                continue
            if letter.number <= last.get(letter.sender, 0):
                yield f"stored out of order: {_name(letter)} behind {last[letter.sender]}"
            last[letter.sender] = max(letter.number, last.get(letter.sender, 0))
