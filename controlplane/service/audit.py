"""How does what was decided get into the audit chain, and how is the chain signed?"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from claude_conductor.audit_chain import FIRST, Head, Record, linked, signed_text
from claude_conductor.clock import Clock
from claude_conductor.errors import ConductorError, StoreUnavailableError
from controlplane.interfaces.audit_store import AuditStore

_log = logging.getLogger(__name__)
HEAD_SECONDS: Final = 60.0
_WAITING: Final = 1000
"""Refusals written in a minute; more are counted, not kept: a flood of them must not fill the disk or the memory."""
_REPEAT_SECONDS: Final = 60.0
_BATCH: Final = 256
STORE_PAUSE: Final = 0.5
"""Seconds between two tries to write while the store is away. Nothing else is changed meanwhile, so few records wait."""


@dataclass(frozen=True, slots=True)
class Note:
    """What a record will say."""

    tenant: str
    actor: str
    action: str
    outcome: str
    target: str = ""


@dataclass(slots=True)
class _Waiting:
    note: Note
    time: float
    done: asyncio.Future[None] | None = field(default=None)


class Audit:
    """Writes the chain. Records are in the order of the calls; those that come together are stored together."""

    def __init__(self, store: AuditStore, sign: Callable[[bytes], Awaitable[str]], clock: Clock) -> None:
        """Begin with what is stored; nothing is read before the first record.

        Args:
            store: Of records and heads.
            sign: Returns the signature of a text, hexadecimal.
            clock: Tells the time.
        """
        self._store = store
        self._sign = sign
        self._clock = clock
        self._waiting: deque[_Waiting] = deque()
        self._news = asyncio.Event()
        self._left_out = 0
        self._told: set[Note] = set()
        """Refusals that were written in the present minute."""
        self._minute = clock.now()
        self._newest: Record | None = None
        """As far as we know; another replica may have written since."""
        self._head = 0
        """Number of the newest head."""

    async def written(self, note: Note) -> None:
        """Write a record; it is durable when this returns.

        Raises:
            StoreUnavailableError: It could not be written yet, and will be when the store is back. What it tells of has happened.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(note, self._clock.now(), done))
        self._news.set()
        await done

    def told(self, note: Note) -> None:
        """Write a record soon: of a refusal, which nobody waits for. The same one is written once a minute, and counted."""
        now = self._clock.now()
        if now - self._minute >= _REPEAT_SECONDS:
            self._minute = now
            self._told.clear()
        if note in self._told or len(self._told) >= _WAITING:
            self._left_out += 1
            return
        self._told.add(note)
        self._waiting.append(_Waiting(note, now))
        self._news.set()

    async def run(self) -> None:
        """Write what comes, until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
                if not await self._write(batch):
                    self._waiting.extendleft(reversed(batch))
                    await asyncio.sleep(STORE_PAUSE)

    async def sign(self) -> None:
        """Sign heads, now and then, until cancelled."""
        while True:
            await asyncio.sleep(HEAD_SECONDS)
            try:
                await self.state()
            except ConductorError as error:
                _log.warning("the audit chain could not be signed", extra={"cause": str(error)})

    async def state(self) -> Head | None:
        """Sign the newest record, if it is not signed yet, and return its head; None: there is no record.

        Raises:
            StoreUnavailableError: The head could not be stored.
        """
        newest = await self._store.newest()
        if newest is None:
            return None
        if newest.number == self._head:
            return (await self._store.heads())[-1]
        now = self._clock.now()
        head = Head(newest.number, newest.hash, now, await self._sign(signed_text(newest.number, newest.hash, now)))
        await self._store.state(head)
        self._head = head.number
        return head

    async def _write(self, batch: list[_Waiting]) -> bool:
        """Write records and return whether that worked. If not, nobody waits any longer, but they are still to be written."""
        if self._left_out:
            note = Note("", "", "audit.left_out", "ok", f"{self._left_out} refusals")
            batch.append(_Waiting(note, self._clock.now()))
            self._left_out = 0
        try:
            while not await self._store.append(records := await self._linked(batch)):
                self._newest = None
            self._newest = records[-1]
        except StoreUnavailableError as error:
            _log.warning("audit records wait for the store", extra={"cause": str(error), "count": len(batch)})
            for each in batch:
                if each.done is not None and not each.done.done():
                    each.done.set_exception(error)
            return False
        for each in batch:
            if each.done is not None and not each.done.done():
                each.done.set_result(None)
        return True

    async def _linked(self, batch: Sequence[_Waiting]) -> list[Record]:
        newest = self._newest or await self._store.newest()
        number, before = (newest.number, newest.hash) if newest is not None else (0, FIRST)
        records: list[Record] = []
        for each in batch:
            number += 1
            note = each.note
            plain = Record(number, each.time, note.tenant, note.actor, note.action, note.outcome, note.target)
            records.append(linked(plain, before))
            before = records[-1].hash
        return records
