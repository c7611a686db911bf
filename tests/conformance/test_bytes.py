"""What one language wrote the other reads byte for byte, in any order of fields, and with fields this version does not know."""

from __future__ import annotations

import base64
import uuid
from itertools import product
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf import duration_pb2, json_format, timestamp_pb2, unknown_fields
from google.protobuf.message import Message

from claude_conductor.v1 import local_service_pb2, message_pb2, message_service_pb2, session_service_pb2
from controlplane.api.session.encode import varint
from tests.conformance.conftest import RunnerOf
from tests.conformance.fleet import AGENTS, Fleet
from tests.conformance.runner_process import LANGUAGES
from tests.conformance.test_cases import empty

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(900, func_only=True)]
V1 = "claude_conductor.v1."
UNKNOWN = b"\xfa\x7f\x05later" + b"\xf0\x7f\x2a"  # field 2047 a text, field 2046 a number


def envelope() -> message_pb2.Envelope:
    return message_pb2.Envelope(
        id=f"msg_{uuid.uuid4().hex}",
        source="größe ✓ \U0001f980",
        type="note",
        subject="line\nline\ttab\0nul",
        time=timestamp_pb2.Timestamp(seconds=1_790_000_000, nanos=123_456_789),
        data_content_type="application/octet-stream",
        data=bytes(range(256)) * 5,
        correlation_id=f"msg_{uuid.uuid4().hex}",
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
    )


def backwards(message: Message, **parts: bytes) -> bytes:
    """Serialise with the highest field first and fields of a later version in front; `parts` replace inner messages."""
    written = UNKNOWN
    for descriptor, value in reversed(message.ListFields()):
        if descriptor.name in parts:
            inner = parts[descriptor.name]
            written += varint(descriptor.number << 3 | 2) + varint(len(inner)) + inner
        else:
            alone = type(message)()
            if descriptor.is_repeated:
                getattr(alone, descriptor.name).extend(value)
            elif descriptor.message_type is not None:
                getattr(alone, descriptor.name).CopyFrom(value)
            else:
                setattr(alone, descriptor.name, value)
            written += alone.SerializeToString()
    return written


def base64_of(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def has_unknown(message: Message) -> bool:
    return {(field.field_number, field.data) for field in unknown_fields.UnknownFieldSet(message)} == {
        (2047, b"later"),
        (2046, 42),
    }


@pytest_asyncio.fixture(loop_scope="session", params=list(product(LANGUAGES, LANGUAGES)), ids="-".join)
async def pair(request: pytest.FixtureRequest, fleet: Fleet, runner_of: RunnerOf) -> tuple[Any, Any]:
    writer, reader = [await runner_of(language) for language in request.param]
    await empty(fleet, await runner_of("python"))
    return writer, reader


async def fetched(reader: Any, fleet: Fleet) -> message_pb2.Envelope:
    """Return the one message the second agent gets, from the bytes its client got (or wrote again)."""
    request = local_service_pb2.FetchRequest(wait=duration_pb2.Duration(seconds=10))
    told = {**fleet.target("second"), "method": V1 + "LocalService/Fetch", "raw": base64_of(request.SerializeToString())}
    answer = local_service_pb2.FetchResponse.FromString(base64.b64decode((await reader.call(told))["raw"]))
    assert len(answer.messages) == 1
    return answer.messages[0].envelope


async def test_every_field_of_an_envelope_arrives_as_it_was_written(pair: tuple[Any, Any], fleet: Fleet):
    writer, reader = pair
    said = envelope()
    request = {"recipient": AGENTS["second"], "envelope": json_format.MessageToDict(said)}
    outcome = await writer.call({**fleet.target("first"), "method": V1 + "LocalService/Send", "request": request})
    assert outcome["response"]["messageId"] == said.id
    assert await fetched(reader, fleet) == said


async def test_other_orders_and_unknown_fields_pass_an_agents_socket(pair: tuple[Any, Any], fleet: Fleet):
    writer, reader = pair
    said = envelope()
    request = local_service_pb2.SendRequest(recipient=AGENTS["second"], envelope=said, quality="QUALITY_DURABLE")
    raw = backwards(request, envelope=backwards(said))
    assert raw != request.SerializeToString()
    outcome = await writer.call({**fleet.target("first"), "method": V1 + "LocalService/Send", "raw": base64_of(raw)})
    assert "error" not in outcome
    got = await fetched(reader, fleet)
    assert has_unknown(got)
    got.DiscardUnknownFields()
    assert got == said


async def test_other_orders_and_unknown_fields_pass_the_operators_socket(pair: tuple[Any, Any], fleet: Fleet):
    writer, reader = pair
    said = envelope()
    request = message_service_pb2.SendMessageRequest(recipient="operator", envelope=said)
    raw = backwards(request, envelope=backwards(said))
    operator = fleet.target("operator")
    outcome = await writer.call({**operator, "method": V1 + "MessageService/SendMessage", "raw": base64_of(raw)})
    assert "error" not in outcome
    answer = await reader.call({**operator, "method": V1 + "MessageService/FetchMessages", "raw": ""})
    (got,) = message_service_pb2.FetchMessagesResponse.FromString(base64.b64decode(answer["raw"])).messages
    assert has_unknown(got.envelope)
    got.envelope.DiscardUnknownFields()
    assert got.envelope == said


@pytest.mark.parametrize("written", ["its own way", "backwards"])
async def test_a_frame_of_another_encoder_passes_the_session_stream(written: str, pair: tuple[Any, Any], fleet: Fleet):
    writer, reader = pair
    said = envelope()
    hello = session_service_pb2.SidecarHello(protocol_version=1000, incarnation=uuid.uuid4().hex, long_running=True)
    header = message_pb2.FrameHeader(
        recipient=AGENTS["second"], type="note", message_ids=bytes.fromhex(said.id.removeprefix("msg_"))
    )
    frame = message_pb2.MessageFrame(header=header, envelopes=[said])
    requests = [
        session_service_pb2.ConnectRequest(hello=hello),
        session_service_pb2.ConnectRequest(sequence=1, message_frame=frame),
    ]
    told: dict[str, Any] = {**fleet.target("sidecar"), "method": V1 + "SessionService/Connect", "until": "committed"}
    if written == "backwards":
        inner = UNKNOWN + b"\x12" + varint(len(backwards(said))) + backwards(said)
        inner += b"\x0a" + varint(len(backwards(header))) + backwards(header)
        raws = [requests[0].SerializeToString(), backwards(requests[1], message_frame=inner)]
        told["raws"] = [base64_of(raw) for raw in raws]
    else:
        told["requests"] = [json_format.MessageToDict(request) for request in requests]
    outcome = await writer.call(told)
    committed = outcome["responses"][-1]["committed"]
    assert (committed["sequence"], committed.get("refused")) == ("1", None)
    got = await fetched(reader, fleet)
    assert has_unknown(got) is (written == "backwards")
    got.DiscardUnknownFields()
    assert got == said
