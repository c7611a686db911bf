"""The tracer that exports: OpenTelemetry SDK, batched, over OTLP/gRPC; sampling and endpoint by the standard OTEL_* variables."""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from claude_conductor import __version__
from claude_conductor.telemetry.traces import Span, Value, parse

_KINDS = {
    "internal": trace.SpanKind.INTERNAL,
    "server": trace.SpanKind.SERVER,
    "client": trace.SpanKind.CLIENT,
    "producer": trace.SpanKind.PRODUCER,
    "consumer": trace.SpanKind.CONSUMER,
}


class _Recorded:
    """A span of the SDK."""

    __slots__ = ("_span",)

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    @property
    def traceparent(self) -> str:
        """W3C trace context for whoever works below this span."""
        context = self._span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"

    def set(self, name: str, value: Value) -> None:
        """Set an attribute."""
        self._span.set_attribute(name, value)

    def fail(self, reason: str) -> None:
        """Mark the span as failed."""
        self._span.set_status(trace.Status(trace.StatusCode.ERROR, reason))
        self._span.set_attribute("error.type", reason)

    def end(self, unix_ns: int | None = None) -> None:
        """End it; a second time does nothing."""
        if self._span.is_recording():
            self._span.end(unix_ns)


class ExportingTracer:
    """Records spans and exports them in batches."""

    def __init__(self, service: str, instance: str) -> None:
        resource = Resource.create(
            {"service.name": service, "service.version": __version__, "service.instance.id": instance or service}
        )
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("claude_conductor", __version__)

    def start(
        self, name: str, *, parent: str = "", kind: str = "internal", attributes: Mapping[str, Value] | None = None
    ) -> Span:
        """Start a span below `parent`, or a new trace."""
        context = None
        if (above := parse(parent)) is not None:
            flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if above[2] else trace.TraceFlags.DEFAULT)
            remote = trace.SpanContext(int(above[0], 16), int(above[1], 16), is_remote=True, trace_flags=flags)
            context = trace.set_span_in_context(trace.NonRecordingSpan(remote))
        return _Recorded(self._tracer.start_span(name, context=context, kind=_KINDS[kind], attributes=attributes))

    def shutdown(self) -> None:
        """Export what is left."""
        self._provider.force_flush(5000)
        self._provider.shutdown()
