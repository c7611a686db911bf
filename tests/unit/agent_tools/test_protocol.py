"""JSON-RPC and MCP as values: what lines say, how they are answered, and what cannot be a request."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_conductor.agent_tools.mcp import protocol
from claude_conductor.agent_tools.mcp.protocol import Notification, Refused, Request, Server

SERVER = Server("conductor", "Claude Conductor", "1.2", "be kind")


def line(**message: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **message}).encode()


def test_a_request_a_notification_and_an_answer_are_told_apart():
    assert protocol.read(line(id=1, method="ping")) == ([Request(1, "ping")], False)
    assert protocol.read(line(id="a", method="x", params={"b": 1})) == ([Request("a", "x", {"b": 1})], False)
    assert protocol.read(line(method="notifications/initialized")) == ([Notification("notifications/initialized")], False)
    assert protocol.read(line(id=1, result={})) == ([], False)


@pytest.mark.parametrize(
    ("text", "code", "identity"),
    [
        (b"no json", protocol.PARSE_ERROR, None),
        (b"\xff", protocol.PARSE_ERROR, None),
        (b"[" * 100_000, protocol.PARSE_ERROR, None),
        (b"[]", protocol.INVALID_REQUEST, None),
        (b"17", protocol.INVALID_REQUEST, None),
        (b'{"id": 1, "method": "ping"}', protocol.INVALID_REQUEST, None),
        (line(id=1), protocol.INVALID_REQUEST, 1),
        (line(id=None, method="ping"), protocol.INVALID_REQUEST, None),
        (line(id=True, method="ping"), protocol.INVALID_REQUEST, None),
        (line(id=1.5, method="ping"), protocol.INVALID_REQUEST, None),
        (line(id=1, method=7), protocol.INVALID_REQUEST, 1),
        (line(id=1, method="ping", params=[1]), protocol.INVALID_PARAMS, 1),
    ],
)
def test_what_is_no_request_is_refused_with_the_code_of_its_fault(text: bytes, code: int, identity: object):
    [refused], batch = protocol.read(text)

    assert isinstance(refused, Refused)
    assert (refused.answer["error"]["code"], refused.answer["id"], batch) == (code, identity, False)


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_no_line_is_too_odd_to_be_read(text: bytes):
    for each in protocol.read(text)[0]:
        assert isinstance(each, Request | Notification | Refused)


def test_a_batch_is_read_message_by_message():
    text = b"[" + line(id=1, method="ping") + b"," + line(method="notifications/cancelled") + b", 7]"
    [request, notification, refused], batch = protocol.read(text)

    assert batch
    assert isinstance(request, Request)
    assert isinstance(notification, Notification)
    assert isinstance(refused, Refused)
    [too_many], _ = protocol.read(json.dumps([{}] * 33).encode())
    assert isinstance(too_many, Refused)


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("2024-11-05", "2024-11-05"),
        ("2025-06-18", "2025-06-18"),
        ("1999-01-01", "2025-11-25"),
        (None, "2025-11-25"),
        (["x"], "2025-11-25"),
    ],
)
def test_the_clients_revision_is_spoken_if_it_is_known_and_else_our_newest(asked: object, given: str):
    result = protocol.initialized(Request(1, "initialize", {"protocolVersion": asked}), SERVER)["result"]

    assert result["protocolVersion"] == given
    assert result["serverInfo"] == {"name": "conductor", "title": "Claude Conductor", "version": "1.2"}
    assert result["instructions"] == "be kind"


def test_a_request_that_names_its_revision_gets_an_answer_in_its_shape():
    meta = {"_meta": {protocol.VERSION_KEY: "2026-07-28"}}
    listed = protocol.listed(Request(1, "tools/list", meta), SERVER, [])["result"]

    assert (listed["resultType"], listed["cacheScope"]) == ("complete", "private")
    assert listed["_meta"][protocol.SERVER_KEY]["name"] == "conductor"
    assert protocol.listed(Request(1, "tools/list"), SERVER, [])["result"] == {"tools": []}


def test_a_request_of_an_unknown_revision_is_told_which_there_are():
    refusal = protocol.unsupported(Request(1, "tools/list", {"_meta": {protocol.VERSION_KEY: "2199-01-01"}}))

    assert refusal is not None
    assert refusal["error"]["code"] == -32022
    assert refusal["error"]["data"] == {"supported": ["2026-07-28"], "requested": "2199-01-01"}
    assert protocol.unsupported(Request(1, "tools/list")) is None


def test_no_text_can_end_the_line_it_travels_in():
    written = protocol.written(protocol.success(Request(1, "x"), SERVER, {"text": "a\nb\u2028c\r"}))

    assert written.count(b"\n") == 1
    assert written.endswith(b"\n")
    assert written.isascii()
