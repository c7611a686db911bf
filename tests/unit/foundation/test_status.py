"""Every reason crosses the wire and comes back as the same class, over a real server."""

import grpc
import pytest

from claude_conductor import errors
from claude_conductor.errors import ConductorError
from claude_conductor.rpc import channel, server, status

METHOD = "/test.Service/Fail"


async def over_the_wire(address: str, error: ConductorError) -> ConductorError:
    async def fail(_request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        await status.abort(context, error)
        return b""

    listener = grpc.aio.server(options=server.options())
    handlers = {"Fail": grpc.unary_unary_rpc_method_handler(fail)}
    listener.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", handlers),))
    listener.add_insecure_port(address)
    await listener.start()
    try:
        async with channel.open_channel(address) as line:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await line.unary_unary(METHOD)(b"", timeout=5)
        return status.from_call(caught.value)
    finally:
        await listener.stop(0)


@pytest.mark.parametrize("kind", errors.ALL, ids=lambda kind: kind.reason)
async def test_a_reason_comes_back_as_the_same_class_with_its_details_and_advice(kind, tmp_path):
    sent = kind(agent_id="reviewer", size=3)

    received = await over_the_wire(f"unix:{tmp_path}/s", sent)

    expected = next(c for c in errors.ALL if c.reason == kind.reason)
    assert type(received) is expected
    assert received.message == sent.message
    assert received.details == {"agent_id": "reviewer", "size": "3"}
    assert received.next_step == sent.next_step


async def test_a_server_that_is_not_there_is_an_unavailable_control_plane(tmp_path):
    async with channel.open_channel(f"unix:{tmp_path}/nobody") as line:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await line.unary_unary(METHOD)(b"", timeout=5)

    assert isinstance(status.from_call(caught.value), errors.ControlPlaneUnavailableError)


def test_every_kind_has_a_code():
    assert set(status.CODES) == set(errors.Kind)


def test_what_may_help_later_says_when():
    details = status.to_proto(errors.MailboxFullError()).details

    assert [detail.TypeName() for detail in details] == ["google.rpc.ErrorInfo", "google.rpc.RetryInfo"]
