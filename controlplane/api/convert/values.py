"""How do times and spans travel?"""

from __future__ import annotations

from google.protobuf import duration_pb2, timestamp_pb2

from claude_conductor.errors import InvalidArgumentError

_NANOS = 1_000_000_000
LONGEST_SECONDS = 10 * 365 * 86400.0
_LAST_MOMENT = 253_402_300_799.0
"""The last second of 9999, where google.protobuf.Timestamp ends."""


def timestamp(seconds: float | None) -> timestamp_pb2.Timestamp | None:
    """Return a time given in seconds since the epoch; None stays unset."""
    if seconds is None:
        return None
    nanos = round(seconds * 1_000_000) * 1000  # a float holds microseconds of today, not nanoseconds
    return timestamp_pb2.Timestamp(seconds=nanos // _NANOS, nanos=nanos % _NANOS)


def timestamp_ms(milliseconds: int) -> timestamp_pb2.Timestamp:
    """Return a time given in milliseconds since the epoch."""
    return timestamp_pb2.Timestamp(seconds=milliseconds // 1000, nanos=milliseconds % 1000 * 1_000_000)


def seconds_of(moment: timestamp_pb2.Timestamp, field: str) -> float:
    """Return seconds since the epoch.

    Raises:
        InvalidArgumentError: Before 1970 or after 9999, which could not be told again; the details name the field.
    """
    seconds = float(moment.seconds + moment.nanos / _NANOS)
    if not 0 <= seconds <= _LAST_MOMENT:
        raise InvalidArgumentError("A time is between the years 1970 and 9999.", field=field)
    return seconds


def duration(seconds: float) -> duration_pb2.Duration:
    """Return a span given in seconds."""
    nanos = round(seconds * _NANOS)
    return duration_pb2.Duration(seconds=nanos // _NANOS, nanos=nanos % _NANOS)


def span_of(span: duration_pb2.Duration, field: str) -> float:
    """Return seconds.

    Raises:
        InvalidArgumentError: Below 0 or beyond ten years; the details name the field.
    """
    seconds = float(span.seconds + span.nanos / _NANOS)
    if not 0 <= seconds <= LONGEST_SECONDS:
        raise InvalidArgumentError("A duration is 0 or more, and at most ten years.", field=field)
    return seconds
