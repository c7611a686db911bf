"""How are dead letters sent again, or removed?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from claude_conductor import ids
from claude_conductor.clock import Clock
from claude_conductor.errors import ConductorError, MailboxFullError, MessageNotDeadError, MessageNotFoundError
from claude_conductor.ids import TenantId
from controlplane.domain import routing
from controlplane.domain.message import Accepted, Full, Letter, NotDead, Record, Redrive, State
from controlplane.interfaces.letter_store import LetterStore
from controlplane.service.directory import Directory
from controlplane.service.envelopes import Envelopes
from controlplane.service.mail import Mail
from controlplane.service.news import MessageNews
from controlplane.service.timetable import Timetable
from controlplane.service.work import Work


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants to be done with dead letters."""

    tenant_id: TenantId
    message_ids: Sequence[bytes]
    recipient: str = ""
    """Only in this mailbox; empty: wherever they are dead letters."""
    by: str = routing.OPERATOR
    """Who wants it, for the event log."""
    request_id: str = ""
    """Names the wish in the event log."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one message of a wish."""

    message_id: bytes
    mailbox: str = ""
    """As senders write it; empty if it was not found."""
    error: ConductorError | None = None
    """Why nothing was done; None if it was."""
    position: int = 0
    """Its new one, if it was sent again."""


class Letters:
    """Looks after dead letters. What it does is told in the event log; repeating it is harmless."""

    def __init__(
        self,
        store: LetterStore,
        directory: Directory,
        envelopes: Envelopes,
        mail: Mail,
        news: MessageNews,
        timetable: Timetable,
        clock: Clock,
        work: Work,
    ) -> None:
        self._store = store
        self._directory = directory
        self._envelopes = envelopes
        self._mail = mail
        self._news = news
        self._timetable = timetable
        self._clock = clock
        self._work = work

    async def redrive(self, wish: Wish) -> list[Fate]:
        """Accept dead letters again, in the order they had in their mailboxes; each goes to the end of its mailbox.

        So it comes after everything its sender wrote to the same recipient meanwhile. Cancelling the call does not undo it.

        Raises:
            StoreUnavailableError: Nothing was sent again.
        """
        return await self._work.whole(self._redrive(wish), name="redrive dead letters")

    async def _redrive(self, wish: Wish) -> list[Fate]:
        found, fates = await self._find(wish)
        wanted: list[tuple[Record, Redrive]] = []
        for record, frame in found:
            try:
                await self._directory.admit(wish.tenant_id, routing.parse_recipient(routing.local_name(record.mailbox)))
                wanted.append((record, self._again(record, frame, wish.by)))
            except ConductorError as error:
                fates.append(_fate(record, error))
        outcomes = await self._store.redrive([redrive for _, redrive in wanted], self._now_ms()) if wanted else ()
        accepted: list[Record] = []
        for (record, redrive), outcome in zip(wanted, outcomes, strict=True):
            match outcome:
                case Accepted(first_position=position):
                    fates.append(_fate(record, position=position))
                    accepted.append(record)
                    self._timetable.expect_message(redrive.expire_time_ms / 1000)
                case Full():
                    fates.append(_fate(record, MailboxFullError(recipient=routing.local_name(record.mailbox))))
                case NotDead():
                    fates.append(_fate(record, MessageNotDeadError(message_id=ids.message_id(record.message_id))))
        for mailbox in dict.fromkeys(record.mailbox for record in accepted):
            self._mail.look(mailbox)
        self._news.tell("message.redriven", accepted, by=wish.by, request_id=wish.request_id)
        return fates

    async def purge(self, wish: Wish) -> list[Fate]:
        """Remove dead letters for good. Cancelling the call does not undo it.

        Raises:
            StoreUnavailableError: Nothing was removed.
        """
        return await self._work.whole(self._purge(wish), name="purge dead letters")

    async def _purge(self, wish: Wish) -> list[Fate]:
        found, fates = await self._find(wish)
        letters = [Letter(record.message_id, record.mailbox, record.position) for record, _ in found]
        removed = await self._store.purge(letters, self._now_ms()) if letters else ()
        gone = {(record.mailbox, record.position) for record in removed}
        for record, _ in found:
            late = None if (record.mailbox, record.position) in gone else MessageNotDeadError()
            fates.append(_fate(record, late))
        self._news.tell("message.purged", removed, by=wish.by, request_id=wish.request_id)
        return fates

    async def _find(self, wish: Wish) -> tuple[list[tuple[Record, bytes]], list[Fate]]:
        """Return the dead letters that are meant, by mailbox and position, and why others are none."""
        only = routing.mailbox(wish.tenant_id, wish.recipient) if wish.recipient else ""
        dead: list[tuple[Record, bytes]] = []
        fates: list[Fate] = []
        for message_id in dict.fromkeys(wish.message_ids):
            found = [pair for pair in await self._store.find(wish.tenant_id, message_id) if not only or pair[0].mailbox == only]
            of_these = [pair for pair in found if pair[0].state is State.DEAD]
            dead += of_these
            if not found:
                fates.append(Fate(message_id, error=MessageNotFoundError(message_id=ids.message_id(message_id))))
            elif not of_these:
                fates.append(_fate(found[0][0], _not_dead(found[0][0])))
        dead.sort(key=lambda pair: (pair[0].mailbox, pair[0].position))
        return dead, fates

    def _again(self, record: Record, frame: bytes, by: str) -> Redrive:
        content = self._envelopes.only(frame, record.message_id)
        if not content:
            raise MessageNotFoundError(
                "What this message said is not kept any more.", message_id=ids.message_id(record.message_id)
            )
        accept_ms = max((at for state, at in record.hops if state is State.ACCEPTED), default=record.accept_time_ms)
        life_ms = record.expire_time_ms - accept_ms if record.expire_time_ms else 0
        return Redrive(
            letter=Letter(record.message_id, record.mailbox, record.position),
            frame=content,
            expire_time_ms=self._now_ms() + life_ms if life_ms else 0,
            reason=f"sent again by {by}; it was dead: {record.reason}",
        )

    def _now_ms(self) -> int:
        return int(self._clock.now() * 1000)


def _fate(record: Record, error: ConductorError | None = None, position: int = 0) -> Fate:
    return Fate(record.message_id, routing.local_name(record.mailbox), error, position)


def _not_dead(record: Record) -> MessageNotDeadError:
    again = " (it was sent again)" if record.redrives else ""
    state = record.state.value.replace("_", " ")
    return MessageNotDeadError(
        f"The message is no dead letter; it is {state}{again}.", message_id=ids.message_id(record.message_id)
    )
