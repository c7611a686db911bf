"""What did a peer do that concerns those above HTTP/2?"""

from __future__ import annotations

from typing import NamedTuple

from controlplane.transport.http2.codes import ErrorCode
from controlplane.transport.http2.request_head import RequestHead
from controlplane.transport.http2.stream import Stream


class RequestBegan(NamedTuple):
    """A new stream; `ended` when there is no body."""

    stream: Stream
    head: RequestHead
    ended: bool


class BodyArrived(NamedTuple):
    """A piece of a body, perhaps empty; `ended` when it is the last."""

    stream: Stream
    data: bytes
    ended: bool


class StreamEnded(NamedTuple):
    """The peer gave a stream up, or did something that ended it. Nothing more comes or goes on it."""

    stream: Stream
    code: ErrorCode


class Drained(NamedTuple):
    """What waited on this stream has left."""

    stream: Stream


class ConnectionEnded(NamedTuple):
    """The peer did something after which nothing on this connection can go on; it was told so."""

    code: ErrorCode
    reason: str


Event = RequestBegan | BodyArrived | StreamEnded | Drained | ConnectionEnded
