"""How does an ephemeral message reach a live stream, and nothing else than that?"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from claude_conductor.clock import Clock
from claude_conductor.errors import AgentOfflineError, ConductorError, MailboxFullError
from claude_conductor.ids import TenantId
from controlplane.domain import routing
from controlplane.domain.message import Accepted, Header, IncomingFrame, Quality, StoredFrame
from controlplane.domain.routing import Bounds, Shape
from controlplane.service.directory import Directory
from controlplane.service.mail import Mail
from controlplane.service.meter import Meter
from controlplane.service.permissions import Permissions
from controlplane.service.rates import Rates


class Passing:
    """Hands ephemeral messages to those who are there. Position 0: it has no place in a mailbox and wants no receipt."""

    def __init__(
        self,
        mail: Mail,
        directory: Directory,
        permissions: Permissions,
        rates: Rates,
        clock: Clock,
        bounds: Bounds,
        meter: Meter | None = None,
    ) -> None:
        self._mail = mail
        self._directory = directory
        self._permissions = permissions
        self._rates = rates
        self._clock = clock
        self._bounds = bounds
        self._meter = meter

    def at_once(self, tenant_id: TenantId, sender: str, agent_id: str, header: Header, shape: Shape, frame: bytes) -> bool:
        """Hand a frame over if everything that may be against it is known not to be, without asking the store.

        The same checks as `Relay.accept`, in one turn of the loop. False changes nothing: the frame has to go that way, which
        also finds the words for what is wrong with it.

        Args:
            tenant_id: Of the sender.
            sender: Authenticated.
            agent_id: Whose rate it counts for.
            header: As its sender wrote it.
            shape: What was counted in the frame.
            frame: The serialised MessageFrame.
        """
        if header.quality is not Quality.EPHEMERAL or routing.is_shared(header.recipient):
            return False
        now_ms = int(self._clock.now() * 1000)
        try:
            recipient = routing.parse_recipient(header.recipient)
            mailbox = routing.mailbox(tenant_id, recipient.name)
            link = self._mail.owner(mailbox)
            if link is None or link.room <= 0 or not self._directory.has(tenant_id, recipient):
                return False
            if not self._permissions.known_to_pass(tenant_id, sender, recipient.name, header.type):
                return False
            expire_time_ms = routing.check(header, shape, self._bounds, now_ms)
            self._rates.check(tenant_id, agent_id, header.messages)  # last, for it takes what it checks
        except ConductorError:
            return False
        link.deliver(StoredFrame(mailbox, sender, header.type, header.message_ids, expire_time_ms, frame, now_ms, 0, 1), -1)
        if self._meter is not None:
            self._meter.accepted(Quality.EPHEMERAL, header.messages)
        return True

    def hand_out(self, frame: IncomingFrame, mailboxes: Sequence[str]) -> Accepted:
        """Give a frame to those live streams of several there are."""
        handed = 0
        for mailbox in mailboxes:
            with suppress(AgentOfflineError, MailboxFullError):
                self.hand_over(frame._replace(mailbox=mailbox, recipients=None))
                handed += 1
        return Accepted(0, handed)

    def hand_over(self, frame: IncomingFrame) -> None:
        """Give a checked frame to the live stream of its mailbox, or to those of one that no sidecar owns.

        Raises:
            AgentOfflineError: There is none.
            MailboxFullError: It takes no more now.
        """
        link = self._mail.owner(frame.mailbox)
        room = self._mail.live.room(frame.mailbox) if link is None else link.room
        if room is None:
            raise AgentOfflineError(recipient=routing.local_name(frame.mailbox))
        if room <= 0:
            raise MailboxFullError(
                "The recipient reads more slowly than it is written to; an ephemeral message does not wait.",
                recipient=routing.local_name(frame.mailbox),
            )
        live = frame.first_shown(0)
        if link is None:
            self._mail.live.hand(live)
        else:
            link.deliver(live, -1)
