"""How are frames opened, on the rare occasions when the control plane has to?"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from claude_conductor import ids
from claude_conductor.v1 import message_pb2 as pb
from controlplane.api.convert.values import timestamp_ms
from controlplane.domain.message import Record
from controlplane.domain.routing import BOUNCED_TYPE, CONDUCTOR
from controlplane.service.envelopes import Notice


class Frames:
    """Opens frames (see service/envelopes)."""

    def keep(self, frame: bytes, indexes: Sequence[int]) -> bytes:
        """Return the frame with only these of its messages, in order."""
        return keep(frame, indexes)

    def bounced(self, recipient: str, records: Sequence[Record], now_ms: int) -> Notice:
        """Return a frame of type `conductor.bounced` with a message for each record, which answers the original by id."""
        names = [ids.message_id(_notice_id(record)) for record in records]
        packed = b"".join(ids.message_bytes(name) for name in names)
        frame = pb.MessageFrame(header=pb.FrameHeader(recipient=recipient, type=BOUNCED_TYPE, message_ids=packed))
        for name, record in zip(names, records, strict=True):
            frame.envelopes.add(
                id=name,
                source=CONDUCTOR,
                type=BOUNCED_TYPE,
                subject=record.mailbox.partition("/")[2],
                time=timestamp_ms(now_ms),
                data_content_type="text/plain",
                data=record.reason.encode(),
                correlation_id=ids.message_id(record.message_id),
            )
        return Notice(frame.SerializeToString(), packed)


def _notice_id(record: Record) -> bytes:
    origin = f"{record.sender} {record.mailbox} ".encode() + record.message_id
    return ids.uuid7(record.accept_time_ms, int.from_bytes(hashlib.sha256(origin).digest(), "big"))


def keep(frame: bytes, indexes: Sequence[int]) -> bytes:
    """Return a serialised MessageFrame with only these of its messages, in order."""
    parsed = pb.MessageFrame.FromString(frame)
    packed = parsed.header.message_ids
    kept = pb.MessageFrame(header=parsed.header, envelopes=[parsed.envelopes[index] for index in indexes])
    kept.header.message_ids = b"".join(packed[16 * index : 16 * index + 16] for index in indexes)
    return kept.SerializeToString()
