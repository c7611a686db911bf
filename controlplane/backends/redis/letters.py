"""How are dead letters sent again or removed, and senders of bounced messages remembered, in Redis?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from controlplane.backends.redis.frames import Frame, settled
from controlplane.backends.redis.pipe import Argument
from controlplane.backends.redis.publications import RedisPublications, tag
from controlplane.backends.spans import Span, retired, to_text
from controlplane.backends.told import record
from controlplane.domain.message import Accepted, Full, Letter, NotDead, Record, Redrive, State
from controlplane.interfaces.mailbox_store import tenant_of


class RedisLetters(RedisPublications):
    """The part of the mailboxes that LetterStore adds. Of several letters each is a change of its own."""

    async def redrive(self, letters: Sequence[Redrive], now_ms: int) -> Sequence[Accepted | Full | NotDead]:
        """See LetterStore."""
        return [await self._redrive(again, now_ms) for again in letters]

    async def purge(self, letters: Sequence[Letter], now_ms: int) -> Sequence[Record]:
        """See LetterStore."""
        del now_ms
        removed: list[Record] = []
        for letter in letters:
            removed += await self._purge(letter)
        return removed

    async def owed(self, limit: int) -> Sequence[Record]:
        """See LetterStore."""
        found: list[tuple[float, str, int, Record]] = []
        for tenant in await self._server.tenants():
            for *facts, message_id, position, time_ms in await self._server.look("owed", tag(tenant), limit):
                frame = Frame.read(facts)
                index = position - frame.first
                bounced = record(frame, frame.span_of(index), index, message_id)
                found.append((float(time_ms), frame.mailbox_name, position, bounced))
        return [bounced for _, _, _, bounced in sorted(found, key=lambda debt: debt[:3])[:limit]]

    async def told(self, records: Sequence[Record]) -> None:
        """See LetterStore."""
        of_tenant: dict[str, list[Argument]] = {}
        for one in records:
            of_tenant.setdefault(tenant_of(one.mailbox), []).extend((one.mailbox, one.position))
        for tenant, places in of_tenant.items():
            await self._server.change("told", tag(tenant), *places)

    async def _redrive(self, again: Redrive, now_ms: int) -> Accepted | Full | NotDead:
        letter = again.letter
        while (found := await self._dead(letter)) is not None:
            frame, mark = found
            span = frame.span_of(letter.position - frame.first)
            history = Span(0, 0, (*span.hops, (State.ACCEPTED, now_ms)), reason=again.reason)
            new = (
                f"{mark}{frame.number}",
                *self._bounds,
                letter.message_id,
                again.expire_time_ms,
                again.frame,
                to_text([history]),
            )
            answer = await self._retire(frame, letter, *new)
            if answer is not None:
                return Accepted(answer[1]) if answer[0] == b"accepted" else Full()
        return NotDead()

    async def _purge(self, letter: Letter) -> list[Record]:
        while (found := await self._dead(letter)) is not None:
            frame, _ = found
            if await self._retire(frame, letter) is not None:
                index = letter.position - frame.first
                return [record(frame, frame.span_of(index), index, letter.message_id)]
        return []

    async def _retire(self, frame: Frame, letter: Letter, *again: Argument) -> tuple[bytes, int] | None:
        spans = retired(frame.spans, letter.position - frame.first)
        flags = (int(all(span.gone for span in spans)), int(settled(spans)))
        before, after = frame.spans_text, to_text(spans)
        answer = await self._server.change("retire", tag(tenant_of(letter.mailbox)), frame.number, before, after, *flags, *again)
        return None if answer is None else (answer[0], int(answer[1]))

    async def _dead(self, letter: Letter) -> tuple[Frame, str] | None:
        """Return the frame of a dead letter, and how the tokens of its ids begin."""
        for *facts, body, mark in await self._server.look("find", tag(tenant_of(letter.mailbox)), letter.message_id):
            frame = Frame.read(facts)
            index = letter.position - frame.first
            if frame.mailbox_name != letter.mailbox or not 0 <= index < frame.count:
                continue
            span = replace(frame.span_of(index), first=index, last=index)
            if span.state is State.DEAD and not span.gone and body[16 * index : 16 * index + 16] == letter.message_id:
                return frame, mark.decode()
        return None
