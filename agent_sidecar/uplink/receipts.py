"""How is the control plane told what became of messages?"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, repeat

from agent_sidecar.uplink.frames import Frame, Kind
from claude_conductor.v1 import message_pb2, session_service_pb2


def receipts(
    places: Iterable[tuple[str, int]],
    state: message_pb2.MessageState.ValueType,
    reason: str = "",
    attempts: Iterable[int] = (),
    last_error: str = "",
) -> Frame:
    """Return the frame that tells what became of messages, consecutive ones with as many attempts as a range."""
    ranges: list[session_service_pb2.Receipt] = []
    for (mailbox, position), attempt in zip(places, chain(attempts, repeat(0)), strict=False):
        last = ranges[-1] if ranges else None
        if last is not None and (last.mailbox, last.to_position + 1, last.attempt) == (mailbox, position, attempt):
            last.to_position = position
        else:
            ranges.append(
                session_service_pb2.Receipt(
                    mailbox=mailbox,
                    from_position=position,
                    to_position=position,
                    state=state,
                    reason=reason,
                    attempt=attempt,
                    last_error=last_error,
                )
            )
    request = session_service_pb2.ConnectRequest(receipts=session_service_pb2.Receipts(receipts=ranges))
    return Frame(Kind.RECEIPT, request.SerializeToString())
