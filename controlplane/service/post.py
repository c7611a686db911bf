"""How does a caller without a sidecar read its mailbox?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass

from claude_conductor.clock import Clock
from claude_conductor.errors import InvalidArgumentError
from controlplane.domain.message import Receipt, State, StoredFrame
from controlplane.domain.routing import reply_name
from controlplane.interfaces.mailbox_store import MailboxStore, tenant_of
from controlplane.service.live import Live
from controlplane.service.pulse import Pulse, wait

_READ_BYTES = 1 << 20
_PAGE_BYTES = 256 << 10
_IDLE_WAIT = 3600.0
_LARGEST = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Gap:
    """Positions a receiver cannot get, inclusive.

    Those right behind its cursor have ended meanwhile. If it ends with the cursor, the mailbox has not come as far: its
    positions began anew, and so does the receiver.
    """

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Unstored:
    """What does not wait: ephemeral frames, which have no position."""

    frames: Sequence[StoredFrame]


@dataclass(frozen=True, slots=True)
class Moving:
    """This control plane stops; receive goes on elsewhere, or here once it is back."""


class Post:
    """Reads on request. People read the same messages often, so only the first reading counts as an attempt."""

    def __init__(self, store: MailboxStore, arrived: Pulse, clock: Clock, live: Live | None = None) -> None:
        self._store = store
        self._arrived = arrived
        self._live = live or Live()
        self._clock = clock
        self._receivers: set[asyncio.Event] = set()
        self._draining = False

    async def fetch(self, mailbox: str, after_position: int, limit: int, seconds: float) -> Sequence[StoredFrame]:
        """Return frames with open messages behind a position, waiting for one for at most `seconds`."""
        end = self._clock.monotonic() + seconds
        with self._arrived.listen(mailbox) as news:
            while True:
                news.clear()
                frames = await self._read(mailbox, after_position, limit)
                left = end - self._clock.monotonic()
                if frames or left <= 0 or not await wait(news, left):
                    return frames

    async def receive(
        self, mailbox: str, after_position: int | None
    ) -> AsyncGenerator[tuple[int, Sequence[StoredFrame]] | Unstored | Gap | Moving, None]:
        """Yield (position, frames with open messages behind it) as they come, without end; None begins with the oldest.

        Nothing is read ahead: who takes slowly costs one page of memory here, and as much again of ephemeral messages, which come
        in between in the order of their sender.
        """
        cursor = after_position or 0
        if after_position is not None and (gap := await self._gap(mailbox, after_position)) is not None:
            yield gap
            cursor = gap.last if gap.first > cursor else 0
        with self._arrived.listen(mailbox) as news, self._live.listen(mailbox, news) as live:
            self._receivers.add(news)
            try:
                while not self._draining:
                    news.clear()
                    if passing := self._fresh(live.take()):
                        yield Unstored(passing)
                    found = await self._store.read(mailbox, cursor, _PAGE_BYTES)
                    if found:
                        yield cursor, await self._shown(mailbox, found)
                        cursor = found[-1].last_position
                    else:
                        await wait(news, _IDLE_WAIT)
                if passing := self._fresh(live.take()):
                    yield Unstored(passing)
                yield Moving()
            finally:
                self._receivers.discard(news)

    def drain(self) -> None:
        """Let everybody who receives know that this control plane stops."""
        self._draining = True
        for news in self._receivers:
            news.set()

    async def _gap(self, mailbox: str, cursor: int) -> Gap | None:
        end = await self._store.end(mailbox)
        if cursor > end:
            return Gap(end + 1, cursor)
        for frame in await self._store.read(mailbox, cursor, 1):
            places = range(max(frame.first_position, cursor + 1), frame.last_position + 1)
            end = min(place for place in places if place not in frame.settled) - 1
        return Gap(cursor + 1, end) if end > cursor else None

    async def _read(self, mailbox: str, after_position: int, limit: int) -> Sequence[StoredFrame]:
        found = await self._store.read(mailbox, min(after_position, _LARGEST), _READ_BYTES)
        return await self._shown(mailbox, found, limit)

    async def _shown(self, mailbox: str, found: Sequence[StoredFrame], limit: int | None = None) -> Sequence[StoredFrame]:
        """Return those that may be shown, noted as seen."""
        now_ms = int(self._clock.now() * 1000)
        frames = self._fresh(found)[:limit]
        fresh = [frame for frame in frames if 1 in (frame.attempts or (frame.attempt,))]
        if fresh:
            receipts = [Receipt(frame.first_position, frame.last_position, State.SEEN) for frame in fresh]
            await self._store.record(mailbox, receipts, now_ms)
        return frames

    def _fresh(self, frames: Iterable[StoredFrame]) -> list[StoredFrame]:
        now_ms = int(self._clock.now() * 1000)
        return [frame for frame in frames if not 0 < frame.expire_time_ms <= now_ms]

    async def answer(
        self, mailbox: str, answers: Callable[[StoredFrame], Iterable[int]], seconds: float
    ) -> tuple[StoredFrame, int] | None:
        """Return the first message that is an answer (frame and position) and acknowledge it; None after `seconds` without one.

        Args:
            mailbox: With its tenant.
            answers: Returns the positions of the answers in a frame.
            seconds: To wait.
        """
        end = self._clock.monotonic() + seconds
        cursor = 0
        with self._arrived.listen(mailbox) as news:
            while True:
                news.clear()
                while frames := await self._store.read(mailbox, cursor, _READ_BYTES):
                    now_ms = int(self._clock.now() * 1000)
                    for frame in frames:
                        over = 0 < frame.expire_time_ms <= now_ms
                        for position in () if over else answers(frame):
                            if position not in frame.settled:
                                await self._take(frame, position)
                                return frame, position
                    cursor = frames[-1].last_position
                left = end - self._clock.monotonic()
                if left <= 0 or not await wait(news, left):
                    return None

    async def _take(self, frame: StoredFrame, position: int) -> None:
        now_ms = int(self._clock.now() * 1000)
        await self._store.record(frame.mailbox, [Receipt(position, position, State.ACKED)], now_ms)

    async def answered(self, mailbox: str, message_id: bytes, recipient: str) -> None:
        """Acknowledge a message that the mailbox's owner has answered to its sender; what was said to others is no answer.

        Args:
            mailbox: With its tenant.
            message_id: Of what was answered; nothing happens if that is not open here.
            recipient: The mailbox the answer went to, without its tenant.

        Raises:
            StoreUnavailableError: It may still be open.
        """
        for record, _ in await self._store.find(tenant_of(mailbox), message_id):
            if record.mailbox == mailbox and not record.state.final and reply_name(record.sender) == recipient:
                await self.acknowledge(mailbox, [record.position])

    async def acknowledge(self, mailbox: str, positions: Sequence[int]) -> None:
        """Acknowledge messages; repeating it is harmless.

        Raises:
            InvalidArgumentError: A position is none.
        """
        if any(not 0 < position <= _LARGEST for position in positions):
            raise InvalidArgumentError("Positions begin at 1.", field="positions")
        receipts = [Receipt(position, position, State.ACKED) for position in sorted(set(positions))]
        if receipts:
            await self._store.record(mailbox, receipts, int(self._clock.now() * 1000))
