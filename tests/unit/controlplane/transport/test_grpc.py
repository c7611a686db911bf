"""gRPC over HTTP/2: messages in bodies, metadata in headers, timeouts, statuses; and what a server takes."""

from __future__ import annotations

import math

import grpc
import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_conductor.rpc import server as rpc_server
from controlplane.transport import answers
from controlplane.transport.http2.flow import Inflow
from controlplane.transport.http2.request_head import RequestHead
from controlplane.transport.invocation import invocation
from controlplane.transport.limits import Limits
from controlplane.transport.liveness import Liveness, Verdict
from controlplane.transport.messages import MessageReader
from controlplane.transport.metadata import from_fields, to_fields
from controlplane.transport.refusal import CallRefusedError, NotGrpcError


def framed(*messages: bytes) -> bytes:
    return b"".join([b"\0" + len(message).to_bytes(4) + message for message in messages])


def head(
    *fields: tuple[bytes, bytes], method: bytes = b"POST", content: bytes = b"application/grpc", size: int = 200
) -> RequestHead:
    return RequestHead(method, b"/a.B/C", [(b"content-type", content), *fields], size, None)


@given(messages=st.lists(st.binary(max_size=400)), cuts=st.lists(st.integers(1, 50)))
def test_messages_are_the_same_whatever_the_pieces(messages: list[bytes], cuts: list[int]):
    reader, body, found = MessageReader(1000), framed(*messages), []
    sizes = iter(cuts)
    while body:
        size = next(sizes, len(body))
        found += reader.feed(body[:size])
        body = body[size:]

    assert found == messages
    assert reader.between
    assert reader.missing == 0


@given(message=st.binary(min_size=1, max_size=400), cut=st.integers(5, 404))
def test_what_a_message_lacks_is_known_once_its_length_is(message: bytes, cut: int):
    reader, whole = MessageReader(1000), framed(message)
    cut = min(cut, len(whole) - 1)
    reader.feed(whole[:cut])

    assert reader.missing == len(whole) - cut
    assert not reader.between


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"\0" + (1001).to_bytes(4), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (b"\1" + (3).to_bytes(4), grpc.StatusCode.INTERNAL),
        (b"\7" + (3).to_bytes(4), grpc.StatusCode.INTERNAL),
    ],
)
def test_a_message_that_cannot_be_taken_is_refused_before_it_has_come(body: bytes, code: grpc.StatusCode):
    with pytest.raises(CallRefusedError) as refused:
        MessageReader(1000).feed(body)

    assert refused.value.code is code


@pytest.mark.parametrize(
    ("written", "seconds"),
    [(b"1H", 3600), (b"2M", 120), (b"3S", 3), (b"250m", 0.25), (b"7u", 7e-6), (b"99999999n", 0.099999999), (b"0S", 0)],
)
def test_timeouts_have_six_units(written: bytes, seconds: float):
    assert invocation(head((b"grpc-timeout", written)), 1000).timeout == pytest.approx(seconds)


@pytest.mark.parametrize("written", [b"", b"S", b"1", b"123456789S", b"1s", b"-1S", b"1.5S", b"1 S"])
def test_other_timeouts_are_refused(written: bytes):
    with pytest.raises(CallRefusedError) as refused:
        invocation(head((b"grpc-timeout", written)), 1000)

    assert refused.value.code is grpc.StatusCode.INTERNAL


def test_a_call_has_its_method_and_what_was_sent_along():
    called = invocation(
        head((b"te", b"trailers"), (b"authorization", b"Bearer x"), (b"grpc-accept-encoding", b"gzip"), (b"k-bin", b"AAE")), 1000
    )

    assert called.method == "/a.B/C"
    assert called.invocation_metadata == (("authorization", "Bearer x"), ("k-bin", b"\0\1"))
    assert called.timeout is None


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (head(method=b"GET"), 405),
        (head(content=b"text/html"), 415),
        (head(content=b"application/grpcs"), 415),
        (head(content=b""), 415),
    ],
)
def test_what_is_no_grpc_has_an_answer_of_http(request_head: RequestHead, status: int):
    with pytest.raises(NotGrpcError) as other:
        invocation(request_head, 1000)

    assert other.value.status == status


@pytest.mark.parametrize(
    "content", [b"application/grpc", b"application/grpc+proto", b"application/GRPC", b"application/grpc;x=y"]
)
def test_every_content_type_of_grpc_is_taken(content: bytes):
    assert invocation(head(content=content), 1000).method == "/a.B/C"


