"""Spans across programs: W3C trace context in and out, OTLP export where it is asked for, next to nothing where it is not.

The OpenTelemetry SDK (100 ms, 9 MB) is imported only when spans are exported: with `OTEL_EXPORTER_OTLP_ENDPOINT` or
`OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` set, and `OTEL_SDK_DISABLED` not. Otherwise a span hands its parent's context on, so that
the two ends of a trace still meet when a program between them exports nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Protocol

_TRACEPARENT: Final = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})\Z")
Value = str | int | float | bool


class Span(Protocol):
    """One timed piece of work."""

    @property
    def traceparent(self) -> str:
        """W3C trace context for whoever works below this span; empty when there is none to hand on."""

    def set(self, name: str, value: Value) -> None:
        """Set an attribute."""

    def fail(self, reason: str) -> None:
        """Mark the span as failed."""

    def end(self, unix_ns: int | None = None) -> None:
        """End it, now or at a time in nanoseconds since the epoch. Ending twice is harmless."""


class Tracer(Protocol):
    """Starts spans."""

    def start(
        self, name: str, *, parent: str = "", kind: str = "internal", attributes: Mapping[str, Value] | None = None
    ) -> Span:
        """Start a span.

        Args:
            name: Low-cardinality name, such as `task run`.
            parent: W3C traceparent; empty starts a new trace.
            kind: `internal`, `server`, `client`, `producer` or `consumer`.
            attributes: First attributes.
        """

    def shutdown(self) -> None:
        """Export what is left. Blocks for at most 5 s."""


def parse(traceparent: str) -> tuple[str, str, bool] | None:
    """Return (trace id, span id, sampled) in hexadecimal, or None if it is not valid (W3C Trace Context, 3.2)."""
    match = _TRACEPARENT.match(traceparent)
    if match is None or set(match[1]) == {"0"} or set(match[2]) == {"0"}:
        return None
    return match[1], match[2], bool(int(match[3], 16) & 1)


def new_traceparent(*, sampled: bool) -> str:
    """Return the context of a new trace."""
    return f"00-{os.urandom(16).hex()}-{os.urandom(8).hex()}-{'01' if sampled else '00'}"


@contextmanager
def span(tracer: Tracer, name: str, *, parent: str = "", kind: str = "internal", **attributes: Value) -> Iterator[Span]:
    """Start a span, end it with the block, and mark it failed if the block raises."""
    current = tracer.start(name, parent=parent, kind=kind, attributes=attributes)
    try:
        yield current
    except BaseException as error:
        current.fail(type(error).__name__)
        raise
    finally:
        current.end()


class _Passing:
    """A span that is not recorded."""

    __slots__ = ("traceparent",)

    def __init__(self, traceparent: str) -> None:
        self.traceparent = traceparent

    def set(self, name: str, value: Value) -> None:
        """Nothing is recorded."""

    def fail(self, reason: str) -> None:
        """Nothing is recorded."""

    def end(self, unix_ns: int | None = None) -> None:
        """Nothing is recorded."""


class PassingTracer:
    """Records nothing and hands contexts on."""

    def start(
        self, name: str, *, parent: str = "", kind: str = "internal", attributes: Mapping[str, Value] | None = None
    ) -> Span:
        """Return a span that carries its parent's context."""
        del name, kind, attributes
        return _Passing(parent)

    def shutdown(self) -> None:
        """Nothing is left."""


def open_tracer(service: str, environment: Mapping[str, str], *, instance: str = "") -> Tracer:
    """Return the tracer this environment asks for (OpenTelemetry environment variable specification).

    Args:
        service: `service.name`, unless OTEL_SERVICE_NAME is set.
        environment: The process's environment.
        instance: `service.instance.id`, such as an agent id.
    """
    endpoint = environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or environment.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if (
        not endpoint
        or environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
        or environment.get("OTEL_TRACES_EXPORTER") == "none"
    ):
        return PassingTracer()
    from claude_conductor.telemetry.export import ExportingTracer  # noqa: PLC0415 - the SDK is loaded only where it is used

    return ExportingTracer(service, instance)


def tracing_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the OTEL_* variables, which a parent hands to the programs it starts."""
    return {name: value for name, value in environment.items() if name.startswith("OTEL_")}
