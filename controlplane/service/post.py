"""How does a caller without a sidecar read its mailbox?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from claude_conductor.clock import Clock
from claude_conductor.errors import InvalidArgumentError
from controlplane.domain.message import Receipt, State, StoredFrame
from controlplane.interfaces.mailbox_store import MailboxStore
from controlplane.service.pulse import Pulse, wait

_READ_BYTES = 1 << 20
_LARGEST = (1 << 63) - 1


class Post:
    """Reads on request. People read the same messages often, so only the first reading counts as a delivery."""

    def __init__(self, store: MailboxStore, arrived: Pulse, clock: Clock) -> None:
        self._store = store
        self._arrived = arrived
        self._clock = clock

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

    async def _read(self, mailbox: str, after_position: int, limit: int) -> Sequence[StoredFrame]:
        now_ms = int(self._clock.now() * 1000)
        found = await self._store.read(mailbox, min(after_position, _LARGEST), _READ_BYTES)
        frames = [frame for frame in found if not 0 < frame.expire_time_ms <= now_ms][:limit]
        for frame in frames:
            if frame.attempt == 1:
                await self._store.begin_delivery(mailbox, frame.first_position, frame.last_position, now_ms)
                await self._store.record(mailbox, [Receipt(frame.first_position, frame.last_position, State.SEEN)], now_ms)
        return frames

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
        if frame.attempt == 1:
            await self._store.begin_delivery(frame.mailbox, position, position, now_ms)
        await self._store.record(frame.mailbox, [Receipt(position, position, State.ACKED)], now_ms)

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
