"""What every PublicationStore does. A backend's test class inherits this and gives the fixture `mailboxes`, made with LIMITS."""

from __future__ import annotations

import asyncio
from typing import Any

from controlplane.domain.message import (
    Accepted,
    Copy,
    Duplicate,
    Full,
    IncomingFrame,
    Letter,
    PartlyDuplicate,
    Receipt,
    Redrive,
    State,
)
from controlplane.interfaces.letter_store import LetterStore
from controlplane.interfaces.mailbox_store import MailboxStore
from controlplane.interfaces.publication_store import FULL
from tests.contract.mailbox_store import ANY, EVERYTHING, NOW, accept, acked
from tests.contract.samples import DAY_MS, START_MS, frame, message_id

TOPIC = "default/topic/news"
BOXES = ("default/agent-1", "default/agent-2", "default/agent-3")


def publication(*numbers: int, **changes: Any) -> IncomingFrame:
    return frame(*numbers, **{"mailbox": TOPIC, "recipients": BOXES, **changes})


async def publish(mailboxes: MailboxStore, *numbers: int, **changes: Any) -> int:
    outcome, number = await mailboxes.publish(publication(*numbers, **changes))
    assert isinstance(outcome, Accepted), outcome
    assert number > 0
    return number


async def spread(mailboxes: MailboxStore, number: int, most: int = 2) -> list[Copy]:
    copies: list[Copy] = []
    left = 1
    while left:
        made, left = await mailboxes.copy(number, most, NOW)
        copies += made
    return copies


class PublishContract:
    """What is accepted, and once."""

    async def test_a_publication_tells_how_many_get_it_and_is_in_no_mailbox_yet(self, mailboxes: MailboxStore) -> None:
        outcome, number = await mailboxes.publish(publication(1, 2))
        assert outcome == Accepted(0, 3)
        assert await mailboxes.read(BOXES[0], 0, EVERYTHING) == []
        assert await mailboxes.find("default", message_id(1)) == []
        (waiting,) = await mailboxes.unfinished()
        assert (waiting.number, waiting.frame, waiting.made, waiting.left) == (number, publication(1, 2), 0, 3)

    async def test_a_repeat_tells_how_many_got_the_first(self, mailboxes: MailboxStore) -> None:
        number = await publish(mailboxes, 1, 2)
        assert await mailboxes.publish(publication(2, recipients=BOXES[:1])) == (Duplicate(3), 0)
        await spread(mailboxes, number)
        assert await mailboxes.publish(publication(1, 2)) == (Duplicate(3), 0)
        assert await mailboxes.publish(publication(1, 3)) == (PartlyDuplicate(frozenset({0})), 0)
        assert await mailboxes.publish(publication(5, 5, 4)) == (PartlyDuplicate(frozenset({1})), 0)
        assert len(await mailboxes.read(BOXES[0], 0, EVERYTHING)) == 1

    async def test_an_id_is_accepted_once_whether_for_one_or_for_many(self, mailboxes: MailboxStore) -> None:
        await publish(mailboxes, 1)
        await accept(mailboxes, frame(2))
        assert list(await mailboxes.append([frame(1), frame(1, 3)])) == [Duplicate(3), PartlyDuplicate(frozenset({0}))]
        assert await mailboxes.publish(publication(2)) == (Duplicate(1), 0)
        await publish(mailboxes, 1, sender="agent/other")
        await publish(mailboxes, 1, mailbox="other/topic/news", recipients=("other/agent-1",))

    async def test_a_publication_for_nobody_is_accepted_and_finished(self, mailboxes: MailboxStore) -> None:
        outcome, _ = await mailboxes.publish(publication(1, recipients=()))
        assert outcome == Accepted(0, 0)
        assert await mailboxes.unfinished() == []
        assert await mailboxes.publish(publication(1)) == (Duplicate(0), 0)
        found = await mailboxes.publication("default", message_id(1))
        assert found is not None
        assert (found.frame.mailbox, found.frame.recipients, found.frame.accept_time_ms) == (TOPIC, (), START_MS)
        assert await mailboxes.publication("default", message_id(2)) is None
        assert await mailboxes.publication("other", message_id(1)) is None

    async def test_ids_of_a_publication_are_kept_until_a_day_after_it_expired(self, mailboxes: MailboxStore) -> None:
        number = await publish(mailboxes, 1, expire_time_ms=NOW)
        await spread(mailboxes, number)
        await mailboxes.expire(NOW + DAY_MS - 1)
        assert await mailboxes.publish(publication(1)) == (Duplicate(3), 0)
        await mailboxes.expire(NOW + DAY_MS)
        assert await mailboxes.publication("default", message_id(1)) is None
        await publish(mailboxes, 1)

    async def test_an_unfinished_publication_is_not_forgotten(self, mailboxes: MailboxStore) -> None:
        await publish(mailboxes, 1, expire_time_ms=NOW)
        await mailboxes.expire(NOW + 2 * DAY_MS)
        assert len(await mailboxes.unfinished()) == 1
        assert await mailboxes.publish(publication(1)) == (Duplicate(3), 0)


