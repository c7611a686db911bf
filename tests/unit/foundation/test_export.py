"""Spans reach a receiver of the standard protocol and hang together."""

import os
import subprocess
import sys

from tests.fakes.otlp_receiver import otlp_receiver

PROGRAM = """
import os
from claude_conductor.telemetry import traces
tracer = traces.open_tracer("first", os.environ)
with traces.span(tracer, "outer", **{"messaging.system": "conductor"}) as outer:
    with traces.span(tracer, "inner", parent=outer.traceparent) as inner:
        inner.fail("boom")
tracer.shutdown()
"""


def test_a_child_span_has_its_parents_trace_over_otlp():
    with otlp_receiver() as receiver:
        environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint}
        subprocess.run([sys.executable, "-c", PROGRAM], env=environment, check=True, timeout=30)

    inner, outer = sorted(receiver.spans, key=lambda span: span.name)
    assert (inner.name, outer.name) == ("inner", "outer")
    assert inner.trace_id == outer.trace_id
    assert inner.parent_id == outer.span_id
    assert outer.parent_id == ""
    assert outer.service == "first"
    assert outer.attributes["messaging.system"] == "conductor"
    assert inner.attributes["error.type"] == "boom"
