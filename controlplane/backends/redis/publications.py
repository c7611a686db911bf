"""Where messages for many wait in Redis for their copies."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any, Final

from claude_conductor.errors import StoreUnavailableError
from controlplane.backends.redis.frames import Frame
from controlplane.backends.redis.pipe import Argument
from controlplane.backends.redis.server import Server
from controlplane.backends.spans import fresh, to_text
from controlplane.backends.told import records
from controlplane.domain.message import (
    Accepted,
    Behind,
    Copy,
    Duplicate,
    Full,
    IncomingFrame,
    Outcome,
    PartlyDuplicate,
    Publication,
    State,
)
from controlplane.interfaces.mailbox_store import KEPT_MS, MailboxLimits, tenant_of
from controlplane.interfaces.publication_store import FULL

FORGOTTEN_AT_ONCE: Final = 5000
"""Messages that one step forgets: it holds up everybody for some milliseconds."""
FORGOTTEN_IN_ALL: Final = 500_000
"""Messages that one call forgets; the rest waits for the next."""


MOST_ATTEMPTS: Final = 100
"""To change what others change too; one of all who try succeeds each time."""


class RedisPublications:
    """The part of a MailboxStore that copies."""

    def __init__(self, server: Server, limits: MailboxLimits) -> None:
        self._server = server
        self._limits = limits
        self._bounds: tuple[Argument, Argument] = (limits.messages, limits.bytes)
        self._published_by: dict[int, str] = {}
        """Number -> tenant of publications with copies left."""

    async def publish(self, frame: IncomingFrame) -> tuple[Outcome, int]:
        """See PublicationStore."""
        names, tenant = frame.recipients or (), tenant_of(frame.mailbox)
        await self._server.know(tenant)
        number = int(await self._server.write("INCR", self._server.key("g", "publications")))
        stored = (frame.mailbox, frame.sender, frame.type, frame.message_ids, frame.expire_time_ms, frame.frame)
        answer = await self._server.change(
            "publish", tag(tenant), number, *stored, frame.accept_time_ms, json.dumps(names), len(names)
        )
        outcome = read_outcome(answer)
        if not isinstance(outcome, Accepted):
            return outcome, 0
        if names:
            self._published_by[number] = tenant
        return Accepted(0, len(names)), number

    async def copy(self, number: int, most: int, now_ms: int) -> tuple[Sequence[Copy], int]:
        """See PublicationStore."""
        for _ in attempts():
            publication = await self._numbered(number)
            frame, made = publication.frame, publication.made
            names = (frame.recipients or ())[made : made + most]
            dead = fresh(frame.messages, frame.accept_time_ms)[0].moved(State.DEAD, FULL, now_ms)
            tenant = tenant_of(frame.mailbox)
            bounds = (*self._bounds, newest(frame.message_ids), to_text([dead]), now_ms)
            answer = await self._server.change("copy", tag(tenant), number, made, *bounds, *names)
            if answer is not None:
                break
        copies: list[Copy] = []
        for name, (first, is_dead) in zip(names, answer, strict=True):
            shown = Frame(
                0, name, frame.sender, frame.type, first, frame.messages, 0, frame.accept_time_ms, frame.expire_time_ms, ""
            )
            copies.append(Copy(name, first, tuple(records(shown, [dead], frame.message_ids)) if is_dead else ()))
        if any(copy.dead for copy in copies):
            await self._forget(tenant, self._limits.kept_bytes)
        left = publication.left - len(names)
        if not left:
            self._published_by.pop(number, None)
        return copies, left

    async def unfinished(self) -> Sequence[Publication]:
        """See PublicationStore."""
        found: list[Publication] = []
        for tenant in await self._server.tenants():
            of_tenant = await self._publications(tenant, "unfinished")
            self._published_by.update((each.number, tenant) for each in of_tenant)
            found += of_tenant
        return sorted(found, key=lambda publication: publication.number)

    async def publication(self, tenant_id: str, message_id: bytes) -> Publication | None:
        """See PublicationStore."""
        found = await self._publications(tenant_id, "id", message_id)
        return max(found, key=lambda publication: publication.number, default=None)

    async def _numbered(self, number: int) -> Publication:
        known = self._published_by.get(number)
        for tenant in [known] if known is not None else await self._server.tenants():
            for publication in await self._publications(tenant, "number", number):
                return publication
        raise LookupError(f"there is no publication {number}")

    async def _publications(self, tenant: str, *which: Argument) -> list[Publication]:
        return [_publication(row) for row in await self._server.look("publications", tag(tenant), *which)]

    async def _forget(
        self, tenant: str, most_bytes: int, most: Argument = "", hidden_ms: Argument = "", forgotten_ms: Argument = ""
    ) -> None:
        """Forget what is kept no longer, in steps of a bounded size."""
        for _ in range(FORGOTTEN_IN_ALL // FORGOTTEN_AT_ONCE):
            bounds = (most_bytes, most, hidden_ms, forgotten_ms, FORGOTTEN_AT_ONCE)
            if not await self._server.change("forget", tag(tenant), *bounds):
                return

    async def _forget_old(self, tenant: str, now_ms: int) -> None:
        limits = self._limits
        hidden = now_ms - limits.kept_ms if limits.kept_ms < KEPT_MS else ""
        await self._forget(tenant, limits.kept_bytes, limits.kept, hidden, now_ms - max(KEPT_MS, limits.kept_ms))


def tag(tenant: str) -> str:
    """Return which slot the mailboxes of a tenant are in.

    One for all of them: an id is accepted once whatever the mailbox, and that can only be seen where all of them are.
    """
    return f"m:{tenant}"


def newest(ids: bytes) -> bytes:
    """Return the largest of the ids of a frame."""
    return max((ids[start : start + 16] for start in range(0, len(ids), 16)), default=b"")


def attempts() -> Iterator[None]:
    """Yield as often as a decision is made anew because others were faster.

    Raises:
        StoreUnavailableError: They always are.
    """
    yield from repeat(None, MOST_ATTEMPTS)
    raise StoreUnavailableError("Others change the same messages all the time.", next_step="repeat with the same key")


def read_outcome(answer: Sequence[Any]) -> Outcome:
    """Return what a script says became of a frame."""
    word, *numbers = answer
    match word:
        case b"accepted":
            return Accepted(numbers[0])
        case b"duplicate":
            return Duplicate(numbers[0])
        case b"partly":
            return PartlyDuplicate(frozenset(numbers))
        case b"behind":
            return Behind()
    return Full()


def _publication(row: Sequence[bytes]) -> Publication:
    number, mailbox, sender, kind, ids, expire, accept, recipients, made, said = row
    names = tuple(json.loads(recipients))
    frame = IncomingFrame(mailbox.decode(), sender.decode(), kind.decode(), ids, int(expire), said, int(accept), names)
    return Publication(int(number), frame, int(made))