class CopyContract:
    """What the copies are."""

    async def test_each_recipient_gets_one_copy_however_few_are_made_at_once(self, mailboxes: MailboxStore) -> None:
        await accept(mailboxes, frame(9))
        number = await publish(mailboxes, 1, 2)
        first, left = await mailboxes.copy(number, 1, NOW)
        assert (list(first), left) == ([Copy(BOXES[0], 2)], 2)
        assert (await mailboxes.unfinished())[0].made == 1
        assert await spread(mailboxes, number, 5) == [Copy(BOXES[1], 1), Copy(BOXES[2], 1)]
        assert await mailboxes.unfinished() == []
        assert await mailboxes.copy(number, 5, NOW) == ([], 0)
        (copy,) = await mailboxes.read(BOXES[0], 1, EVERYTHING)
        sent = publication(1, 2)
        assert (copy.frame, copy.sender, copy.type) == (sent.frame, sent.sender, sent.type)
        assert (copy.message_ids, copy.first_position, copy.attempt) == (sent.message_ids, 2, 1)
        assert (copy.accept_time_ms, copy.expire_time_ms) == (sent.accept_time_ms, sent.expire_time_ms)

    async def test_copies_made_by_two_at_once_are_made_once(self, mailboxes: MailboxStore) -> None:
        number = await publish(mailboxes, 1)
        await asyncio.gather(*(mailboxes.copy(number, 2, NOW) for _ in range(4)))
        assert [len(await mailboxes.read(box, 0, EVERYTHING)) for box in BOXES] == [1, 1, 1]

    async def test_each_copy_has_a_state_of_its_own(self, mailboxes: MailboxStore) -> None:
        await spread(mailboxes, await publish(mailboxes, 1))
        await mailboxes.record(BOXES[0], [acked(1, 1)], NOW)
        await mailboxes.record(BOXES[1], [Receipt(1, 1, State.SEEN)], NOW)
        await mailboxes.close(BOXES[2], "its task ended", NOW)
        found = {record.mailbox: record.state for record, _ in await mailboxes.find("default", message_id(1))}
        assert found == dict(zip(BOXES, (State.ACKED, State.SEEN, State.BOUNCED), strict=True))
        assert await mailboxes.read(BOXES[0], 0, EVERYTHING) == []
        assert len(await mailboxes.read(BOXES[1], 0, EVERYTHING)) == 1

    async def test_what_finds_no_room_is_a_dead_letter_with_its_reason_and_takes_none(self, mailboxes: MailboxStore) -> None:
        await accept(mailboxes, frame(*range(10, 29)))
        number = await publish(mailboxes, 1, 2)
        full, *others = await spread(mailboxes, number)
        assert (full.mailbox, full.first_position) == (BOXES[0], 20)
        assert [(one.position, one.state, one.reason) for one in full.dead] == [(20, State.DEAD, FULL), (21, State.DEAD, FULL)]
        assert [copy.dead for copy in others] == [(), ()]
        assert list(await mailboxes.append([frame(3), frame(4)])) == [Accepted(22), Full()]
        assert [one.first_position for one in await mailboxes.read(BOXES[0], 19, EVERYTHING)] == [22]
        found = {record.mailbox: (record.state, content) for record, content in await mailboxes.find("default", message_id(2))}
        content = publication(1, 2).frame
        assert found == {
            BOXES[0]: (State.DEAD, content),
            BOXES[1]: (State.ACCEPTED, content),
            BOXES[2]: (State.ACCEPTED, content),
        }

    async def test_a_copy_that_found_no_room_is_sent_again_alone_and_its_id_stays_the_publications(
        self, mailboxes: LetterStore
    ) -> None:
        await accept(mailboxes, frame(*range(10, 29)))
        await spread(mailboxes, await publish(mailboxes, 1, 2))
        await mailboxes.record(BOXES[0], [acked(1, 19)], NOW)
        first, second = (Letter(message_id(number), BOXES[0], 19 + number) for number in (1, 2))
        assert list(await mailboxes.redrive([Redrive(first, b"alone", 0, "again")], NOW)) == [Accepted(22)]
        assert [one.position for one in await mailboxes.purge([first, second], NOW)] == [21]
        found = {
            record.mailbox: (record.position, record.redrives) for record, _ in await mailboxes.find("default", message_id(1))
        }
        assert found == {BOXES[0]: (22, 1), BOXES[1]: (1, 0), BOXES[2]: (1, 0)}
        for box in BOXES:
            await mailboxes.record(box, [acked(1, 99)], NOW)
        await mailboxes.expire(NOW + DAY_MS)
        assert await mailboxes.find("default", message_id(1)) == []
        assert list(await mailboxes.append([frame(1)])) == [Duplicate(3)]

    async def test_a_copy_is_found_until_a_day_after_its_own_end(self, mailboxes: MailboxStore) -> None:
        await spread(mailboxes, await publish(mailboxes, 1, expire_time_ms=0))
        await mailboxes.record(BOXES[0], [acked(1, 1)], NOW)
        await mailboxes.expire(NOW + DAY_MS)
        assert {record.mailbox for record, _ in await mailboxes.find("default", message_id(1))} == set(BOXES[1:])
        await publish(mailboxes, 1)
        await mailboxes.record(BOXES[1], [acked(1, 1)], NOW + DAY_MS)
        await mailboxes.expire(NOW + 2 * DAY_MS)
        assert await mailboxes.publish(publication(1)) == (Duplicate(3), 0)

    async def test_copies_expire_like_other_messages(self, mailboxes: MailboxStore) -> None:
        await spread(mailboxes, await publish(mailboxes, 1, expire_time_ms=NOW))
        assert {one.mailbox for one in await mailboxes.expire(NOW)} == set(BOXES)

    async def test_pages_of_one_message_in_several_mailboxes_leave_nothing_out(self, mailboxes: MailboxStore) -> None:
        await spread(mailboxes, await publish(mailboxes, 2))
        await accept(mailboxes, frame(1), frame(3))
        seen: list[tuple[bytes, str]] = []
        after = b""
        while page := await mailboxes.list("default", "", ANY, after, 2):
            seen.extend((record.message_id, record.mailbox) for record in page)
            after = page[-1].key
        copies = [(message_id(2), box) for box in reversed(BOXES)]
        assert seen == [(message_id(3), BOXES[0]), *copies, (message_id(1), BOXES[0])]


class PublicationStoreContract(PublishContract, CopyContract):
    """All of it."""
