"""Where messages wait in Redis: a hash a frame.

Accepting is one script. Where messages stand is decided in Python and written by another, which refuses if somebody was faster.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final
from weakref import WeakValueDictionary

from controlplane.backends.redis.frames import Frame, Moves
from controlplane.backends.redis.letters import RedisLetters
from controlplane.backends.redis.pipe import Argument
from controlplane.backends.redis.publications import attempts, newest, read_outcome, tag
from controlplane.backends.redis.server import Server
from controlplane.backends.spans import ended, given_up, received
from controlplane.backends.told import records, stored
from controlplane.domain.message import IncomingFrame, Outcome, Receipt, Record, State, StoredFrame
from controlplane.interfaces.mailbox_store import MailboxLimits, tenant_of

LAST: Final = (1 << 53) - 1
"""A position after every other that a script can count."""
LISTED_AT_ONCE: Final = 100
EXPIRED_AT_ONCE: Final = 200


class RedisMailboxStore(RedisLetters):
    """A LetterStore whose unit is the frame. All mailboxes of a tenant are in one slot."""

    def __init__(self, server: Server, limits: MailboxLimits) -> None:
        super().__init__(server, limits)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def append(self, frames: Sequence[IncomingFrame]) -> Sequence[Outcome]:
        """See MailboxStore."""
        of_tenant: dict[str, list[int]] = {}
        for index, frame in enumerate(frames):
            of_tenant.setdefault(tenant_of(frame.mailbox), []).append(index)
        outcomes: dict[int, Outcome] = {}
        for tenant, indexes in of_tenant.items():
            await self._server.know(tenant)
            arguments = [part for index in indexes for part in _accepting(frames[index])]
            answers = await self._server.change("accept", tag(tenant), *self._bounds, *arguments)
            outcomes.update(zip(indexes, map(read_outcome, answers), strict=True))
        return [outcomes[index] for index in range(len(frames))]

    async def read(self, mailbox: str, after_position: int, max_bytes: int) -> Sequence[StoredFrame]:
        """See MailboxStore."""
        found = await self._server.look("read", tag(tenant_of(mailbox)), mailbox, after_position, max_bytes)
        frames = [(Frame.read(facts), body) for *facts, body in found]
        return [stored(frame, frame.spans, *_cut(frame, body)) for frame, body in frames]

    async def give_up(self, mailbox: str, from_position: int, to_position: int, last_error: str, now_ms: int) -> Sequence[Record]:
        """See MailboxStore."""
        update = given_up(self._limits.attempts, last_error, now_ms)

        def decide(moves: Moves) -> None:
            for frame in moves.frames.values():
                moves.move(frame, from_position, to_position, update)

        return await self._move(mailbox, from_position, to_position, decide)

    async def record(self, mailbox: str, receipts: Sequence[Receipt], now_ms: int) -> Sequence[Record]:
        """See MailboxStore."""
        if not receipts:
            return []

        def decide(moves: Moves) -> None:
            for receipt in receipts:
                for frame in moves.frames.values():
                    if frame.first <= receipt.to_position and frame.first + frame.count > receipt.from_position:
                        moves.move(frame, receipt.from_position, receipt.to_position, received(receipt, now_ms))

        first = min(receipt.from_position for receipt in receipts)
        return await self._move(mailbox, first, max(receipt.to_position for receipt in receipts), decide)

    async def close(self, mailbox: str, reason: str, now_ms: int) -> Sequence[Record]:
        """See MailboxStore."""
        update = ended(State.BOUNCED, reason, now_ms)

        def decide(moves: Moves) -> None:
            for frame in moves.frames.values():
                moves.move(frame, 0, LAST, update)

        return await self._move(mailbox, 0, LAST, decide)

    async def expire(self, now_ms: int) -> Sequence[Record]:
        """See MailboxStore."""
        update = ended(State.EXPIRED, "its time to live was over", now_ms)

        def decide(moves: Moves) -> None:
            for frame in moves.frames.values():
                moves.move(frame, 0, LAST, update)

        expired: list[Record] = []
        for tenant in await self._server.tenants():
            while frames := await self._take(tenant, "", now_ms, EXPIRED_AT_ONCE):
                expired += await self._write(tenant, frames, decide) or []
            await self._forget_old(tenant, now_ms)
        return expired

    async def end(self, mailbox: str) -> int:
        """See MailboxStore."""
        following = await self._server.ask("HGET", self._server.key(tag(tenant_of(mailbox)), f"box:{mailbox}"), "next")
        return int(following or 1) - 1

    async def advance(self, mailbox: str, position: int) -> None:
        """See MailboxStore."""
        await self._server.know(tenant_of(mailbox))
        await self._server.change("advance", tag(tenant_of(mailbox)), mailbox, position)

    async def find(self, tenant_id: str, message_id: bytes) -> Sequence[tuple[Record, bytes]]:
        """See MailboxStore."""
        found: list[tuple[int, Record, bytes]] = []
        for *facts, body, _ in await self._server.look("find", tag(tenant_id), message_id):
            frame = Frame.read(facts)
            ids, content = _cut(frame, body)
            of_this_id = [record for record in records(frame, frame.spans, ids) if record.message_id == message_id]
            found += [(frame.number, record, content) for record in of_this_id]
        return [(record, content) for _, record, content in sorted(found, key=lambda one: one[0])]

    async def list(self, tenant_id: str, mailbox: str, states: frozenset[State], after: bytes, limit: int) -> Sequence[Record]:
        """See MailboxStore."""
        found: list[Record] = []
        start = b"+"
        while True:
            following, *frames = await self._server.look("list", tag(tenant_id), start, LISTED_AT_ONCE, mailbox)
            for *facts, ids, newest_id in frames:
                # What follows has only smaller ids, so it is enough when the page is full of larger ones.
                if sum(record.message_id > newest_id for record in found) >= limit:
                    return found
                frame = Frame.read(facts)
                spans = [span for span in frame.spans if not states or span.state in states]
                found += [record for record in records(frame, spans, ids) if not after or record.key < after]
                found = sorted(found, key=lambda record: record.key, reverse=True)[:limit]
            if not following:
                return found
            start = b"(" + following

    async def _move(self, mailbox: str, first: int, last: int, decide: Callable[[Moves], None]) -> Sequence[Record]:
        """Move messages of a mailbox on; decide again about what others changed meanwhile."""
        tenant = tenant_of(mailbox)
        async with self._one_at_a_time(mailbox):
            for _ in attempts():
                ended = await self._write(tenant, await self._take(tenant, mailbox, max(0, first), min(last, LAST)), decide)
                if ended is not None:
                    return ended
            return []

    async def _take(self, tenant: str, *which: Argument) -> Sequence[Frame]:
        return [Frame.read(facts) for facts in await self._server.look("take", tag(tenant), *which)]

    async def _write(self, tenant: str, frames: Sequence[Frame], decide: Callable[[Moves], None]) -> Sequence[Record] | None:
        """Write what is decided of the frames; return what ended, or None if others changed one of them meanwhile."""
        moves = Moves({frame.number: frame for frame in frames})
        decide(moves)
        written = moves.written()
        if not written:
            return []
        ids = await self._server.change("apply", tag(tenant), written)
        return None if ids is None else moves.records(ids)

    def _one_at_a_time(self, mailbox: str) -> AbstractAsyncContextManager[None]:
        """Return what keeps this process from being its own competitor for a mailbox."""
        return self._locks.setdefault(mailbox, asyncio.Lock())


def _cut(frame: Frame, body: bytes) -> tuple[bytes, bytes]:
    """Return the ids of a frame and what it says."""
    return body[: 16 * frame.count], body[16 * frame.count :]


def _accepting(frame: IncomingFrame) -> Sequence[Argument]:
    ids = frame.message_ids
    return (
        *(frame.mailbox, frame.sender, frame.type, ids, newest(ids)),
        *(frame.expire_time_ms, frame.frame, frame.accept_time_ms),
    )
