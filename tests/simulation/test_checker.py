"""The checker sees every broken promise: written by hand, and planted in the real code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from agent_sidecar.uplink.inbox import Inbox
from agent_sidecar.uplink.outbox import Outbox
from claude_conductor.v1 import session_service_pb2
from controlplane.backends.memory.mailbox_store import MemoryMailboxStore
from controlplane.domain.message import Accepted, Outcome, Receipt, Record, Redrive, State
from controlplane.domain.message import Letter as DeadLetter
from tests.simulation.checker import broken
from tests.simulation.history import Acked, Acking, Asking, History, JournalLost, Letter, Redriving, Sending, Sent, Shown, Waited
from tests.simulation.slot import Slot
from tests.simulation.world import play


def message_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def record(number: int, position: int, *states: State) -> Record:
    hops = tuple((state, index) for index, state in enumerate((State.ACCEPTED, *states)))
    return Record(message_id(number), "agent/a", "default/b", "letter", hops[-1][0], "", 2, 0, 1, 0, position, hops)


def shown(number: int, process: int = 1, attempt: int = 1) -> Shown:
    return Shown(message_id(number), "b", process, "b", number, attempt, "agent/a", 1000)


def good() -> History:
    """Two durable messages and an ephemeral one, all well; the second was seen by two processes."""
    history = History()
    for number in (1, 2):
        history.add(Letter(message_id(number), "a", "b", durable=True, number=number))
        history.add(Sending(message_id(number)))
        history.add(Sent(message_id(number), "accepted"))
    history.add(Letter(message_id(9), "a", "b", durable=False, number=1))
    history.add(Sending(message_id(9)))
    history.add(Sent(message_id(9), "accepted"))
    history.add(replace(shown(9), position=0))
    for happening in (shown(1), shown(2), Acking(message_id(1), "b"), Acked(message_id(1), "b"), shown(2, 2, 2)):
        history.add(happening)
    history.add(Acking(message_id(2), "b"))
    history.add(Acked(message_id(2), "b"))
    history.records = [record(1, 1, State.AT_SIDECAR, State.ACKED), record(2, 2, State.ACKED)]
    return history


def test_a_good_history_keeps_every_promise() -> None:
    assert broken(good()) == []


def without(kind: type[object], number: int) -> Callable[[History], None]:
    def change(history: History) -> None:
        history.happenings = [
            each for each in history.happenings if not (isinstance(each, kind) and getattr(each, "id", b"") == message_id(number))
        ]

    return change


def adding(*happenings: object) -> Callable[[History], None]:
    return lambda history: history.happenings.extend(happenings)  # type: ignore[arg-type]


def records(*found: Record) -> Callable[[History], None]:
    return lambda history: setattr(history, "records", list(found))


def overtaken(history: History) -> None:
    """A third message is shown to the second process while the one at which the first failed is not acknowledged."""
    history.happenings[-2:-2] = [Letter(message_id(3), "a", "b", durable=True, number=3), shown(3, 2)]


FIRST, SECOND = record(1, 1, State.ACKED), record(2, 2, State.ACKED)
ALL = [
    (records(SECOND), "lost"),
    (without(Shown, 1), "never shown"),
    (without(Acking, 1), "never acknowledged"),
    (adding(shown(2, 2, 2)), "shown twice to process 2"),
    (adding(shown(1, 3, 2)), "after it was acknowledged"),
    (adding(shown(2, 3), shown(1, 3)), "out of order"),
    (adding(shown(2, 3, 1)), "repeated without saying so"),
    (adding(replace(shown(9), position=0, process=2)), "shown twice: ephemeral"),
    (adding(replace(shown(2, 3, 3), agent="c")), "shown to c"),
    (adding(replace(shown(2, 3, 3), claimed="agent/c")), "said to be from agent/c"),
    (adding(shown(7)), "nobody sent"),
    (records(FIRST, record(2, 2, State.SEEN)), "final states"),
    (records(FIRST, record(2, 2, State.ACKED, State.DEAD)), "final states"),
    (records(FIRST, record(2, 2, State.SEEN, State.AT_SIDECAR, State.ACKED)), "states go back"),
    (records(FIRST, record(2, 2, State.AT_SIDECAR, State.AT_SIDECAR, State.ACKED)), "states go back"),
    (records(FIRST, replace(SECOND, attempts=1)), "counted 1 of the 2 processes"),
    (records(FIRST, record(2, 2, State.DEAD)), "given up"),
    (overtaken, "went past"),
    (records(FIRST, SECOND, record(2, 3, State.ACKED)), "stored twice"),
    (records(record(1, 2, State.ACKED), record(2, 1, State.ACKED)), "stored out of order"),
    (records(FIRST, record(2, 3, State.ACKED)), "positions of default/b"),
    (records(FIRST, record(2, 2, State.BOUNCED)), "told 0 times"),
    (records(FIRST, SECOND, record(9, 3, State.ACKED)), "stored: ephemeral"),
    (lambda history: history.troubles.append("crash of a"), "crash of a"),
]


@pytest.mark.parametrize(("change", "words"), ALL, ids=[f"{number} {words}" for number, (_, words) in enumerate(ALL)])
def test_a_broken_promise_is_seen(change: Callable[[History], None], words: str) -> None:
    history = good()
    change(history)
    assert any(words in promise for promise in broken(history)), broken(history)


def more() -> History:
    """A message to a topic; a question with its answer; and a dead letter that was sent again."""
    history = History(max_attempts=1)
    history.add(Letter(message_id(1), "a", "topic/x", durable=True, number=1, to=("b", "c")))
    history.add(Sending(message_id(1)))
    history.add(Sent(message_id(1), "accepted", recipients=2))
    history.add(Letter(message_id(2), "a", "b", durable=True, number=2, asked=True))
    history.add(Asking(message_id(2), "a", 1))
    history.add(Sending(message_id(2)))
    for happening in (shown(1), replace(shown(1), agent="c", position=1), shown(2)):
        history.add(happening)
    history.add(Letter(message_id(3), "b", "a", durable=True, number=1, answers=message_id(2)))
    history.add(Sending(message_id(3)))
    history.add(Sent(message_id(3), "accepted"))
    history.add(Waited(message_id(2), "a", 1))
    history.add(replace(shown(3), agent="a", position=1, claimed="agent/b", reply_to=message_id(2)))
    history.add(Sent(message_id(2), "accepted"))
    history.add(Redriving(message_id(2)))
    history.revived = {(message_id(2), "b")}
    history.add(shown(2, 2))
    for number, agent in ((1, "b"), (1, "c"), (2, "b"), (3, "a")):
        history.add(Acking(message_id(number), agent))
        history.add(Acked(message_id(number), agent))
    history.records = [COPY, replace(COPY, mailbox="default/c"), AGAIN, replace(record(3, 1, State.ACKED), mailbox="default/a")]
    return history


COPY, AGAIN = record(1, 1, State.ACKED), replace(record(2, 3, State.DEAD, State.ACCEPTED, State.ACKED), attempts=1)
OTHERS = [replace(COPY, mailbox="default/c"), replace(record(3, 1, State.ACKED), mailbox="default/a")]


def test_a_good_history_with_more_in_it_keeps_every_promise() -> None:
    assert broken(more()) == []


def never_wanted(history: History) -> None:
    history.happenings = [each for each in history.happenings if not isinstance(each, Redriving)]


def replied(**changes: object) -> Callable[[History], None]:
    """Change how the answer was handed over."""

    def change(history: History) -> None:
        history.happenings = [
            replace(each, **changes) if isinstance(each, Shown) and each.reply_to else each for each in history.happenings
        ]

    return change


def fetched_early(history: History) -> None:
    """The answer is fetched before its asker stops to wait."""
    place = next(index for index, each in enumerate(history.happenings) if isinstance(each, Waited))
    answer = replace(shown(3), agent="a", position=1, claimed="agent/b")
    history.happenings = [each for each in history.happenings if not (isinstance(each, Shown) and each.reply_to)]
    history.happenings.insert(place, answer)


MORE = [
    (records(COPY, AGAIN, OTHERS[1]), "some of its readers have"),
    (records(AGAIN, OTHERS[1]), "lost"),
    (records(COPY, AGAIN, replace(COPY, mailbox="default/d"), *OTHERS), "who are no readers"),
    (lambda history: history.happenings.append(Sent(message_id(1), "accepted", recipients=3)), "was told that"),
    (adding(replace(shown(1), agent="d")), "shown to d"),
    (never_wanted, "which was wanted 0 times"),
    (records(COPY, replace(AGAIN, hops=(*AGAIN.hops[:1], *AGAIN.hops[2:])), *OTHERS), "positions of default/b"),
    (
        records(COPY, replace(AGAIN, state=State.DEAD, hops=(*AGAIN.hops[:-1], (State.DEAD, 9))), *OTHERS),
        "nothing failed any more",
    ),
    (records(COPY, replace(AGAIN, hops=(*AGAIN.hops[:1], (State.BOUNCED, 1), *AGAIN.hops[2:])), *OTHERS), "final states"),
    (replied(reply_to=message_id(1)), "was answered with"),
    (fetched_early, "fetched while it was waited for"),
]


@pytest.mark.parametrize(("change", "words"), MORE, ids=[f"{number} {words}" for number, (_, words) in enumerate(MORE)])
def test_a_broken_promise_about_many_answers_and_dead_letters_is_seen(change: Callable[[History], None], words: str) -> None:
    history = more()
    change(history)
    assert any(words in promise for promise in broken(history)), broken(history)


def test_a_refused_message_is_neither_stored_nor_shown() -> None:
    history = good()
    history.happenings = [
        replace(each, answer="refused") if isinstance(each, Sent) and each.id == message_id(2) else each
        for each in history.happenings
    ]
    assert any("refused and stored" in promise for promise in broken(history))


def test_what_a_lost_disk_knew_may_be_shown_again() -> None:
    history = good()
    history.add(JournalLost("b"))
    history.add(shown(1, 3, 1))
    assert broken(history) == []


# --- errors planted in the real code: each is found within a few schedules


class Drops(Inbox):
    """Loses every third message on the way to the agent."""

    def _sort(self, frame, new, known):
        super()._sort(frame, new, known)
        if frame.header.first_position % 3 == 0:
            new[:] = []


class ShowsTwice(Inbox):
    """Forgets that a message was fetched."""

    async def fetch(self, most, wait, request_id=""):
        received = await super().fetch(most, wait, request_id)
        for message in received[:1]:
            item = self._held._boxes.get(message.mailbox, {}).get(message.position)
            if item is not None and message.position % 3 == 0:
                item.seen = False
        return received


class Swaps(Inbox):
    """Hands messages over in another order."""

    async def fetch(self, most, wait, request_id=""):
        return (await super().fetch(most, wait, request_id))[::-1]


class LosesAcknowledgements(Inbox):
    """Tells the agent that a message is acknowledged and nobody else."""

    async def acknowledge(self, mailbox: str, positions: Sequence[int]) -> None:
        await super().acknowledge(mailbox, [position for position in positions if position % 3])


class ForgetsWhatItShowed(Inbox):
    """Takes what comes again for new."""

    def positions(self) -> dict[str, int]:
        return {}

    async def deliver(self, delivery: session_service_pb2.Delivery, size: int = 0) -> None:
        for frame in delivery.frames:
            self._cursors.pop(frame.header.mailbox, None)
        await super().deliver(delivery, size)


class LeaksCredit(Inbox):
    """Counts a delivery twice."""

    async def deliver(self, delivery: session_service_pb2.Delivery, size: int = 0) -> None:
        self._granted[0] += 1
        await super().deliver(delivery, size)


class SendsOnce(Outbox):
    """Believes that what was written arrived."""

    def resume(self, committed: int) -> int:
        super().resume(committed)
        return self._last


def a_slot(inbox: type[Inbox] = Inbox, outbox: type[Outbox] = Outbox) -> type[Slot]:
    return type("MutantSlot", (Slot,), {"inbox_type": inbox, "outbox_type": outbox})


class StoresAcknowledgedAgain(MemoryMailboxStore):
    """Moves a message out of its final state."""

    async def record(self, mailbox: str, receipts: Sequence[Receipt], now_ms: int) -> Sequence[Record]:
        ended = await super().record(mailbox, receipts, now_ms)
        for frames in self._frames.values():
            for frame in frames.values():
                for message in frame.messages:
                    if message.state is State.ACKED and message.position % 3 == 0:
                        message.hops.append((State.DEAD, now_ms))
        return ended


class ForgetsRepeats(MemoryMailboxStore):
    """Stores what was stored before."""

    def _append(self, incoming) -> Outcome:
        self._seen.clear()
        return super()._append(incoming)


class LosesFrames(MemoryMailboxStore):
    """Says that a frame is stored and stores nothing."""

    def _append(self, incoming) -> Outcome:
        outcome = super()._append(incoming)
        box = self._mailboxes.get(incoming.mailbox)
        if box is not None and box.open and box.next_position % 3 == 0:
            frame = box.open.pop()
            box.messages -= len(frame.messages)
            for frames in self._frames.values():
                frames.pop(id(frame), None)
        return outcome


class CopiesToAllButOne(MemoryMailboxStore):
    """Forgets the last recipient of a publication."""

    async def publish(self, frame):
        outcome, number = await super().publish(frame._replace(recipients=(frame.recipients or ())[:-1]))
        return (Accepted(0, len(frame.recipients or ())) if number else outcome), number


class CopiesToItsSender(MemoryMailboxStore):
    """Gives publishers what they published."""

    async def publish(self, frame):
        own = "default/" + frame.sender.removeprefix("agent/")
        outcome, number = await super().publish(frame._replace(recipients=(*(frame.recipients or ()), own)))
        return (Accepted(0, len(frame.recipients or ())) if number else outcome), number


class LosesWhatIsSentAgain(MemoryMailboxStore):
    """Says that a dead letter is accepted and forgets it."""

    def _redrive(self, again, found, now_ms):
        if found is not None:
            found[1].gone = True
        return Accepted(99) if found is not None else super()._redrive(again, found, now_ms)


class SendsAgainByItself(MemoryMailboxStore):
    """Gives dead letters another chance nobody asked for."""

    async def record(self, mailbox: str, receipts: Sequence[Receipt], now_ms: int) -> Sequence[Record]:
        ended = await super().record(mailbox, receipts, now_ms)
        for each in ended:
            if each.state is State.DEAD:
                ((_, content), *_) = await self.find("default", each.message_id)
                letter = DeadLetter(each.message_id, each.mailbox, each.position)
                await self.redrive([Redrive(letter, content, each.expire_time_ms, "by itself")], now_ms)
        return ended


class FetchesAnswers(Inbox):
    """Lets a fetch have what somebody waits for."""

    def _unseen(self, most):
        self._expected.clear()
        return super()._unseen(most)

    def _answers(self, message_id, *, bounces):
        return [pair for pair in super()._answers(message_id, bounces=bounces) if not pair[1].seen]


class AnswersWithAnything(Inbox):
    """Takes whatever comes for the answer."""

    def _answers(self, message_id, *, bounces):
        del message_id, bounces
        return super()._unseen(1)


MUTANTS = [
    pytest.param(Slot, CopiesToAllButOne, "readers have", id="a copy is missing"),
    pytest.param(Slot, CopiesToItsSender, "no readers", id="a copy too many"),
    pytest.param(Slot, LosesWhatIsSentAgain, "lost", id="a dead letter is lost when it is sent again"),
    pytest.param(Slot, SendsAgainByItself, "which was wanted", id="a dead letter is sent again by itself"),
    pytest.param(a_slot(FetchesAnswers), MemoryMailboxStore, "while it was waited for", id="a fetch takes an answer"),
    pytest.param(a_slot(AnswersWithAnything), MemoryMailboxStore, "was answered with", id="anything is an answer"),
    pytest.param(a_slot(Drops), MemoryMailboxStore, "", id="a message is dropped"),
    pytest.param(a_slot(ShowsTwice), MemoryMailboxStore, "shown twice to process", id="a message is shown twice"),
    pytest.param(a_slot(Swaps), MemoryMailboxStore, "out of order", id="messages are swapped"),
    pytest.param(a_slot(LosesAcknowledgements), MemoryMailboxStore, "stuck", id="an acknowledgement is lost"),
    pytest.param(a_slot(ForgetsWhatItShowed), MemoryMailboxStore, "", id="what was acknowledged comes again"),
    pytest.param(a_slot(LeaksCredit), MemoryMailboxStore, "credit leak", id="credit leaks"),
    pytest.param(a_slot(outbox=SendsOnce), MemoryMailboxStore, "stuck", id="what a broken link lost is not sent again"),
    pytest.param(Slot, StoresAcknowledgedAgain, "final states", id="a second final state"),
    pytest.param(Slot, ForgetsRepeats, "stored twice", id="a repeat is stored"),
    pytest.param(Slot, LosesFrames, "lost", id="the store loses a frame"),
]


@pytest.mark.parametrize(("slot_type", "store_type", "words"), MUTANTS)
def test_an_error_planted_in_the_code_is_found(slot_type: type[Slot], store_type: type[MemoryMailboxStore], words: str) -> None:
    for seed in range(500):
        _, problems = play(seed, slot_type, store_type)
        if any(words in problem for problem in problems):
            return
    pytest.fail("500 schedules did not find it")
