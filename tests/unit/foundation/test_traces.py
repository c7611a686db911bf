"""Trace contexts are read as the W3C wrote them, and handed on where nothing is recorded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_conductor.telemetry import traces


def test_a_context_is_read():
    assert traces.parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01") == (
        "0af7651916cd43dd8448eb211c80319c",
        "b7ad6b7169203331",
        True,
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        "01-" + "1" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "0" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "1" * 32 + "-" + "0" * 16 + "-01",
    ],
)
def test_what_is_no_context_is_none(text):
    assert traces.parse(text) is None


@given(st.text())
def test_any_text_is_read_or_refused_without_an_error(text):
    assert traces.parse(text) is None or text.startswith("00-")


@pytest.mark.parametrize("sampled", [True, False])
def test_a_new_context_is_valid(sampled):
    parsed = traces.parse(traces.new_traceparent(sampled=sampled))

    assert parsed is not None
    assert parsed[2] is sampled


def test_without_an_endpoint_a_span_hands_its_parent_on():
    tracer = traces.open_tracer("test", {})
    with traces.span(tracer, "work", parent="00-x") as span:
        assert span.traceparent == "00-x"


@pytest.mark.parametrize("off", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}])
def test_the_standard_switches_turn_export_off(off):
    tracer = traces.open_tracer("test", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", **off})

    assert isinstance(tracer, traces.PassingTracer)
