"""What every MailboxStore does. A backend's test class inherits this and gives the fixture `mailboxes`, made with LIMITS."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise

import pytest

from controlplane.domain.message import (
    Accepted,
    Behind,
    Duplicate,
    Full,
    IncomingFrame,
    Letter,
    NotDead,
    PartlyDuplicate,
    Receipt,
    Redrive,
    State,
    StoredFrame,
)
from controlplane.interfaces.letter_store import LetterStore
from controlplane.interfaces.mailbox_store import MOST_HOPS, MailboxLimits, MailboxStore
from tests.contract.samples import BOX, DAY_MS, START_MS, frame, message_id

LIMITS = MailboxLimits(messages=20, bytes=2000, attempts=5, kept=30)
NOW = START_MS + 1000
EVERYTHING = 1 << 20
ANY: frozenset[State] = frozenset()


async def accept(mailboxes: MailboxStore, *frames: IncomingFrame) -> list[int]:
    outcomes = await mailboxes.append(frames)
    accepted = [outcome for outcome in outcomes if isinstance(outcome, Accepted)]
    assert len(accepted) == len(frames), outcomes
    return [outcome.first_position for outcome in accepted]


async def states(mailboxes: MailboxStore, box: str = BOX) -> dict[int, State]:
    records = await mailboxes.list("default", box, ANY, b"", 10_000)
    return {record.position: record.state for record in records}


def acked(first: int, last: int) -> Receipt:
    return Receipt(first, last, State.ACKED)


def seen(first: int, last: int, attempt: int = 1) -> Receipt:
    return Receipt(first, last, State.SEEN, attempt=attempt)


async def kill(mailboxes: MailboxStore, first: int, last: int, box: str = BOX, now_ms: int = NOW) -> None:
    """Make dead letters of messages."""
    await mailboxes.record(box, [seen(first, last, LIMITS.attempts)], now_ms)
    assert len(await mailboxes.give_up(box, first, last, "it exploded", now_ms)) == last - first + 1


def letter(number: int, position: int, box: str = BOX) -> Letter:
    return Letter(message_id(number), box, position)


def again(number: int, position: int, box: str = BOX, content: bytes = b"alone", expire_ms: int = 0) -> Redrive:
    return Redrive(letter(number, position, box), content, expire_ms, "sent again")


class AppendContract:
    """What is accepted and what is not."""

    async def test_positions_have_no_gaps_and_go_by_order_of_append(self, mailboxes: MailboxStore) -> None:
        assert await accept(mailboxes, frame(1, 2, 3), frame(4)) == [1, 4]
        assert await accept(mailboxes, frame(5), frame(6, mailbox="default/agent-2"), frame(7)) == [5, 1, 6]

    async def test_appends_at_once_share_no_position(self, mailboxes: MailboxStore) -> None:
        outcomes = await asyncio.gather(*(mailboxes.append([frame(2 * n, 2 * n + 1)]) for n in range(10)))
        firsts = sorted(outcome[0].first_position for outcome in outcomes if isinstance(outcome[0], Accepted))
        assert firsts == list(range(1, 21, 2))

    async def test_a_message_is_accepted_once_per_sender_whatever_the_mailbox(self, mailboxes: MailboxStore) -> None:
        await accept(mailboxes, frame(1, 2))
        again = [frame(1, 2), frame(2), frame(1, mailbox="default/agent-2")]
        assert list(await mailboxes.append(again)) == [Duplicate()] * 3
        assert await accept(mailboxes, frame(1, 2, sender="agent/other")) == [3]

    async def test_tenants_do_not_see_each_others_ids(self, mailboxes: MailboxStore) -> None:
        await accept(mailboxes, frame(1), frame(1, mailbox="other/agent-1"))

    async def test_of_a_partly_repeated_frame_nothing_is_stored(self, mailboxes: MailboxStore) -> None:
        await accept(mailboxes, frame(1, 2))
        assert list(await mailboxes.append([frame(3, 1, 4, 2)])) == [PartlyDuplicate(frozenset({1, 3}))]
        assert await accept(mailboxes, frame(3, 4)) == [3]

    async def test_repeats_within_one_call_and_within_one_frame_are_repeats(self, mailboxes: MailboxStore) -> None:
        outcomes = await mailboxes.append([frame(1), frame(1), frame(), frame(2, 1)])
        assert list(outcomes) == [Accepted(1), Duplicate(), Duplicate(), PartlyDuplicate(frozenset({1}))]
        assert list(await mailboxes.append([frame(3, 3, 4, 3)])) == [PartlyDuplicate(frozenset({1, 3}))]

    async def test_nothing_overtakes_a_partly_repeated_frame(self, mailboxes: MailboxStore) -> None:
        await accept(mailboxes, frame(1))
        others = [frame(5, sender="agent/other"), frame(6, mailbox="default/agent-2")]
        outcomes = await mailboxes.append([frame(1, 2), frame(3), frame(1), *others])
        assert list(outcomes) == [PartlyDuplicate(frozenset({0})), Behind(), Behind(), Accepted(2), Accepted(1)]
        assert await accept(mailboxes, frame(2), frame(3)) == [3, 4]

    async def test_twenty_appends_of_one_message_store_it_once(self, mailboxes: MailboxStore) -> None:
        outcomes = await asyncio.gather(*(mailboxes.append([frame(1)]) for _ in range(20)))
        assert sorted(type(outcome[0]).__name__ for outcome in outcomes) == ["Accepted"] + ["Duplicate"] * 19

    async def test_a_message_that_was_acknowledged_is_still_a_repeat(self, mailboxes: MailboxStore) -> None:
        await accept(mailboxes, frame(1))
        await mailboxes.record(BOX, [acked(1, 1)], NOW)
        assert list(await mailboxes.append([frame(1)])) == [Duplicate()]

    async def test_a_full_mailbox_takes_nothing_until_messages_are_final(self, mailboxes: MailboxStore) -> None:
        await accept(mailboxes, frame(*range(15)))
        assert list(await mailboxes.append([frame(*range(20, 26)), frame(*range(30, 35)), frame(40)])) == [
            Full(),
            Accepted(16),
            Full(),
        ]
        await mailboxes.record(BOX, [acked(1, 1)], NOW)
        assert list(await mailboxes.append([frame(40), frame(41)])) == [Accepted(21), Full()]

    async def test_bytes_are_bounded_too_and_freed_with_the_last_message_of_a_frame(self, mailboxes: MailboxStore) -> None:
        await accept(mailboxes, frame(1, 2, frame=b"x" * 1500))
        assert list(await mailboxes.append([frame(3, frame=b"y" * 501)])) == [Full()]
        await mailboxes.record(BOX, [acked(1, 1)], NOW)
        assert list(await mailboxes.append([frame(3, frame=b"y" * 501)])) == [Full()]
        await mailboxes.record(BOX, [acked(2, 2)], NOW)
        await accept(mailboxes, frame(3, frame=b"y" * 2000))

    async def test_a_refused_message_may_be_sent_again(self, mailboxes: MailboxStore) -> None:
        assert list(await mailboxes.append([frame(1, frame=b"x" * 2001)])) == [Full()]
        await accept(mailboxes, frame(1))


class ReadContract:
    """What a recipient is shown."""

    async def test_a_frame_comes_back_as_it_was_sent(self, mailboxes: MailboxStore) -> None:
        sent = frame(1, 2, frame=bytes(range(256)))
        await accept(mailboxes, sent)
        assert list(await mailboxes.read(BOX, 0, EVERYTHING)) == [
            StoredFrame(
                mailbox=BOX,
                sender=sent.sender,
                type=sent.type,
                message_ids=sent.message_ids,
                expire_time_ms=sent.expire_time_ms,
                frame=sent.frame,
                accept_time_ms=sent.accept_time_ms,
                first_position=1,
                attempt=1,
            )
        ]

    async def test_reading_goes_on_after_a_position(self, mailboxes: MailboxStore) -> None:
        await accept(mailboxes, frame(1, 2, 3), frame(4), frame(5, 6))

        async def firsts(after: int) -> list[int]:
            return [one.first_position for one in await mailboxes.read(BOX, after, EVERYTHING)]

        assert [await firsts(after) for after in (0, 2, 3, 4, 5, 6)] == [[1, 4, 5], [1, 4, 5], [4, 5], [5], [5], []]
        assert await mailboxes.read("default/nobody", 0, EVERYTHING) == []

    async def test_reading_stops_before_too_many_bytes_but_never_at_nothing(self, mailboxes: MailboxStore) -> None:
        await accept(mailboxes, *(frame(number, frame=b"x" * 100) for number in range(5)))
        assert [len(await mailboxes.read(BOX, 0, size)) for size in (0, 100, 199, 200, 499, 500)] == [1, 1, 1, 2, 4, 5]

    async def test_settled_messages_are_marked_and_settled_frames_left_out(self, mailboxes: MailboxStore) -> None:
        await accept(mailboxes, frame(1, 2, 3), frame(4, 5))
        await mailboxes.record(BOX, [acked(2, 2), acked(4, 5)], NOW)
        (left,) = await mailboxes.read(BOX, 0, EVERYTHING)
        assert (left.first_position, left.settled) == (1, frozenset({2}))
        await mailboxes.record(BOX, [acked(3, 3)], NOW)
        assert await mailboxes.read(BOX, 1, EVERYTHING) == []

    async def test_the_attempt_counts_agent_processes_that_were_shown_it(self, mailboxes: MailboxStore) -> None:
        await accept(mailboxes, frame(1, 2), frame(3))
        await mailboxes.record(BOX, [Receipt(1, 3, State.AT_SIDECAR)], NOW)
        assert [one.attempt for one in await mailboxes.read(BOX, 0, EVERYTHING)] == [1, 1]
        await mailboxes.record(BOX, [seen(1, 2), seen(1, 1, 2), seen(1, 2)], NOW)
        both, last = await mailboxes.read(BOX, 0, EVERYTHING)
        assert (both.attempt, both.attempt_of(1), both.attempt_of(2)) == (3, 3, 2)
        assert (last.attempt, last.attempts) == (1, ())

    async def test_a_receipt_that_is_repeated_counts_once_and_one_that_does_not_count_counts_as_one(
        self, mailboxes: MailboxStore
    ) -> None:
        await accept(mailboxes, frame(1), frame(2), frame(3))
        for _ in range(9):
            await mailboxes.record(BOX, [seen(1, 1, 2), Receipt(2, 2, State.SEEN)], NOW)
        await mailboxes.record(BOX, [acked(3, 3)], NOW)
        records = await mailboxes.list("default", BOX, ANY, b"", 10)
        assert {record.position: record.attempts for record in records} == {1: 2, 2: 1, 3: 1}
        assert records[0].hops == ((State.ACCEPTED, START_MS), (State.ACKED, NOW))

    async def test_each_process_that_was_shown_a_message_is_a_step_of_its_way(self, mailboxes: MailboxStore) -> None:
        await accept(mailboxes, frame(1))
        for attempt in (1, 2, 2, 3):
            await mailboxes.record(BOX, [seen(1, 1, attempt)], NOW + attempt)
        ((record, _),) = await mailboxes.find("default", message_id(1))
        assert record.hops[1:] == tuple((State.SEEN, NOW + attempt) for attempt in (1, 2, 3))
        for attempt in range(4, 100):
            await mailboxes.record(BOX, [seen(1, 1, attempt)], NOW + attempt)
        ((record, _),) = await mailboxes.find("default", message_id(1))
        assert (record.attempts, len(record.hops)) == (99, MOST_HOPS)

    async def test_a_message_shown_five_times_without_an_answer_is_dead(self, mailboxes: MailboxStore) -> None:
        await accept(mailboxes, frame(1, 2, 3, 4))
        for attempt in range(1, 5):
            await mailboxes.record(BOX, [seen(1, 2, attempt)], NOW)
            assert await mailboxes.give_up(BOX, 1, 4, "", NOW) == []
        await mailboxes.record(BOX, [seen(1, 2, 5), acked(2, 2), seen(4, 4, 5)], NOW)
        (dead,) = await mailboxes.give_up(BOX, 1, 3, "killed by signal 9", NOW + 1)
        assert (dead.position, dead.state, dead.attempts, dead.state_time_ms) == (1, State.DEAD, 5, NOW + 1)
        assert "5 times" in dead.reason
        assert dead.last_error == "killed by signal 9"
        ((found, _),) = await mailboxes.find("default", message_id(1))
        assert found == dead
        assert await states(mailboxes) == {1: State.DEAD, 2: State.ACKED, 3: State.ACCEPTED, 4: State.SEEN}
        assert await mailboxes.give_up(BOX, 1, 1, "", NOW) == []
        assert await mailboxes.give_up("default/nobody", 1, 9, "", NOW) == []

    async def test_the_end_of_a_mailbox_is_its_last_position_also_when_all_of_it_is_final(self, mailboxes: MailboxStore) -> None:
        assert await mailboxes.end(BOX) == 0
        await accept(mailboxes, frame(1, 2), frame(3))
        assert await mailboxes.end(BOX) == 3
        await mailboxes.close(BOX, "closed", NOW)
        assert await mailboxes.end(BOX) == 3
        assert await mailboxes.end("default/nobody") == 0

    async def test_positions_go_on_behind_what_is_known_elsewhere_and_never_back(self, mailboxes: MailboxStore) -> None:
        await mailboxes.advance(BOX, 7)
        assert await accept(mailboxes, frame(1, 2)) == [8]
        await mailboxes.advance(BOX, 3)
        await mailboxes.advance("default/agent-2", 0)
        assert await accept(mailboxes, frame(3), frame(4, mailbox="default/agent-2")) == [10, 1]
        assert await mailboxes.end(BOX) == 10


class ReceiptContract:
    """How messages move on."""

    async def test_a_message_moves_through_its_states_and_shows_when(self, mailboxes: MailboxStore) -> None:
        await accept(mailboxes, frame(1, 2, 3))
        for step, state in enumerate((State.AT_SIDECAR, State.SEEN, State.ACKED), 1):
            await mailboxes.record(BOX, [Receipt(2, 2, state)], NOW + step)
        record = (await mailboxes.find("default", message_id(2)))[0][0]
        assert record.hops == (
            (State.ACCEPTED, START_MS),
            (State.AT_SIDECAR, NOW + 1),
            (State.SEEN, NOW + 2),
            (State.ACKED, NOW + 3),
        )
        assert (record.state, record.state_time_ms, record.position) == (State.ACKED, NOW + 3, 2)
        assert (await mailboxes.find("default", message_id(3)))[0][0].hops == ((State.ACCEPTED, START_MS),)

    @pytest.mark.parametrize("late", [State.AT_SIDECAR, State.SEEN, State.ACKED, State.BOUNCED, State.EXPIRED, State.DEAD])
    async def test_a_final_message_never_moves_again(self, mailboxes: MailboxStore, late: State) -> None:
        await accept(mailboxes, frame(1))
        await mailboxes.record(BOX, [acked(1, 1)], NOW)
        before = await mailboxes.find("default", message_id(1))
        await mailboxes.record(BOX, [Receipt(1, 1, late, "late")], NOW + 9)
        assert await mailboxes.find("default", message_id(1)) == before

    async def test_a_receipt_never_moves_a_message_back_but_moves_its_neighbours_on(self, mailboxes: MailboxStore) -> None:
        await accept(mailboxes, frame(1, 2, 3), frame(4))
        await mailboxes.record(BOX, [Receipt(2, 2, State.SEEN)], NOW)
        await mailboxes.record(BOX, [Receipt(1, 4, State.AT_SIDECAR)], NOW + 1)
        assert await states(mailboxes) == {1: State.AT_SIDECAR, 2: State.SEEN, 3: State.AT_SIDECAR, 4: State.AT_SIDECAR}

    async def test_a_receipt_may_reach_over_frames_and_beyond_the_end(self, mailboxes: MailboxStore) -> None:
        await accept(mailboxes, frame(1, 2), frame(3), frame(4, 5))
        await mailboxes.record(BOX, [Receipt(2, 99, State.SEEN), acked(1, 2), acked(7, 3)], NOW)
        assert await states(mailboxes) == {1: State.ACKED, 2: State.ACKED, 3: State.SEEN, 4: State.SEEN, 5: State.SEEN}
        await mailboxes.record("default/nobody", [acked(1, 5)], NOW)

    async def test_a_refused_message_keeps_the_reason(self, mailboxes: MailboxStore) -> None:
        await accept(mailboxes, frame(1))
        (ended,) = await mailboxes.record(BOX, [Receipt(1, 1, State.BOUNCED, "no such topic")], NOW)
        ((record, content),) = await mailboxes.find("default", message_id(1))
        assert (record.state, record.reason, content) == (State.BOUNCED, "no such topic", frame(1).frame)
        assert record == ended

    async def test_recording_returns_what_was_ended_without_being_acknowledged(self, mailboxes: MailboxStore) -> None:
        await accept(mailboxes, frame(1, 2, 3), frame(4))
        receipts = [
            seen(1, 4),
            acked(1, 1),
            Receipt(1, 2, State.BOUNCED, "no"),
            Receipt(4, 4, State.DEAD, "given up", 5, "exit code 1"),
            Receipt(2, 4, State.DEAD, "late"),
        ]
        ended = await mailboxes.record(BOX, receipts, NOW)
        assert [(one.position, one.state, one.reason, one.attempts, one.last_error) for one in ended] == [
            (2, State.BOUNCED, "no", 1, ""),
            (4, State.DEAD, "given up", 5, "exit code 1"),
            (3, State.DEAD, "late", 1, ""),
        ]
        assert await mailboxes.record(BOX, receipts, NOW) == []

    async def test_closing_bounces_what_is_left_and_positions_go_on(self, mailboxes: MailboxStore) -> None:
        await accept(mailboxes, frame(1, 2, 3), frame(4))
        await accept(mailboxes, frame(5, mailbox="default/agent-2"))
        await mailboxes.record(BOX, [acked(2, 2), Receipt(3, 3, State.SEEN)], NOW)
        bounced = await mailboxes.close(BOX, "the task ended", NOW + 1)
        assert [(one.position, one.state, one.reason) for one in bounced] == [
            (position, State.BOUNCED, "the task ended") for position in (1, 3, 4)
        ]
        assert await mailboxes.read(BOX, 0, EVERYTHING) == []
        assert await mailboxes.close(BOX, "again", NOW) == []
        assert await accept(mailboxes, frame(6)) == [5]
        assert len(await mailboxes.read("default/agent-2", 0, EVERYTHING)) == 1

    async def test_every_message_ends_once_whatever_happens_at_once(self, mailboxes: MailboxStore) -> None:
        await accept(mailboxes, *(frame(2 * n, 2 * n + 1) for n in range(10)))
        bounced, *_ = await asyncio.gather(
            mailboxes.close(BOX, "closed", NOW),
            *(mailboxes.record(BOX, [acked(n, n + 1)], NOW) for n in range(1, 20)),
            *(mailboxes.record(BOX, [seen(1, 20, n)], NOW) for n in range(1, 4)),
        )
        final = await states(mailboxes)
        assert set(final) == set(range(1, 21))
        assert {position for position, state in final.items() if state is State.BOUNCED} == {one.position for one in bounced}
        assert all(state.final for state in final.values())


class KeepingContract:
    """Expiry, history and what is forgotten."""

    async def test_messages_expire_when_their_time_is_over(self, mailboxes: MailboxStore) -> None:
        await accept(mailboxes, frame(1, 2, expire_time_ms=NOW), frame(3, expire_time_ms=NOW + 1), frame(4, expire_time_ms=0))
        await mailboxes.record(BOX, [acked(1, 1)], NOW - 1)
        assert await mailboxes.expire(NOW - 1) == []
        (expired,) = await mailboxes.expire(NOW)
        assert (expired.position, expired.state) == (2, State.EXPIRED)
        assert expired.reason
        assert await states(mailboxes) == {1: State.ACKED, 2: State.EXPIRED, 3: State.ACCEPTED, 4: State.ACCEPTED}
        assert await mailboxes.expire(NOW) == []

    async def test_final_messages_are_kept_for_a_day(self, mailboxes: MailboxStore) -> None:
        await accept(mailboxes, frame(1, 2), frame(3, expire_time_ms=0))
        await mailboxes.record(BOX, [acked(1, 2)], NOW)
        await mailboxes.expire(NOW + DAY_MS - 1)
        assert (await mailboxes.find("default", message_id(1)))[0][0].state is State.ACKED
        assert list(await mailboxes.append([frame(1)])) == [Duplicate()]
        await mailboxes.expire(NOW + DAY_MS)
        assert await mailboxes.find("default", message_id(1)) == []
        assert await states(mailboxes) == {3: State.ACCEPTED}
        assert await accept(mailboxes, frame(1)) == [4]

    async def test_beyond_the_bound_the_oldest_final_messages_are_forgotten_but_not_their_ids(
        self, mailboxes: MailboxStore
    ) -> None:
        for number in range(LIMITS.kept + 5):
            (position,) = await accept(mailboxes, frame(number))
            await mailboxes.record(BOX, [acked(position, position)], NOW + number)
        await accept(mailboxes, frame(100))
        await mailboxes.expire(NOW + 100)
        assert sorted(await states(mailboxes)) == list(range(6, LIMITS.kept + 7))
        assert await mailboxes.find("default", message_id(0)) == []
        assert list(await mailboxes.append([frame(0), frame(4)])) == [Duplicate(), Duplicate()]
        assert (await mailboxes.find("default", message_id(100)))[0][0].state is State.ACCEPTED

    async def test_a_dead_letter_keeps_its_frame(self, mailboxes: MailboxStore) -> None:
        await accept(mailboxes, frame(1, 2))
        await kill(mailboxes, 2, 2)
        await mailboxes.record(BOX, [acked(1, 1)], NOW)
        ((record, content),) = await mailboxes.find("default", message_id(2))
        assert (record.state, content) == (State.DEAD, frame(1, 2).frame)

    async def test_an_id_is_found_once_for_each_sender_of_this_tenant(self, mailboxes: MailboxStore) -> None:
        await accept(mailboxes, frame(1), frame(2, 1, sender="agent/b"), frame(1, mailbox="other/agent-1"))
        found = await mailboxes.find("default", message_id(1))
        assert {(record.sender, record.position, content) for record, content in found} == {
            ("agent/sender", 1, frame(1).frame),
            ("agent/b", 3, frame(2, 1).frame),
        }
        assert await mailboxes.find("default", message_id(9)) == []
        assert len(await mailboxes.find("other", message_id(1))) == 1

    async def test_records_are_listed_newest_id_first_in_pages(self, mailboxes: MailboxStore) -> None:
        await accept(
            mailboxes, frame(5, 1), frame(3), frame(8, 2, 7, mailbox="default/agent-2"), frame(6), frame(9, mailbox="other/x")
        )
        seen: list[bytes] = []
        while page := await mailboxes.list("default", "", ANY, seen[-1] if seen else b"", 2):
            seen.extend(record.message_id for record in page)
        assert seen == [message_id(number) for number in (8, 7, 6, 5, 3, 2, 1)]

    async def test_a_list_filters_by_mailbox_and_state(self, mailboxes: MailboxStore) -> None:
        await accept(mailboxes, frame(1, 2, 3), frame(4, mailbox="default/agent-2"), frame(5))
        await mailboxes.record(BOX, [acked(2, 2), Receipt(4, 4, State.SEEN)], NOW)

        async def listed(mailbox: str, *wanted: State) -> list[bytes]:
            return [record.message_id for record in await mailboxes.list("default", mailbox, frozenset(wanted), b"", 100)]

        assert await listed("default/agent-2") == [message_id(4)]
        assert await listed(BOX, State.ACCEPTED) == [message_id(3), message_id(1)]
        assert await listed("", State.ACKED, State.SEEN) == [message_id(5), message_id(2)]
        assert await listed("default/nobody") == []

    async def test_pages_of_one_moment_do_not_overlap(self, mailboxes: MailboxStore) -> None:
        await accept(mailboxes, frame(*range(0, 20, 2)), frame(*range(1, 20, 2), mailbox="default/agent-2"))
        records = await mailboxes.list("default", "", ANY, b"", 100)
        assert len(records) == 20
        assert all(newer.message_id > older.message_id for newer, older in pairwise(records))


class LetterContract:
    """Dead letters, sent again or removed; and who is still to be told of a bounce."""

    async def test_a_dead_letter_that_is_sent_again_begins_anew_at_the_end_with_its_history(self, mailboxes: LetterStore) -> None:
        await accept(mailboxes, frame(1, 2, 3), frame(4))
        await kill(mailboxes, 2, 2)
        assert list(await mailboxes.redrive([again(2, 2, expire_ms=NOW + 99)], NOW + 1)) == [Accepted(5)]
        ((record, content),) = await mailboxes.find("default", message_id(2))
        assert (record.state, record.position, record.attempts, record.redrives) == (State.ACCEPTED, 5, 0, 1)
        assert (record.accept_time_ms, record.state_time_ms, record.expire_time_ms) == (START_MS, NOW + 1, NOW + 99)
        assert (record.reason, record.last_error, record.sender, record.type) == ("sent again", "", "agent/sender", "note")
        assert [state for state, _ in record.hops] == [State.ACCEPTED, State.SEEN, State.DEAD, State.ACCEPTED]
        assert content == b"alone"
        assert await states(mailboxes) == {1: State.ACCEPTED, 3: State.ACCEPTED, 4: State.ACCEPTED, 5: State.ACCEPTED}
        *_, last = await mailboxes.read(BOX, 0, EVERYTHING)
        assert (last.first_position, last.message_ids, last.frame, last.attempt) == (5, message_id(2), b"alone", 1)

    async def test_a_redriven_message_lives_and_dies_like_any_other(self, mailboxes: LetterStore) -> None:
        await accept(mailboxes, frame(1, 2))
        await kill(mailboxes, 1, 1)
        assert list(await mailboxes.redrive([again(1, 1)], NOW + 1)) == [Accepted(3)]
        await kill(mailboxes, 3, 3, now_ms=NOW + 2)
        assert list(await mailboxes.redrive([again(1, 1), again(1, 3)], NOW + 3)) == [NotDead(), Accepted(4)]
        await mailboxes.record(BOX, [acked(1, 4)], NOW + 4)
        ((record, _),) = await mailboxes.find("default", message_id(1))
        assert (record.state, record.redrives, record.reason, record.attempts) == (State.ACKED, 2, "", 1)
        assert list(await mailboxes.append([frame(1), frame(2)])) == [Duplicate(), Duplicate()]

    async def test_only_a_dead_letter_is_sent_again_and_only_once(self, mailboxes: LetterStore) -> None:
        await accept(mailboxes, frame(1, 2), frame(3, mailbox="default/agent-2"))
        await kill(mailboxes, 1, 1)
        wrong = [again(2, 2), again(2, 1), again(1, 2), again(1, 1, "default/agent-2"), again(9, 9), again(1, 1, "other/agent-1")]
        assert list(await mailboxes.redrive(wrong, NOW)) == [NotDead()] * len(wrong)
        outcomes = await asyncio.gather(*(mailboxes.redrive([again(1, 1), again(1, 1)], NOW) for _ in range(5)))
        assert [one for outcome in outcomes for one in outcome].count(Accepted(3)) == 1
        assert len(await mailboxes.find("default", message_id(1))) == 1

    async def test_a_full_mailbox_takes_no_dead_letter_back(self, mailboxes: LetterStore) -> None:
        await accept(mailboxes, frame(1, frame=b"x" * 500))
        await kill(mailboxes, 1, 1)
        await accept(mailboxes, frame(2, frame=b"x" * 1800))
        assert list(await mailboxes.redrive([again(1, 1, content=b"x" * 500)], NOW)) == [Full()]
        assert (await states(mailboxes))[1] is State.DEAD
        await mailboxes.record(BOX, [acked(2, 2)], NOW)
        await accept(mailboxes, frame(*range(10, 30)))
        assert list(await mailboxes.redrive([again(1, 1)], NOW)) == [Full()]
        await mailboxes.record(BOX, [acked(3, 3)], NOW)
        assert list(await mailboxes.redrive([again(1, 1)], NOW)) == [Accepted(23)]
        assert list(await mailboxes.append([frame(40)])) == [Full()]

    async def test_a_purged_letter_is_gone_but_its_id_is_not_accepted_again(self, mailboxes: LetterStore) -> None:
        await accept(mailboxes, frame(1, 2, 3), frame(4))
        await kill(mailboxes, 1, 2)
        wrong = [letter(3, 3), letter(1, 2), letter(9, 9), letter(1, 1, "other/agent-1")]
        removed = await mailboxes.purge([letter(1, 1), *wrong], NOW + 1)
        assert [(one.position, one.state, one.message_id) for one in removed] == [(1, State.DEAD, message_id(1))]
        assert await mailboxes.purge([letter(1, 1)], NOW + 1) == []
        assert list(await mailboxes.redrive([again(1, 1)], NOW)) == [NotDead()]
        assert await mailboxes.find("default", message_id(1)) == []
        assert await states(mailboxes) == {2: State.DEAD, 3: State.ACCEPTED, 4: State.ACCEPTED}
        assert list(await mailboxes.append([frame(1)])) == [Duplicate()]
        (left, _) = await mailboxes.read(BOX, 0, EVERYTHING)
        assert left.settled == frozenset({1, 2})
        await mailboxes.record(BOX, [acked(3, 4)], NOW + 2)
        await mailboxes.purge([letter(2, 2)], NOW + 3)
        assert await states(mailboxes) == {3: State.ACKED, 4: State.ACKED}

    async def test_what_was_redriven_or_purged_is_forgotten_in_its_time(self, mailboxes: LetterStore) -> None:
        await accept(mailboxes, frame(1, 2, 3))
        await kill(mailboxes, 1, 3)
        await mailboxes.redrive([again(1, 1)], NOW + 1)
        await mailboxes.purge([letter(2, 2)], NOW + 1)
        await mailboxes.expire(NOW + DAY_MS)
        assert await states(mailboxes) == {4: State.ACCEPTED}
        assert list(await mailboxes.append([frame(1), frame(2), frame(3)])) == [Duplicate(), Accepted(5), Accepted(6)]
        await mailboxes.record(BOX, [acked(4, 4)], NOW + DAY_MS)
        await mailboxes.expire(NOW + 2 * DAY_MS)
        assert list(await mailboxes.append([frame(1)])) == [Accepted(7)]

    async def test_only_dead_letters_are_listed_as_such(self, mailboxes: LetterStore) -> None:
        await accept(mailboxes, frame(1, 2, 3), frame(4, mailbox="default/agent-2"), frame(5))
        await kill(mailboxes, 2, 2)
        await kill(mailboxes, 1, 1, "default/agent-2")
        await mailboxes.record(BOX, [acked(1, 1), Receipt(4, 4, State.BOUNCED, 'a reason like "d",[ that')], NOW)

        async def listed(*wanted: State, box: str = "") -> list[bytes]:
            return [record.message_id for record in await mailboxes.list("default", box, frozenset(wanted), b"", 9)]

        assert await listed(State.DEAD) == [message_id(4), message_id(2)]
        assert await listed(State.DEAD, box=BOX) == [message_id(2)]
        assert await listed(State.ACKED, State.BOUNCED) == [message_id(5), message_id(1)]

    async def test_the_senders_of_bounced_messages_are_owed_a_word_until_they_were_told(self, mailboxes: LetterStore) -> None:
        await accept(mailboxes, frame(1, 2, 3), frame(4, sender="conductor"), frame(5, mailbox="default/agent-2"))
        await mailboxes.record(BOX, [acked(1, 1), Receipt(2, 2, State.BOUNCED, "no")], NOW)
        await kill(mailboxes, 3, 3)
        await mailboxes.close(BOX, "closed", NOW + 1)
        bounced = [*await mailboxes.close("default/agent-2", "the task ended", NOW + 2)]
        owed = await mailboxes.owed(10)
        assert [(one.message_id, one.state, one.reason) for one in owed] == [
            (message_id(2), State.BOUNCED, "no"),
            (message_id(5), State.BOUNCED, "the task ended"),
        ]
        assert owed[1:] == bounced
        assert list(await mailboxes.owed(1)) == list(owed[:1])
        await mailboxes.told(bounced)
        await mailboxes.told(bounced)
        assert list(await mailboxes.owed(10)) == list(owed[:1])
        await mailboxes.expire(NOW + 2 * DAY_MS)
        assert list(await mailboxes.owed(10)) == []


class KeptContract:
    """How long final messages are kept is a setting; the fixture `keeping` makes a store with such a one."""

    async def test_final_messages_are_kept_as_long_as_set_and_their_ids_a_day_at_least(
        self, keeping: Callable[[MailboxLimits], LetterStore]
    ) -> None:
        hour = 3600 * 1000
        shorter = keeping(MailboxLimits(kept_ms=hour))
        await accept(shorter, frame(1), frame(2))
        await shorter.record(BOX, [acked(1, 1)], NOW)
        await shorter.expire(NOW + hour - 1)
        assert await states(shorter) == {1: State.ACKED, 2: State.ACCEPTED}
        await shorter.expire(NOW + hour)
        assert await states(shorter) == {2: State.ACCEPTED}
        assert list(await shorter.append([frame(1)])) == [Duplicate()]
        await shorter.expire(NOW + DAY_MS)
        assert list(await shorter.append([frame(1)])) == [Accepted(3)]

    async def test_they_may_be_kept_for_longer_than_a_day(self, keeping: Callable[[MailboxLimits], LetterStore]) -> None:
        longer = keeping(MailboxLimits(kept_ms=2 * DAY_MS))
        await accept(longer, frame(1))
        await longer.record(BOX, [acked(1, 1)], NOW)
        await longer.expire(NOW + 2 * DAY_MS - 1)
        assert await states(longer) == {1: State.ACKED}
        assert list(await longer.append([frame(1)])) == [Duplicate()]
        await longer.expire(NOW + 2 * DAY_MS)
        assert await states(longer) == {}

    async def test_beyond_the_bytes_the_oldest_final_messages_that_hold_any_are_forgotten_but_not_their_ids(
        self, keeping: Callable[[MailboxLimits], LetterStore]
    ) -> None:
        small = keeping(MailboxLimits(kept_bytes=2500))
        await accept(small, *(frame(number, frame=b"x" * 1000) for number in range(1, 6)))
        await small.record(BOX, [acked(1, 1), acked(4, 4)], NOW)
        for position in (3, 2, 5):
            await small.record(BOX, [Receipt(position, position, State.DEAD, "no")], NOW + 10 - position)
        await accept(small, frame(6, frame=b"x" * 9000))
        await small.expire(NOW + 20)
        assert await states(small) == {1: State.ACKED, 2: State.DEAD, 3: State.DEAD, 4: State.ACKED, 6: State.ACCEPTED}
        assert list(await small.append([frame(5)])) == [Duplicate()]
        await small.purge([Letter(message_id(3), BOX, 3)], NOW)
        await small.close(BOX, "gone", NOW + 30)
        await small.expire(NOW + 40)
        assert await states(small) == {1: State.ACKED, 4: State.ACKED}

    async def test_a_dead_letter_that_is_sent_again_or_removed_leaves_room_for_others(
        self, keeping: Callable[[MailboxLimits], LetterStore]
    ) -> None:
        small = keeping(MailboxLimits(kept_bytes=2500))
        await accept(small, *(frame(number, frame=b"x" * 1000) for number in range(1, 5)))
        await small.record(BOX, [Receipt(3, 4, State.DEAD, "no")], NOW)
        await small.record(BOX, [Receipt(1, 2, State.DEAD, "no")], NOW + 1)
        await small.redrive([Redrive(Letter(message_id(1), BOX, 1), b"x" * 1000, START_MS + DAY_MS, "again")], NOW)
        await small.purge([Letter(message_id(2), BOX, 2)], NOW)
        await small.expire(NOW + 2)
        assert await states(small) == {3: State.DEAD, 4: State.DEAD, 5: State.ACCEPTED}

    async def test_copies_that_found_no_room_hold_no_more_bytes_than_are_kept(
        self, keeping: Callable[[MailboxLimits], LetterStore]
    ) -> None:
        store, boxes = keeping(MailboxLimits(messages=0, kept_bytes=2500)), ("default/agent-1", "default/agent-2")
        for number in range(1, 4):
            publication = frame(number, mailbox="default/topic/news", recipients=boxes, frame=b"x" * 1000)
            _, stored = await store.publish(publication)
            await store.copy(stored, 10, NOW + number)
        found = {number: len(await store.find("default", message_id(number))) for number in range(1, 4)}
        assert found == {1: 0, 2: 0, 3: 2}


class MailboxStoreContract(AppendContract, ReadContract, ReceiptContract, KeepingContract, LetterContract, KeptContract):
    """All of it."""
