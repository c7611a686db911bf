"""The SQLite mailboxes, made of runs, tell the same as those in memory, made of single messages, whatever happens."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.backends.memory.mailbox_store import MemoryMailboxStore
from controlplane.backends.sqlite.stores import open_sqlite
from controlplane.domain.message import IncomingFrame, Letter, Receipt, Redrive, State
from controlplane.interfaces.letter_store import LetterStore
from controlplane.interfaces.mailbox_store import KEPT_MS, MailboxLimits
from tests.contract.samples import START_MS, HandClock, frame, message_id

LIMITS = MailboxLimits(messages=25, bytes=4000, attempts=2, kept=12)
BOXES = ("default/a", "default/b")
STEPS = 25

boxes = st.sampled_from(BOXES)
positions = st.integers(0, 45)


@st.composite
def frames(draw: st.DrawFn) -> IncomingFrame:
    numbers = draw(
        st.one_of(st.lists(st.integers(0, 60), min_size=1, max_size=8), st.integers(0, 55).map(lambda n: [*range(n, n + 6)]))
    )
    return frame(
        *numbers,
        mailbox=draw(boxes),
        sender=draw(st.sampled_from(("agent/x", "agent/y"))),
        expire_time_ms=draw(st.sampled_from((0, START_MS + 5, START_MS + 15, START_MS + KEPT_MS))),
        frame=b"x" * draw(st.integers(1, 600)),
    )


@st.composite
def publications(draw: st.DrawFn) -> IncomingFrame:
    recipients = draw(st.lists(boxes, max_size=2, unique=True).map(tuple))
    return draw(frames())._replace(mailbox="default/topic/x", recipients=recipients)


async def copy_next(store: LetterStore, most: int, now_ms: int) -> object:
    """Make copies of the oldest publication that has some left."""
    unfinished = await store.unfinished()
    return [unfinished[0], await store.copy(unfinished[0].number, most, now_ms)] if unfinished else []


@dataclass(frozen=True)
class Step:
    """One call, and whether it lets time pass before."""

    name: str
    call: Callable[[LetterStore, int], Awaitable[object]]
    pause_ms: int = 1


receipts = st.builds(
    lambda first, length, state, reason, attempt: Receipt(first, first + length, state, reason, attempt, reason),
    positions,
    st.integers(0, 12),
    st.sampled_from([state for state in State if state is not State.ACCEPTED]),
    st.sampled_from(("", "why")),
    st.integers(0, 3),
)


async def letters(store: LetterStore, box: str, most: int) -> list[Letter]:
    found = await store.list("default", box, frozenset({State.DEAD}), b"", most)
    return [Letter(record.message_id, record.mailbox, record.position) for record in found]


async def redrive(store: LetterStore, box: str, most: int, now: int) -> object:
    return await store.redrive([Redrive(each, b"alone", now + 50, "again") for each in await letters(store, box, most)], now)


async def purge(store: LetterStore, box: str, most: int, now: int) -> object:
    return sorted(await store.purge(await letters(store, box, most), now), key=lambda record: record.position)


async def tell(store: LetterStore, _: int) -> None:
    """Tell the oldest."""
    await store.told(await store.owed(2))


steps = st.one_of(
    st.builds(
        lambda some: Step(f"append {some}", lambda store, _: store.append(some)), st.lists(frames(), min_size=1, max_size=3)
    ),
    st.builds(
        lambda box, some: Step(f"record {box} {some}", lambda store, now: store.record(box, some, now)),
        boxes,
        st.lists(receipts, min_size=1, max_size=4),
    ),
    st.builds(
        lambda box, first, length: Step(
            f"give_up {box} {first} {first + length}",
            lambda store, now: store.give_up(box, first, first + length, "why it ended", now),
        ),
        boxes,
        positions,
        st.integers(0, 20),
    ),
    st.builds(lambda some: Step(f"publish {some}", lambda store, _: store.publish(some)), publications()),
    st.builds(lambda most: Step(f"copy {most}", lambda store, now: copy_next(store, most, now)), st.integers(1, 2)),
    st.builds(
        lambda box, most: Step(f"redrive {box} {most}", lambda store, now: redrive(store, box, most, now)),
        boxes,
        st.integers(1, 4),
    ),
    st.builds(
        lambda box, most: Step(f"purge {box} {most}", lambda store, now: purge(store, box, most, now)),
        boxes,
        st.integers(1, 4),
    ),
    st.builds(lambda box: Step(f"end {box}", lambda store, _: store.end(box)), boxes),
    st.just(Step("owed", lambda store, _: store.owed(5))),
    st.just(Step("told", tell)),
    st.builds(lambda box: Step(f"close {box}", lambda store, now: store.close(box, "closed", now)), boxes),
    st.builds(
        lambda pause: Step(f"expire after {pause}", lambda store, now: store.expire(now), pause),
        st.sampled_from((1, 10, KEPT_MS)),
    ),
    st.builds(
        lambda box, after, size: Step(f"read {box} {after} {size}", lambda store, _: store.read(box, after, size)),
        boxes,
        positions,
        st.sampled_from((0, 500, 1 << 20)),
    ),
    st.builds(
        lambda box, wanted, after, limit: Step(
            f"list {box} {wanted} {after} {limit}",
            lambda store, _: store.list("default", box, wanted, message_id(after) if after else b"", limit),
        ),
        st.sampled_from(("", *BOXES)),
        st.frozensets(st.sampled_from(State), max_size=3),
        st.integers(0, 60),
        st.sampled_from((1, 5, 100)),
    ),
)


def told(step: Step, answer: object) -> object:
    """Make answers comparable: `expire` promises no order."""
    if not isinstance(answer, list | tuple):
        return answer
    if step.name.startswith("expire"):
        return sorted(answer, key=lambda record: (record.mailbox, record.position))
    return list(answer)


async def play(script: list[Step]) -> None:
    memory = MemoryMailboxStore(LIMITS)
    with tempfile.TemporaryDirectory() as folder:
        stores = open_sqlite(Path(folder) / "x.db", HandClock(), LIMITS)
        now = START_MS
        for step in script:
            now += step.pause_ms
            simple = told(step, await step.call(memory, now))
            assert told(step, await step.call(stores.mailboxes, now)) == simple, step.name
        for number in range(61):
            simple_found = {record.key: (record, content) for record, content in await memory.find("default", message_id(number))}
            for record, content in await stores.mailboxes.find("default", message_id(number)):
                expected, sent = simple_found.pop(record.key)
                assert record == expected
                assert content in ({sent, b""} if record.state is State.ACKED else {sent})
            assert simple_found == {}
        await stores.close()


@settings(max_examples=80, deadline=None)
@given(script=st.lists(steps, min_size=5, max_size=STEPS))
def test_both_tell_the_same(script: list[Step]) -> None:
    asyncio.run(play(script))
