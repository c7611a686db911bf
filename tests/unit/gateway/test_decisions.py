"""What the gateway decides without any socket."""

from __future__ import annotations

import pickle
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_sidecar.gateway.admission import Asked, admit
from agent_sidecar.gateway.headers import downward, upward
from agent_sidecar.gateway.limits import GatewayLimits
from agent_sidecar.gateway.provider import provider_at
from agent_sidecar.gateway.rate_limit import LONGEST_RESET, reset_seconds
from agent_sidecar.gateway.usage import Usage, UsageReader
from claude_conductor.errors import SettingsError
from claude_conductor.settings.secret import Secret

CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the first draw of a text builds tables for seconds
KEY = "sk-ant-very-secret"
STREAM = (
    b'event: message_start\r\ndata: {"type":"message_start","message":{"model":"claude-x","usage":{'
    b'"input_tokens":9,"output_tokens":1,'
    b'"cache_read_input_tokens":4,"cache_creation_input_tokens":2}}}\r\n\r\n'
    b'event: ping\ndata: {"type":"ping"}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"\\"usage\\": {}"}}\n\n'
    b'event: message_delta\ndata: {"type":"message_delta","delta":{},"usage":{"output_tokens":33}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
)


def test_a_secret_never_shows_itself():
    secret = Secret(f" {KEY}\n")

    provider = provider_at("https://a", secret)
    assert KEY not in f"{secret} {secret!r} {[secret]} {provider}"
    assert provider.key is not None
    assert provider.key.reveal() == KEY
    with pytest.raises(TypeError):
        pickle.dumps(secret)


def test_an_empty_key_is_no_key():
    assert provider_at("https://a", Secret("")).key is None


@pytest.mark.parametrize("text", ["  \n", "a\nb", "schlüssel"])
def test_a_key_that_cannot_be_sent_is_refused_without_repeating_it(text: str):
    with pytest.raises(SettingsError) as refused:
        provider_at("https://a", Secret(text))
    assert not text.strip() or text not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "secure", "authority", "prefix"),
    [
        ("https://api.anthropic.com", True, "api.anthropic.com", ""),
        ("https://api.anthropic.com/", True, "api.anthropic.com", ""),
        ("http://127.0.0.1:8080/llm/", False, "127.0.0.1:8080", "/llm"),
        ("https://[::1]:444", True, "[::1]:444", ""),
    ],
)
def test_a_base_url_is_read(url: str, secure: bool, authority: str, prefix: str):
    provider = provider_at(url)

    assert (provider.secure, provider.authority, provider.prefix) == (secure, authority, prefix)


@pytest.mark.parametrize(
    "url", ["", "api.anthropic.com", "ftp://a", "https://", "https://u:p@a", "https://a?b=c", "https://a:x", "https://ä"]
)
def test_a_base_url_that_cannot_be_used_is_refused(url: str):
    with pytest.raises(SettingsError):
        provider_at(url)


def test_headers_named_by_connection_stay_behind():
    provider = provider_at("https://api.anthropic.com", Secret(KEY))
    sent = [
        (b"host", b"127.0.0.1:8787"),
        (b"connection", b"keep-alive, X-Private"),
        (b"x-private", b"1"),
        (b"x-forwarded-for", b"10.0.0.1"),
        (b"te", b"trailers"),
        (b"anthropic-beta", b"a,b"),
        (b"content-length", b"3"),
        (b"x-api-key", b"one"),
        (b"x-api-key", b"two"),
    ]

    assert upward(sent, provider) == [
        (b"host", b"api.anthropic.com"),
        (b"anthropic-beta", b"a,b"),
        (b"content-length", b"3"),
        (b"accept-encoding", b"identity"),
        (b"connection", b"close"),
        (b"x-api-key", KEY.encode()),
    ]


