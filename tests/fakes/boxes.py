"""A journal with outbox and inbox, that can be closed and opened again as a restart of the sidecar would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent_sidecar.uplink.inbox import Inbox, InboxLimits
from agent_sidecar.uplink.journal import Journal
from agent_sidecar.uplink.outbox import Outbox, OutboxLimits
from claude_conductor.clock import Clock
from claude_conductor.v1 import message_pb2
from claude_conductor.v1 import session_service_pb2 as pb


class Boxes:
    """The journalled half of a sidecar."""

    def __init__(
        self,
        path: Path,
        outbox: OutboxLimits | None = None,
        inbox: InboxLimits | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.path = path
        self._limits = (outbox, inbox, clock)
        self.journal = Journal(path)
        self.outbox = Outbox(self.journal, outbox)
        self.inbox = Inbox(self.journal, self.outbox, inbox, clock)

    async def open(self) -> None:
        connection = self.journal.open()
        self.outbox.load(connection)
        self.inbox.load(connection)
        self.journal.start()

    async def close(self) -> None:
        await self.journal.close()

    async def restart(self) -> Boxes:
        await self.close()
        again = Boxes(self.path, *self._limits)
        await again.open()
        return again

    async def wire(self, after: int = 0) -> list[pb.ConnectRequest]:
        """Return everything that would be sent."""
        found: list[pb.ConnectRequest] = []
        while frames := await self.outbox.batch(after):
            found += [pb.ConnectRequest.FromString(frame) for _, frame in frames]
            after = frames[-1][0]
        return found


def delivery(
    mailbox: str, first: int, *texts: str, attempt: int = 1, sender: str = "agent/x", answers: str = "", **sent: Any
) -> pb.Delivery:
    """Return a delivery of consecutive messages; `sent` is what their sender wrote on the frame."""
    head = {"recipient": mailbox, "message_ids": bytes(16 * len(texts)), **sent}
    frame = message_pb2.MessageFrame(
        header=message_pb2.FrameHeader(**head),
        envelopes=[message_pb2.Envelope(id=text, data=text.encode(), correlation_id=answers) for text in texts],
    )
    header = message_pb2.DeliveryHeader(mailbox=mailbox, sender=sender, first_position=first, attempt=attempt)
    return pb.Delivery(frames=[message_pb2.DeliveredFrame(header=header, frame=frame)])
