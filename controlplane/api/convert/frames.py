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

    def only(self, frame: bytes, message_id: bytes) -> bytes:
        """Return the frame with this message alone; empty if it is not in it."""
        packed = pb.MessageFrame.FromString(frame).header.message_ids
        places = [index for index in range(len(packed) // 16) if packed[16 * index : 16 * index + 16] == message_id]
        return keep(frame, places[:1]) if places else b""

    def bounced(self, recipient: str, records: Sequence[Record]) -> Notice:
        """Return a frame of type `conductor.bounced` with a message for each record, which answers the original by id."""
        keys = [_notice_id(record) for record in records]
        packed = b"".join(keys)
        frame = pb.MessageFrame(header=pb.FrameHeader(recipient=recipient, type=BOUNCED_TYPE, message_ids=packed))
        for key, record in zip(keys, records, strict=True):
            frame.envelopes.add(
                id=ids.message_id(key),
                source=CONDUCTOR,
                type=BOUNCED_TYPE,
                subject=record.mailbox.partition("/")[2],
                time=timestamp_ms(record.state_time_ms),
                data_content_type="text/plain",
                data=record.reason.encode(),
                correlation_id=ids.message_id(record.message_id),
            )
        return Notice(frame.SerializeToString(), packed)


def _notice_id(record: Record) -> bytes:
    """Return the id of the notice about a bounced message: the same one however often it is told."""
    digest = hashlib.sha256(f"{record.mailbox} {record.position} {record.message_id.hex()}".encode()).digest()
    return ids.uuid7(record.state_time_ms, int.from_bytes(digest[:10], "big"))


def keep(frame: bytes, indexes: Sequence[int]) -> bytes:
    """Return a serialised MessageFrame with only these of its messages, in order."""
    parsed = pb.MessageFrame.FromString(frame)
    packed = parsed.header.message_ids
    kept = pb.MessageFrame(header=parsed.header, envelopes=[parsed.envelopes[index] for index in indexes])
    kept.header.message_ids = b"".join(packed[16 * index : 16 * index + 16] for index in indexes)
    return kept.SerializeToString()
