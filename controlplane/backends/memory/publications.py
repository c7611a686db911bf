"""Where messages for many wait for their copies when nothing has to survive the process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from controlplane.domain.message import Accepted, Copy, Duplicate, IncomingFrame, Outcome, PartlyDuplicate, Publication
from controlplane.interfaces.mailbox_store import KEPT_MS, tenant_of

SeenKey = tuple[str, str, bytes]
"""Tenant, sender, message id."""


class MemoryPublications:
    """The part of a MailboxStore that copies; the mailboxes are its other part. No method waits, so each is atomic."""

    def __init__(self) -> None:
        self._seen: dict[SeenKey, int] = {}
        """Numbers of publications; 0 for what was sent to one mailbox."""
        self._published: dict[int, Publication] = {}
        self._last_number = 0

    def _place(self, frame: IncomingFrame, now_ms: int) -> Copy:
        """Put a copy into its mailbox."""
        raise NotImplementedError

    def _repeated(self, frame: IncomingFrame) -> Outcome | None:
        """Return what a frame is that was accepted before, None for a new one."""
        keys = seen_keys(frame)
        first = {key: index for index, key in reversed(list(enumerate(keys)))}
        repeated = frozenset(index for index, key in enumerate(keys) if key in self._seen or first[key] < index)
        if len(repeated) == len(keys):
            number = self._seen.get(keys[0], 0) if keys else 0
            return Duplicate(len(self._published[number].frame.recipients or ())) if number else Duplicate()
        return PartlyDuplicate(repeated) if repeated else None

    async def publish(self, frame: IncomingFrame) -> tuple[Outcome, int]:
        """See PublicationStore."""
        repeated = self._repeated(frame)
        if repeated is not None:
            return repeated, 0
        self._last_number += 1
        self._seen.update((key, self._last_number) for key in seen_keys(frame))
        self._published[self._last_number] = _settled(Publication(self._last_number, frame, 0))
        return Accepted(0, len(frame.recipients or ())), self._last_number

    async def copy(self, number: int, most: int, now_ms: int) -> tuple[Sequence[Copy], int]:
        """See PublicationStore."""
        publication = self._published[number]
        names = (publication.frame.recipients or ())[publication.made : publication.made + most]
        copies = [self._place(publication.frame._replace(mailbox=name, recipients=None), now_ms) for name in names]
        self._published[number] = _settled(replace(publication, made=publication.made + len(names)))
        return copies, self._published[number].left

    async def unfinished(self) -> Sequence[Publication]:
        """See PublicationStore."""
        return [publication for publication in self._published.values() if publication.left]

    async def publication(self, tenant_id: str, message_id: bytes) -> Publication | None:
        """See PublicationStore."""
        for publication in reversed(self._published.values()):
            keys = seen_keys(publication.frame)
            if tenant_of(publication.frame.mailbox) == tenant_id and any(key[2] == message_id for key in keys):
                return publication
        return None

    def _forget_publications(self, now_ms: int) -> None:
        for publication in list(self._published.values()):
            frame = publication.frame
            if not publication.left and max(frame.accept_time_ms, frame.expire_time_ms) <= now_ms - KEPT_MS:
                del self._published[publication.number]
                for key in seen_keys(frame):
                    del self._seen[key]


def seen_keys(frame: IncomingFrame) -> list[SeenKey]:
    """Return what the messages of a frame are recognised by."""
    ids = [frame.message_ids[start : start + 16] for start in range(0, len(frame.message_ids), 16)]
    return [(tenant_of(frame.mailbox), frame.sender, key) for key in ids]


def _settled(publication: Publication) -> Publication:
    """Return it without the bytes nobody needs any more."""
    return publication if publication.left else replace(publication, frame=publication.frame._replace(frame=b""))
