"""A stream that breaks while it is written to ends its session in an ordinary way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from claude_conductor.clock import SystemClock
from claude_conductor.errors import ControlPlaneUnavailableError
from claude_conductor.ids import DEFAULT_TENANT, AgentId
from claude_conductor.telemetry.traces import PassingTracer
from claude_conductor.v1 import session_service_pb2 as pb
from controlplane.api.guard.caller import Caller, set_caller
from controlplane.app import Parts, build
from controlplane.backends.blobs.output_directory import OutputDirectory
from controlplane.backends.memory.stores import open_memory
from controlplane.domain.agent import State
from controlplane.domain.identity import Role
from controlplane.interfaces.mailbox_store import MailboxLimits
from controlplane.service.work import Work
from controlplane.settings import Settings


class BrokenStream:
    """Lets some writes through and breaks at the next, as gRPC does when its peer goes away; `read` then ends or waits."""

    def __init__(self, *frames: pb.ConnectRequest, writes: int, ends: bool, breaks: bool = False) -> None:
        self._frames = [frame.SerializeToString() for frame in frames]
        self._writes = writes
        self._ends = ends
        self._breaks = breaks

    async def read(self) -> object:
        if self._frames:
            return self._frames.pop(0)
        if self._breaks:
            raise grpc.aio.InternalError("The call has ended.")
        if not self._ends:
            await asyncio.Event().wait()
        return grpc.aio.EOF

    async def send_initial_metadata(self, metadata: object) -> None:
        assert metadata == ()

    async def write(self, frame: bytes) -> None:
        assert pb.ConnectResponse.FromString(frame).WhichOneof("frame")
        self._writes -= 1
        if self._writes < 0:
            raise grpc.aio.InternalError("Failed grpc_call_start_batch")


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    clock = SystemClock()
    output = OutputDirectory(tmp_path / "output", 1000)
    async with asyncio.TaskGroup() as group:
        work = Work(group)
        stores = open_memory(clock, MailboxLimits())
        yield build(Settings(tmp_path), stores, output, work, clock, PassingTracer())
        work.cancel()
    await output.close()


HELLO = pb.ConnectRequest(hello=pb.SidecarHello(protocol_version=1000, incarnation="life_1", long_running=True))
RECEIPT = pb.ConnectRequest(
    sequence=1, receipts=pb.Receipts(receipts=[pb.Receipt(mailbox="agent-1", from_position=1, to_position=1, state=1)])
)


@pytest.mark.parametrize(
    ("writes", "ends"),
    [
        pytest.param(0, False, id="the welcome"),
        pytest.param(1, False, id="an answer"),
        pytest.param(1, True, id="the last answers, once the sidecar has said its last"),
    ],
)
async def test_a_write_to_a_sidecar_that_hung_up_ends_the_session_and_is_no_bug(parts: Parts, writes: int, *, ends: bool) -> None:
    set_caller(Caller(Role.SIDECAR, DEFAULT_TENANT, AgentId("agent-1")))
    stream = BrokenStream(HELLO, RECEIPT, writes=writes, ends=ends)
    async with asyncio.timeout(5):
        with pytest.raises(ControlPlaneUnavailableError, match="The stream ended"):
            await parts.servicers.session.connect(None, stream)  # type: ignore[arg-type]
    assert parts.registry.get(DEFAULT_TENANT, AgentId("agent-1")).state is State.LOST
    assert parts.registry.all_connected() == []


@pytest.mark.parametrize("frames", [(), (HELLO,), (HELLO, RECEIPT)], ids=["hello", "first frame", "later"])
async def test_a_read_from_a_sidecar_that_is_gone_ends_the_session_and_is_no_bug(
    parts: Parts, frames: tuple[pb.ConnectRequest, ...]
) -> None:
    set_caller(Caller(Role.SIDECAR, DEFAULT_TENANT, AgentId("agent-1")))
    stream = BrokenStream(*frames, writes=100, ends=False, breaks=True)
    async with asyncio.timeout(5):
        with pytest.raises(ControlPlaneUnavailableError, match="The stream ended"):
            await parts.servicers.session.connect(None, stream)  # type: ignore[arg-type]
    assert parts.registry.all_connected() == []
