"""Who does not read costs the control plane a bounded amount of memory, and its senders are told to come back later.

That other pairs go on as fast as before is a ratio, measured by `conductor bench slow-consumer`.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc
import psutil
import pytest

from claude_conductor.errors import MailboxFullError
from claude_conductor.rpc.status import from_call
from claude_conductor.v1 import agent_pb2, agent_service_pb2, message_pb2, message_service_pb2
from tests.fakes.control_plane import ROOT, ControlPlane, sidecar_token
from tests.fakes.deaf import Deaf
from tests.fakes.sidecar import Sidecar
from tests.fakes.waiting import eventually

pytestmark = pytest.mark.timeout(180)
MIB = 1 << 20
PAYLOAD = "x" * (256 << 10)
OFFERED = 150 * MIB
GROWTH = 32 * MIB
"""What may be in queues of both streams, in the transport and on the way to the disk, with room for the allocator."""
SETTINGS = {
    "limits": {"mailbox_bytes": 4 * MIB, "messages_a_second": 1e9, "messages_at_once": 1 << 30},
    "lease_seconds": 2.0,
    "heartbeat_seconds": 0.5,
    "streams": {"queue_bytes": MIB, "ahead_bytes": 2 * MIB},
}


class Plane(ControlPlane):
    """Knows what it needs."""

    @property
    def memory(self) -> int:
        assert self.process is not None
        return int(psutil.Process(self.process.pid).memory_info().rss)


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    started = Plane(tmp_path / "home", **SETTINGS)
    await started.start()
    yield started
    await started.close()


@pytest.fixture
async def sender(plane: Plane) -> AsyncIterator[Sidecar]:
    agent = Sidecar(plane.address, "agent-1", sidecar_token("agent-1"), long_running=True)
    yield await agent.connect()
    await agent.disconnect()


def deaf(plane: ControlPlane, agent_id: str = "agent-2") -> Deaf:
    return Deaf(plane.address, agent_id, sidecar_token(agent_id))


async def offer(plane: Plane, send: Callable[[], Awaitable[object]], messages: int = OFFERED // len(PAYLOAD)) -> int:
    """Send many times and return the most memory the control plane had meanwhile beyond what it had after the first few."""
    for _ in range(16):
        await send()
    before = most = plane.memory
    for _ in range(messages):
        await send()
        most = max(most, plane.memory)
    return most - before


async def refusals(sender: Sidecar) -> set[tuple[str, bool]]:
    await sender.until(lambda: not sender.journal)
    return {(refused.reason, refused.HasField("retry_delay")) for refused in sender.refused.values()}


@pytest.mark.parametrize("quality", [message_pb2.QUALITY_DURABLE, message_pb2.QUALITY_EPHEMERAL])
async def test_a_consumer_that_does_not_read_costs_bounded_memory_and_its_senders_are_told(
    plane: Plane, sender: Sidecar, quality: int
) -> None:
    other = await Sidecar(plane.address, "agent-3", sidecar_token("agent-3"), long_running=True).connect()
    async with deaf(plane):

        async def send() -> None:
            sequence = await sender.say("agent-2", PAYLOAD, quality=quality)
            await sender.until(lambda: sequence - 8 not in sender.journal)  # a sender within its credit

        grown = await offer(plane, send)
        assert await refusals(sender) == {("MAILBOX_FULL", True)}
        assert grown < GROWTH, f"{grown / MIB:.0f} MiB more"
        assert await sender.committed(await sender.say("agent-3", "others go on")) is None
        assert (await other.next_frame()).frame.envelopes[0].data == b"others go on"
    await other.disconnect()


async def test_a_caller_without_a_sidecar_is_told_when_to_come_back(plane: Plane) -> None:
    operator = plane.operator()
    request = message_service_pb2.SendMessageRequest(recipient="agent-2", envelope={"type": "note", "data": PAYLOAD.encode()})

    async def fill() -> None:
        for _ in range(100):
            await operator.messages.SendMessage(request, **operator.call)

    async with deaf(plane):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await fill()
    assert failed.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    error = from_call(failed.value)
    assert isinstance(error, MailboxFullError)
    assert error.retry_after == 1.0


async def test_a_sidecar_that_reads_no_answers_is_not_listened_to(plane: Plane) -> None:
    """It sends what is refused, beyond any credit: neither its frames nor the refusals may pile up."""
    async with deaf(plane) as flood:
        header = message_pb2.FrameHeader(recipient="nobody", type="note", message_ids=bytes(16))
        frame = message_pb2.MessageFrame(header=header, envelopes=[message_pb2.Envelope()])
        written = 0
        before = most = plane.memory
        try:
            while written < 400_000:
                async with asyncio.timeout(3):
                    await flood.post(message_frame=frame)
                written += 1
                if written % 500 == 0:
                    most = max(most, plane.memory)
        except (TimeoutError, grpc.aio.AioRpcError, asyncio.InvalidStateError):  # not read any more, or given up
            most = max(most, plane.memory)
        assert written < 400_000
        assert most - before < GROWTH, f"{(most - before) / MIB:.0f} MiB more"


async def test_a_frozen_consumer_is_noticed_and_what_is_for_it_waits_within_its_mailbox(plane: Plane, sender: Sidecar) -> None:
    frozen = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.fakes.deaf", plane.address, "agent-2", sidecar_token("agent-2")),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
    )
    try:
        assert frozen.stdout is not None
        async with asyncio.timeout(15):
            assert await frozen.stdout.readline() == b"ready\n"
        frozen.send_signal(signal.SIGSTOP)

        async def send() -> None:
            await sender.committed(await sender.say("agent-2", PAYLOAD))

        grown = await offer(plane, send, 100)
        assert await refusals(sender) == {("MAILBOX_FULL", True)}
        assert grown < GROWTH, f"{grown / MIB:.0f} MiB more"
        await agent_is_lost(plane, "agent-2")
        again = await Sidecar(plane.address, "agent-2", sidecar_token("agent-2"), long_running=True).connect()
        frames = [await again.next_frame()]
        frames += [await again.next_frame() for _ in range(again.delivered.qsize())]
        assert frames[0].header.first_position == 1
        await again.disconnect()
    finally:
        frozen.kill()
        await frozen.wait()


async def agent_is_lost(plane: Plane, agent_id: str) -> None:
    operator = plane.operator()
    request = agent_service_pb2.GetAgentRequest(agent_id=agent_id)
    lost: list[bool] = []

    async def look() -> None:
        while not lost:
            agent = (await operator.agents.GetAgent(request, **operator.call)).agent
            if agent.state == agent_pb2.AGENT_STATE_LOST:
                lost.append(True)
            await asyncio.sleep(0.05)

    looking = asyncio.create_task(look(), name="look")
    await eventually(lambda: lost)
    await looking
