"""What is told of a stored frame and its messages, whatever the backend keeps them in?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from controlplane.backends.spans import Span
from controlplane.domain.message import Record, StoredFrame


class Facts(Protocol):
    """What a backend knows of a frame besides where its messages stand."""

    @property
    def mailbox_name(self) -> str:
        """With its tenant."""

    @property
    def sender(self) -> str:
        """As in the record."""

    @property
    def type(self) -> str:
        """As in the record."""

    @property
    def first(self) -> int:
        """Position of its first message."""

    @property
    def accept_ms(self) -> int:
        """Since the epoch."""

    @property
    def expire_ms(self) -> int:
        """Since the epoch; 0: never."""


def records(frame: Facts, spans: Iterable[Span], ids: bytes) -> Iterator[Record]:
    """Yield a record for each message of these spans that is not gone; `ids` are those of the whole frame."""
    for span in spans:
        if not span.gone:
            for index in range(span.first, span.last + 1):
                yield record(frame, span, index, ids[16 * index : 16 * index + 16])


def record(frame: Facts, span: Span, index: int, message_id: bytes) -> Record:
    """Return the record of one message of a span; `index` is its place in the frame."""
    return Record(
        message_id=message_id,
        sender=frame.sender,
        mailbox=frame.mailbox_name,
        type=frame.type,
        state=span.state,
        reason=span.reason,
        attempts=span.attempts,
        accept_time_ms=frame.accept_ms,
        state_time_ms=span.hops[-1][1],
        expire_time_ms=frame.expire_ms,
        position=frame.first + index,
        hops=span.hops,
        last_error=span.last_error,
    )


def stored(frame: Facts, spans: Sequence[Span], ids: bytes, content: bytes) -> StoredFrame:
    """Return a frame with a message that is not final as it is delivered."""
    open_ones = {span.attempts + 1 for span in spans if not span.state.final}
    attempts = tuple(span.attempts + 1 for span in spans for _ in range(span.count))
    return StoredFrame(
        mailbox=frame.mailbox_name,
        sender=frame.sender,
        type=frame.type,
        message_ids=ids,
        expire_time_ms=frame.expire_ms,
        frame=content,
        accept_time_ms=frame.accept_ms,
        first_position=frame.first,
        attempt=max(open_ones),
        settled=frozenset(
            frame.first + index for span in spans if span.state.final for index in range(span.first, span.last + 1)
        ),
        attempts=attempts if len(open_ones) > 1 else (),
    )
