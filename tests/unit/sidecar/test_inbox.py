"""The inbox: each message once per agent process, whatever is repeated, reordered or restarted."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from agent_sidecar.uplink.frames import content_size
from agent_sidecar.uplink.inbox import Inbox, InboxLimits, receipts
from agent_sidecar.uplink.repeats import ANSWERS_KEPT
from claude_conductor.errors import MessageNotFoundError
from claude_conductor.v1 import message_pb2
from claude_conductor.v1 import session_service_pb2 as pb
from tests.fakes.boxes import Boxes, delivery

STATES = {
    message_pb2.MESSAGE_STATE_AT_SIDECAR: "at",
    message_pb2.MESSAGE_STATE_SEEN: "seen",
    message_pb2.MESSAGE_STATE_ACKED: "acked",
    message_pb2.MESSAGE_STATE_BOUNCED: "bounced",
    message_pb2.MESSAGE_STATE_DEAD: "dead",
}


async def told(boxes: Boxes) -> list[tuple[str, str, int, int]]:
    return [
        (STATES[receipt.state], receipt.mailbox, receipt.from_position, receipt.to_position)
        for request in await boxes.wire()
        for receipt in request.receipts.receipts
    ]


def test_receipts_of_consecutive_positions_are_ranges():
    frame = receipts([("a", 1), ("a", 2), ("a", 4), ("b", 5)], message_pb2.MESSAGE_STATE_SEEN)
    ranges = pb.ConnectRequest.FromString(frame.body).receipts.receipts
    assert [(r.mailbox, r.from_position, r.to_position) for r in ranges] == [("a", 1, 2), ("a", 4, 4), ("b", 5, 5)]


async def test_a_message_goes_through_its_states(boxes: Boxes):
    await boxes.inbox.deliver(delivery("agent-1", 1, "a", "b"))
    (first,) = await boxes.inbox.fetch(1, 0)
    assert (first.position, first.attempt, first.sender, first.mailbox) == (1, 1, "agent/x", "agent-1")
    (second,) = await boxes.inbox.fetch(10, 0)
    assert await boxes.inbox.fetch(10, 0) == []
    await boxes.inbox.acknowledge("agent-1", [2])
    await boxes.inbox.acknowledge("agent-1", [2])
    assert await told(boxes) == [
        ("at", "agent-1", 1, 2),
        ("seen", "agent-1", 1, 1),
        ("seen", "agent-1", 2, 2),
        ("acked", "agent-1", 2, 2),
    ]
    assert boxes.inbox.positions() == {"agent-1": 2}
    assert second.envelope.data == b"b"


async def test_a_message_says_what_it_was_addressed_to_also_after_a_restart(boxes: Boxes):
    await boxes.inbox.deliver(delivery("agent-1", 1, "a", recipient="topic/news"))
    await boxes.inbox.deliver(delivery("agent-1", 2, "b"))
    await boxes.inbox.deliver(delivery("agent-1", 0, "c", recipient="broadcast"))
    fetched = await boxes.inbox.fetch(10, 0)
    assert [message.addressed_to for message in fetched] == ["topic/news", "", "broadcast"]
    again = await boxes.restart()
    await again.inbox.new_process("agent-1")
    assert [message.addressed_to for message in await again.inbox.fetch(10, 0)] == ["topic/news"]
    await again.inbox.acknowledge("agent-1", [1])
    assert [message.addressed_to for message in await again.inbox.fetch(10, 0)] == [""]
    await again.close()


async def test_an_answer_to_the_agent_is_bounded_in_bytes(boxes: Boxes):
    for position in (1, 2, 3):
        await boxes.inbox.deliver(delivery("agent-1", position, "x" * 500_000))
    assert [message.position for message in await boxes.inbox.fetch(100, 0)] == [1, 2]
    assert [message.position for message in await boxes.inbox.fetch(100, 0)] == [3]


async def test_a_position_that_never_came_cannot_be_acknowledged(boxes: Boxes):
    await boxes.inbox.deliver(delivery("agent-1", 1, "a"))
    with pytest.raises(MessageNotFoundError):
        await boxes.inbox.acknowledge("agent-1", [1, 2])
    assert len(await told(boxes)) == 1


async def test_who_waits_is_woken_by_a_delivery(boxes: Boxes):
    waiting = asyncio.create_task(boxes.inbox.fetch(10, 10))
    await asyncio.sleep(0)
    await boxes.inbox.deliver(delivery("agent-1", 1, "a"))
    async with asyncio.timeout(5):
        assert len(await waiting) == 1


async def test_what_a_process_saw_is_offered_five_times_and_is_then_a_dead_letter(boxes: Boxes):
    await boxes.inbox.deliver(delivery("agent-1", 1, "poison", "later"))
    for attempt in range(1, 6):
        (message,) = await boxes.inbox.fetch(1, 0)
        assert (message.position, message.attempt) == (1, attempt)
        await boxes.inbox.new_process("agent-1", "exit code 7")
    (message,) = await boxes.inbox.fetch(1, 0)
    assert (message.position, message.attempt) == (2, 1)
    told_of = [receipt for request in await boxes.wire() for receipt in request.receipts.receipts if receipt.to_position == 1]
    assert [(STATES[receipt.state], receipt.attempt) for receipt in told_of] == [
        *(("seen", attempt) for attempt in range(1, 6)),
        ("dead", 5),
    ]
    assert (told_of[-1].reason, told_of[-1].last_error) == ("delivered 5 times without an acknowledgement", "exit code 7")


async def test_the_control_plane_says_how_often_a_message_is_offered(boxes: Boxes):
    boxes.inbox.begin_session(lambda *_: None, 2)
    await boxes.inbox.deliver(delivery("agent-1", 1, "poison"))
    for _ in range(2):
        assert await boxes.inbox.fetch(1, 0)
        await boxes.inbox.new_process("agent-1")
    assert await boxes.inbox.fetch(1, 0) == []


async def test_a_failed_head_holds_up_its_pair_and_only_its_pair(boxes: Boxes):
    first = delivery("agent-1", 1, "poison", "behind it", "and behind")
    other = delivery("agent-1", 4, "of somebody else", "and more")
    other.frames[0].header.sender = "agent/y"
    await boxes.inbox.deliver(first)
    await boxes.inbox.deliver(other)
    assert [message.position for message in await boxes.inbox.fetch(10, 0)] == [1, 2, 3, 4, 5]
    await boxes.inbox.acknowledge("agent-1", [4])
    await boxes.inbox.new_process("agent-1")
    assert [message.position for message in await boxes.inbox.fetch(10, 0)] == [1, 5]
    assert await boxes.inbox.fetch(10, 0) == []
    waiting = asyncio.create_task(boxes.inbox.fetch(10, 10))
    await asyncio.sleep(0)
    await boxes.inbox.acknowledge("agent-1", [1])
    async with asyncio.timeout(5):
        assert [message.position for message in await waiting] == [2]


async def test_a_message_that_ends_its_reader_takes_nothing_with_it(boxes: Boxes):
    await boxes.inbox.deliver(delivery("agent-1", 1, "poison", "innocent", "innocent too"))
    assert len(await boxes.inbox.fetch(10, 0)) == 3
    for _ in range(4):
        await boxes.inbox.new_process("agent-1")
        assert [message.position for message in await boxes.inbox.fetch(10, 0)] == [1]
    await boxes.inbox.new_process("agent-1")
    shown: list[tuple[int, int]] = []
    while messages := await boxes.inbox.fetch(10, 0):
        shown += [(message.position, message.attempt) for message in messages]
        await boxes.inbox.acknowledge("agent-1", [message.position for message in messages])
    assert shown == [(2, 2), (3, 2)]


async def test_attempts_are_counted_across_a_restart_of_the_sidecar(boxes: Boxes):
    await boxes.inbox.deliver(delivery("agent-1", 1, "a"))
    await boxes.inbox.fetch(1, 0)
    again = await boxes.restart()
    assert await again.inbox.fetch(1, 0) == []
    await again.inbox.new_process("agent-1")
    (message,) = await again.inbox.fetch(1, 0)
    assert message.attempt == 2
    await again.close()


async def test_the_mailbox_of_a_task_begins_anew_with_each_attempt(boxes: Boxes):
    boxes.inbox.opened("task/1")
    await boxes.inbox.deliver(delivery("task/1", 1, "a"))
    await boxes.inbox.fetch(1, 0)
    await boxes.inbox.closed("task/1")
    assert boxes.inbox.positions() == {}
    boxes.inbox.opened("task/1")
    await boxes.inbox.deliver(delivery("task/1", 1, "a", attempt=2))
    (message,) = await boxes.inbox.fetch(1, 0)
    assert message.attempt == 2
    again = await boxes.restart()
    assert again.inbox.positions() == {}
    await again.close()


async def test_what_a_dead_process_saw_of_a_task_it_did_not_take_is_offered_to_the_next(boxes: Boxes):
    boxes.inbox.opened("task/1")
    await boxes.inbox.deliver(delivery("task/1", 1, "a"))
    await boxes.inbox.fetch(1, 0)
    await boxes.inbox.new_process("agent-1")
    (message,) = await boxes.inbox.fetch(1, 0)
    assert (message.position, message.attempt) == (1, 2)


async def test_credit_is_granted_again_when_a_quarter_is_free(tmp_path: Path):
    boxes = Boxes(tmp_path / "journal.db", inbox=InboxLimits(messages=8, bytes=1 << 20))
    await boxes.open()
    granted: list[int] = []
    boxes.inbox.begin_session(lambda messages, _: granted.append(messages))
    assert granted == [8]
    await boxes.inbox.deliver(delivery("agent-1", 1, *"abcdefgh"))
    await boxes.inbox.fetch(8, 0)
    assert granted == [8]
    await boxes.inbox.acknowledge("agent-1", [1])
    assert granted == [8]
    await boxes.inbox.acknowledge("agent-1", [2, 3])
    assert granted == [8, 3]
    boxes.inbox.begin_session(lambda messages, _: granted.append(messages))
    assert granted[-1] == 3
    await boxes.close()


async def test_a_delivery_is_shown_although_its_session_ended_while_it_was_journalled(boxes: Boxes):
    delivering = asyncio.create_task(boxes.inbox.deliver(delivery("agent-1", 1, "a", "b")))
    await asyncio.sleep(0)
    delivering.cancel()
    await asyncio.gather(delivering, return_exceptions=True)
    assert [message.position for message in await boxes.inbox.fetch(10, 5)] == [1, 2]
    assert boxes.inbox.positions() == {"agent-1": 2}


async def test_a_delivery_that_is_repeated_by_the_next_session_while_it_is_journalled_counts_once(boxes: Boxes):
    delivering = asyncio.create_task(boxes.inbox.deliver(delivery("agent-1", 1, "a")))
    await asyncio.sleep(0)
    delivering.cancel()
    assert boxes.inbox.positions() == {}
    await boxes.inbox.deliver(delivery("agent-1", 1, "a", "b"))
    await asyncio.gather(delivering, return_exceptions=True)
    assert [message.position for message in await boxes.inbox.fetch(10, 5)] == [1, 2]
    assert await boxes.inbox.fetch(10, 0) == []


async def test_an_acknowledged_message_never_comes_again_although_the_agent_hung_up(boxes: Boxes):
    await boxes.inbox.deliver(delivery("agent-1", 1, "a"))
    await boxes.inbox.fetch(1, 0)
    acknowledging = asyncio.create_task(boxes.inbox.acknowledge("agent-1", [1]))
    await asyncio.sleep(0)
    acknowledging.cancel()
    await asyncio.gather(acknowledging, return_exceptions=True)
    await boxes.inbox.new_process("agent-1")
    assert await boxes.inbox.fetch(10, 0) == []


async def test_what_comes_late_for_a_task_is_not_shown_to_the_next(boxes: Boxes):
    boxes.inbox.opened("task/1")
    await boxes.inbox.deliver(delivery("task/1", 0, "passing"))
    await boxes.inbox.closed("task/1")
    boxes.inbox.opened("task/2")
    await boxes.inbox.deliver(delivery("task/1", 1, "late"))
    await boxes.inbox.deliver(delivery("task/1", 0, "late and passing"))
    assert await boxes.inbox.fetch(10, 0) == []
    assert await told(boxes) == []


async def test_a_full_disk_holds_a_delivery_up_and_loses_nothing(boxes: Boxes):
    boxes.journal.submit(lambda connection: connection.execute("PRAGMA max_page_count = 1").fetchone())
    delivering = asyncio.create_task(boxes.inbox.deliver(delivery("agent-1", 1, "x" * 100_000)))
    await asyncio.wait({delivering}, timeout=0.2)
    assert not delivering.done()
    assert boxes.inbox.positions() == {}
    boxes.journal.submit(lambda connection: connection.execute("PRAGMA max_page_count = 100000").fetchone())
    async with asyncio.timeout(5):
        await delivering
    assert [message.position for message in await boxes.inbox.fetch(10, 0)] == [1]


async def test_the_end_of_a_task_does_not_depend_on_the_disk(boxes: Boxes):
    boxes.inbox.opened("task/1")
    await boxes.inbox.deliver(delivery("task/1", 1, "x"))
    broken = boxes.journal.submit(lambda connection: connection.execute("SELECT * FROM nothing"))
    await boxes.inbox.closed("task/1")
    await asyncio.gather(broken, return_exceptions=True)
    assert await boxes.inbox.fetch(10, 0) == []


@pytest.mark.parametrize("first", [1, 0], ids=["durable", "ephemeral"])
async def test_credit_in_bytes_never_runs_dry(tmp_path: Path, first: int):
    boxes = Boxes(tmp_path / "journal.db", inbox=InboxLimits(messages=8, bytes=4096))
    await boxes.open()
    left = 0

    def grant(messages: int, size: int) -> None:
        nonlocal left
        del messages
        left += size

    boxes.inbox.begin_session(grant)
    for number in range(1, 100):
        sent = delivery("agent-1", number * first, "a")
        left -= sum(frame.ByteSize() for frame in sent.frames)
        assert left > 0
        await boxes.inbox.deliver(sent)
        await boxes.inbox.fetch(8, 0)
        await boxes.inbox.acknowledge("agent-1", [number * first])
    await boxes.close()


async def test_a_session_that_begins_with_a_full_inbox_grants_nothing_and_says_so(tmp_path: Path):
    boxes = Boxes(tmp_path / "journal.db", inbox=InboxLimits(messages=2, bytes=1 << 20))
    await boxes.open()
    await boxes.inbox.deliver(delivery("agent-1", 1, "x" * 500_000, "y" * 500_000))
    granted: list[int] = []
    boxes.inbox.begin_session(lambda messages, _: granted.append(messages))
    assert granted == [0]
    await boxes.close()


STEP = st.one_of(
    st.tuples(st.just("deliver"), st.integers(1, 8), st.integers(1, 3)),
    st.tuples(st.just("fetch"), st.integers(1, 4), st.just(0)),
    st.tuples(st.just("ack"), st.integers(1, 8), st.just(0)),
    st.tuples(st.sampled_from(["new process", "restart"]), st.just(0), st.just(0)),
)


@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEP, max_size=25))
def test_no_process_sees_a_message_twice_and_none_after_its_acknowledgement(
    steps: list[tuple[str, int, int]], tmp_path_factory: pytest.TempPathFactory
):
    asyncio.run(play(steps, tmp_path_factory.mktemp("inbox") / "journal.db"))


async def play(steps: list[tuple[str, int, int]], path: Path) -> None:
    boxes = Boxes(path)
    await boxes.open()
    cursor = 0
    acked: set[int] = set()
    seen_now: set[int] = set()
    attempts: dict[int, int] = {}
    for what, number, count in steps:
        if what == "deliver":
            # A feed repeats from anywhere below its cursor, but never leaves a gap.
            first = min(number, cursor + 1)
            await boxes.inbox.deliver(delivery("agent-1", first, *(str(first + i) for i in range(count))))
            cursor = max(cursor, first + count - 1)
        elif what == "fetch":
            positions = []
            for message in await boxes.inbox.fetch(number, 0):
                assert message.position not in seen_now | acked
                assert message.envelope.id == str(message.position)
                assert message.attempt > attempts.get(message.position, 0)
                attempts[message.position] = message.attempt
                positions.append(message.position)
            assert positions == sorted(positions)
            seen_now |= set(positions)
        elif what == "ack" and number <= cursor:
            await boxes.inbox.acknowledge("agent-1", [number])
            acked.add(number)
        elif what in ("new process", "restart"):
            boxes = await boxes.restart() if what == "restart" else boxes
            await boxes.inbox.new_process("agent-1")
            seen_now.clear()
    assert boxes.inbox.positions().get("agent-1", 0) == cursor
    left = seen_now | acked | await drained(boxes, seen_now)
    given_up = {p for p in range(1, cursor + 1) if attempts.get(p, 0) >= 5}
    assert left | given_up == set(range(1, cursor + 1))
    final = await boxes.wire()
    assert [request.sequence for request in final] == list(range(1, len(final) + 1))
    await boxes.close()


async def drained(boxes: Boxes, positions: set[int]) -> set[int]:
    """Acknowledge what was seen, then take and acknowledge the rest: what failed before is shown one after the other."""
    taken: set[int] = set()
    await boxes.inbox.acknowledge("agent-1", sorted(positions))
    while more := {message.position for message in await boxes.inbox.fetch(1000, 0)}:
        taken |= more
        await boxes.inbox.acknowledge("agent-1", sorted(more))
    return taken


async def test_an_answer_that_was_lost_on_its_way_comes_again_for_the_same_request(boxes: Boxes):
    await boxes.inbox.deliver(delivery("agent-1", 1, "a", "b"))
    lost = await boxes.inbox.fetch(1, 0, "r1")
    await boxes.inbox.deliver(delivery("agent-1", 3, "c"))
    assert await boxes.inbox.fetch(10, 0, "r1") == lost
    assert [message.position for message in await boxes.inbox.fetch(10, 0, "r2")] == [2, 3]
    assert await boxes.inbox.fetch(10, 0, "r3") == []


async def test_what_a_call_that_was_left_behind_takes_comes_to_its_repeat(boxes: Boxes):
    """The agent hung up and asks again before the sidecar has noticed; both calls wait for the same message."""
    left = asyncio.create_task(boxes.inbox.fetch(10, 5, "r1"))
    await asyncio.sleep(0)
    repeat = asyncio.create_task(boxes.inbox.fetch(10, 5, "r1"))
    await asyncio.sleep(0)
    await boxes.inbox.deliver(delivery("agent-1", 1, "a"))
    assert [message.position for message in await repeat] == [1]
    assert await left == await repeat


async def test_a_lost_ephemeral_message_comes_again_too(boxes: Boxes):
    await boxes.inbox.deliver(delivery("agent-1", 0, "now"))
    lost = await boxes.inbox.fetch(10, 0, "r1")
    assert [message.envelope.data for message in lost] == [b"now"]
    assert await boxes.inbox.fetch(10, 0, "r1") == lost
    assert await boxes.inbox.fetch(10, 0, "r2") == []


async def test_what_was_acknowledged_does_not_come_again_for_the_same_request(boxes: Boxes):
    await boxes.inbox.deliver(delivery("agent-1", 1, "a", "b"))
    assert len(await boxes.inbox.fetch(10, 0, "r1")) == 2
    await boxes.inbox.acknowledge("agent-1", [1])
    assert [message.position for message in await boxes.inbox.fetch(10, 0, "r1")] == [2]
    await boxes.inbox.acknowledge("agent-1", [2])
    await boxes.inbox.deliver(delivery("agent-1", 3, "c"))
    assert [message.position for message in await boxes.inbox.fetch(10, 0, "r1")] == [3]


async def test_only_the_last_answers_are_kept_for_repeats(boxes: Boxes):
    for position in range(1, ANSWERS_KEPT + 2):
        await boxes.inbox.deliver(delivery("agent-1", position, "a"))
        await boxes.inbox.fetch(1, 0, f"r{position}")
    assert await boxes.inbox.fetch(10, 0, "r1") == []
    assert [message.position for message in await boxes.inbox.fetch(10, 0, "r2")] == [2]


async def test_a_request_of_the_process_before_gets_nothing(boxes: Boxes):
    """Neither by its id nor by still waiting: the answer has nobody to go to, and its messages would be lost for the next one."""
    await boxes.inbox.deliver(delivery("agent-1", 1, "a"))
    assert len(await boxes.inbox.fetch(10, 0, "r1")) == 1
    waiting = asyncio.create_task(boxes.inbox.fetch(10, 10, "r2"))
    await asyncio.sleep(0)
    await boxes.inbox.new_process("agent-1")
    assert await waiting == []
    (again,) = await boxes.inbox.fetch(10, 0, "r1")
    assert (again.position, again.attempt) == (1, 2)


async def test_a_call_that_is_given_up_while_its_answer_is_journalled_does_not_let_later_messages_pass_it(boxes: Boxes):
    await boxes.inbox.deliver(delivery("agent-1", 1, "a", "b"))
    given_up = asyncio.create_task(boxes.inbox.fetch(1, 0))
    await asyncio.sleep(0)  # it has chosen, and waits for the journal
    following = asyncio.create_task(boxes.inbox.fetch(1, 0))
    await asyncio.sleep(0)
    given_up.cancel()
    assert [message.position for message in (*await following, *await boxes.inbox.fetch(1, 0))] == [1, 2]


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_call_that_is_given_up_while_its_answer_is_journalled_is_no_attempt_whatever_restarts(
    boxes: Boxes, restarts: bool
):
    await boxes.inbox.deliver(delivery("agent-1", 1, "a"))
    given_up = asyncio.create_task(boxes.inbox.fetch(1, 0))
    await asyncio.sleep(0)  # it has chosen, and waits for the journal
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    used = await boxes.restart() if restarts else boxes
    for attempt in (1, 2):
        await used.inbox.new_process("agent-1")
        (message,) = await used.inbox.fetch(1, 0)
        assert message.attempt == attempt
    if restarts:
        await used.close()


class HandClock:
    time = 1000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


def expiring(mailbox: str, position: int, at_ms: int) -> pb.Delivery:
    made = delivery(mailbox, position, str(position))
    made.frames[0].header.expire_time_ms = at_ms
    return made


async def test_what_expired_beside_the_agent_is_not_shown(boxes: Boxes):
    clock = HandClock()
    inbox = Inbox(boxes.journal, boxes.outbox, clock=clock)
    for position, at_ms in ((1, 1_002_000), (2, 0), (3, 1_001_000), (0, 1_001_000)):
        await inbox.deliver(expiring("agent-1", position, at_ms))
    clock.time += 1.5
    assert [message.position for message in await inbox.fetch(1, 0)] == [1]
    clock.time += 1
    assert [message.position for message in await inbox.fetch(10, 0)] == [2]
    await inbox.new_process("agent-1")
    assert [message.position for message in await inbox.fetch(10, 0)] == [2], "the first was seen and has expired since"
    inbox.begin_session(lambda *_: None)
    assert inbox._held.size[0] == 1


async def test_expiry_is_remembered_across_a_restart(boxes: Boxes):
    await boxes.inbox.deliver(expiring("agent-1", 1, 1))
    await boxes.inbox.deliver(expiring("agent-1", 2, 0))
    again = await boxes.restart()
    assert [message.position for message in await again.inbox.fetch(10, 0)] == [2]
    await again.close()


def test_a_journal_of_an_earlier_version_is_read(tmp_path: Path):
    path = tmp_path / "journal.db"
    old = sqlite3.connect(path)
    old.execute(
        "CREATE TABLE inbound (mailbox TEXT NOT NULL, position INTEGER NOT NULL, attempt INTEGER NOT NULL, seen INTEGER NOT NULL,"
        " sender TEXT NOT NULL, envelope BLOB NOT NULL, PRIMARY KEY (mailbox, position)) WITHOUT ROWID"
    )
    old.execute("INSERT INTO inbound VALUES ('agent-1', 1, 1, 0, 'agent/x', x'')")
    old.commit()
    old.close()
    boxes = Boxes(path)
    boxes.inbox.load(boxes.journal.open())
    assert boxes.inbox._held.holds("agent-1", 1)


async def test_a_call_that_a_dead_process_left_behind_takes_nothing_from_the_next(boxes: Boxes):
    left = asyncio.create_task(boxes.inbox.fetch(10, 10))
    await asyncio.sleep(0)
    await boxes.inbox.new_process("agent-1")
    await boxes.inbox.deliver(delivery("agent-1", 1, "a"))
    assert await left == []
    assert [message.position for message in await boxes.inbox.fetch(10, 0)] == [1]


async def test_a_call_that_ends_late_does_not_show_a_message_twice_to_the_next_process(boxes: Boxes):
    await boxes.inbox.deliver(delivery("agent-1", 1, "a"))
    left = asyncio.create_task(boxes.inbox.fetch(10, 0))
    await asyncio.sleep(0)  # it has begun to note what it shows
    again = asyncio.create_task(boxes.inbox.new_process("agent-1"))
    await asyncio.sleep(0)
    fetching = asyncio.create_task(boxes.inbox.fetch(10, 0))
    await asyncio.sleep(0)
    left.cancel()
    await asyncio.gather(left, again, return_exceptions=True)
    assert [message.position for message in await fetching] == [1]
    assert await boxes.inbox.fetch(10, 0) == []


async def test_credit_counts_the_bytes_of_the_deliveries_and_nothing_around_them(boxes: Boxes):
    """What the control plane takes off, `tests/simulation` compares with what is granted, to the byte."""
    granted: list[tuple[int, int]] = []
    boxes.inbox.begin_session(lambda messages, size: granted.append((messages, size)))
    one = delivery("agent-1", 1, "x" * 200)
    answer = pb.ConnectResponse(delivery=one)
    await boxes.inbox.deliver(one, content_size(answer.ByteSize()))
    assert boxes.inbox._granted == [granted[0][0] - 1, granted[0][1] - one.ByteSize()]