@pytest.mark.parametrize(
    ("request_head", "code"),
    [
        (head(size=1001), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (head((b"grpc-encoding", b"gzip")), grpc.StatusCode.UNIMPLEMENTED),
        (head((b"k-bin", b"!!!")), grpc.StatusCode.INTERNAL),
        (head((b"k-bin", b"A")), grpc.StatusCode.INTERNAL),
    ],
)
def test_what_cannot_be_served_has_a_status(request_head: RequestHead, code: grpc.StatusCode):
    with pytest.raises(CallRefusedError) as refused:
        invocation(request_head, 1000)

    assert refused.value.code is code


@given(st.binary(max_size=30), st.binary(max_size=30))
def test_binary_metadata_comes_back_with_and_without_padding_and_joined(one: bytes, other: bytes):
    written = to_fields([("a-bin", one), ("a-bin", other)])
    fields = [(name.encode(), value.encode()) for name, value in written]
    padded = [(name, value + b"=" * (-len(value) % 4)) for name, value in fields]
    joined = [(b"a-bin", b",".join([value for _, value in fields]))]

    for same in (fields, padded, joined):
        assert from_fields(same) == (("a-bin", one), ("a-bin", other))


@pytest.mark.parametrize("pair", [("Upper", "x"), ("", "x"), ("a b", "x"), ("a", "line\nbreak"), ("a", "ä")])
def test_metadata_that_no_header_can_carry_is_refused(pair: tuple[str, str]):
    with pytest.raises(ValueError, match="metadata"):
        to_fields([pair])


def decoded(block: bytes) -> list[tuple[str, str]]:
    return [(str(name), str(value)) for name, value in hpack.Decoder().decode(block)]


def test_the_end_of_an_answer_says_status_words_and_more():
    block = answers.end(grpc.StatusCode.NOT_FOUND, "100 % weg: ä\n", [("k-bin", b"\0\1")])

    assert decoded(block) == [("grpc-status", "5"), ("grpc-message", "100 %25 weg: %C3%A4%0A"), ("k-bin", "AAE")]


def test_an_answer_that_is_only_an_end_has_its_beginning_too():
    block = answers.end(grpc.StatusCode.UNIMPLEMENTED, alone=True)

    assert decoded(block) == [
        (":status", "200"),
        ("content-type", "application/grpc"),
        ("grpc-status", "12"),
        ("grpc-accept-encoding", "identity"),
    ]


def test_a_block_means_the_same_however_often_and_wherever_it_is_read():
    decoder = hpack.Decoder()
    for _ in range(3):
        assert decoder.decode(answers.end(grpc.StatusCode.OK)) == [("grpc-status", "0")]
        assert dict(decoder.decode(answers.beginning([("x", "y")])))["x"] == "y"


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3000)), max_size=60))
def test_a_peer_never_has_more_under_way_than_its_window_and_is_never_left_without(steps: list[tuple[bool, int]]):
    inflow, unread, window = Inflow(1000), 0, 1000
    for arrives, wish in steps:
        size = min(wish, window if arrives else unread)
        if arrives:
            assert inflow.took(size)
            window, unread = window - size, unread + size
        else:
            window += inflow.read(size)
            unread -= size
        assert window == inflow.window
        assert window + unread <= 1000
        if not unread:
            assert window >= 500


@given(st.integers(0, 1000), st.integers(1, 10_000), st.integers(1000, 5000))
def test_a_large_message_is_let_in_once_and_then_the_window_is_as_before(before: int, size: int, wider: int):
    inflow = Inflow(1000)
    inflow.took(before)
    inflow.demand(size)
    assert inflow.window >= size
    assert inflow.took(size)
    inflow.read(before + size)
    assert 500 <= inflow.window <= 1000
    inflow.widen(wider)
    assert inflow.window == wider


def test_the_limits_are_those_grpcio_was_given():
    limits = Limits.of(rpc_server.options(max_message_bytes=5000))

    assert limits == Limits(
        largest_received=5000, largest_sent=5000, concurrent_streams=100, metadata=8192, idle=1.0, answer=1.0, handshake=5.0
    )
    assert Limits.of(rpc_server.options(pings=False)).idle == math.inf


def looked(*looks: tuple[float, bool, bool, bool]) -> list[Verdict]:
    liveness = Liveness(Limits(idle=1.0, answer=1.0, handshake=5.0), 0.0)
    return [liveness.look(now, ready=ready, heard=heard, blocked=blocked) for now, ready, heard, blocked in looks]


def test_a_silent_peer_is_asked_and_then_given_up():
    looks = [(now, True, False, False) for now in (0.5, 1.0, 1.5, 2.0)]

    assert looked(*looks) == [Verdict.FINE, Verdict.ASK, Verdict.FINE, Verdict.DEAD]


def test_whatever_it_says_is_a_sign_of_life():
    looks = [(1.0, True, False, False), (1.5, True, True, False), (2.25, True, False, False), (2.5, True, False, False)]

    assert looked(*looks) == [Verdict.ASK, Verdict.FINE, Verdict.FINE, Verdict.ASK]


def test_the_silence_of_a_peer_that_has_much_to_read_means_nothing_for_a_while():
    assert looked(*[(float(now), True, False, True) for now in range(1, 32)]) == [Verdict.FINE] * 30 + [Verdict.DEAD]


def test_a_peer_that_has_much_to_read_and_speaks_or_goes_on_reading_is_alive():
    speaks = [(float(now), True, now == 20, True) for now in range(1, 51)]
    reads = [(float(now), True, False, now != 20) for now in range(1, 51)]

    assert looked(*speaks) == [Verdict.FINE] * 50
    assert Verdict.DEAD not in looked(*reads)


def test_a_peer_that_never_says_what_it_speaks_is_given_up_however_much_it_says():
    assert looked((4.9, False, True, False), (5.0, False, True, False)) == [Verdict.FINE, Verdict.DEAD]