def test_an_agent_cannot_drop_the_length_by_naming_it_hop_by_hop():
    sent = [(b"connection", b"content-length"), (b"content-length", b"3")]

    assert (b"content-length", b"3") in upward(sent, provider_at("https://a", Secret(KEY)))


def test_the_answer_loses_cookies_and_its_own_connections_headers():
    came = [(b"set-cookie", b"a"), (b"transfer-encoding", b"chunked"), (b"connection", b"close"), (b"request-id", b"r")]

    assert downward(came) == [(b"request-id", b"r")]


def test_every_path_of_an_agent_is_admitted_and_the_order_of_refusals_is_fixed():
    provider, limits = provider_at("https://a", Secret(KEY)), GatewayLimits()

    for target in ("/", "/v1/messages?beta=true", "/v1/messages/count_tokens", "/v1/models/claude-x"):
        assert admit(Asked("POST", target), provider, limits, 0) is None
    closed = admit(Asked("POST", "/v1/files"), provider_at("https://a"), limits, 99)
    assert closed is not None
    assert closed.status == 404


def test_a_declared_length_over_the_limit_is_refused_before_anything_is_sent():
    provider, limits = provider_at("https://a", Secret(KEY)), GatewayLimits(body_bytes=100)

    refused = admit(Asked("POST", "/v1/messages", content_length=101), provider, limits, 0)
    assert refused is not None
    assert (refused.status, refused.kind) == (413, "request_too_large")
    assert admit(Asked("POST", "/v1/messages", content_length=100), provider, limits, 0) is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "30"}, 30.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after": "1e99"}, LONGEST_RESET),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Thu, 01 Jan 1970 00:17:20 GMT"}, 40.0),
        ({"anthropic-ratelimit-requests-reset": "1970-01-01T00:17:30Z", "anthropic-ratelimit-requests-remaining": "0"}, 50.0),
        ({"anthropic-ratelimit-tokens-reset": "1970-01-01T00:17:30Z", "anthropic-ratelimit-tokens-remaining": "9"}, None),
        ({"anthropic-ratelimit-unified-reset": "1060"}, 60.0),
        ({}, None),
    ],
)
def test_the_end_of_a_rate_limit_is_read(headers: dict[str, str], seconds: float | None):
    assert reset_seconds([(name.encode(), value.encode()) for name, value in headers.items()], now=1000.0) == seconds


@CALM
@given(st.dictionaries(st.sampled_from(["retry-after", "anthropic-ratelimit-x-reset"]), st.text(max_size=30)))
def test_odd_rate_limit_headers_never_raise(headers: dict[str, str]):
    seconds = reset_seconds([(name.encode(), value.encode("utf-8", "replace")) for name, value in headers.items()], now=1e9)

    assert seconds is None or 0 <= seconds <= LONGEST_RESET


@CALM
@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_usage_is_the_same_however_the_stream_is_cut(cuts: list[int]):
    reader = UsageReader("text/event-stream; charset=utf-8")
    edges = [0, *sorted(cuts), len(STREAM)]

    for begin, end in pairwise(edges):
        reader.feed(STREAM[begin:end])

    assert reader.usage() == Usage(9, 33, 4, 2, "claude-x")


@CALM
@given(st.lists(st.binary(max_size=80)), st.sampled_from(["text/event-stream", "application/json", "image/png", ""]))
def test_odd_answers_never_raise(chunks: list[bytes], kind: str):
    reader = UsageReader(kind)
    for chunk in chunks:
        reader.feed(b'data: {"type":"message_delta","usage":' + chunk + b"}\n")
        reader.feed(chunk)

    used = reader.usage()
    assert used is None or min(used.input_tokens, used.output_tokens) >= 0


def test_no_module_of_the_gateway_names_the_key_in_a_message():
    sources = Path(__file__).parents[3] / "agent_sidecar" / "gateway"

    revealing = [path.name for path in sources.glob("*.py") if ".reveal()" in path.read_text()]
    assert sorted(revealing) == ["headers.py", "provider.py"]
