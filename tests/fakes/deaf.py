"""A sidecar that says hello, grants credit without end, beats, and reads nothing more. As a program it can be frozen."""

from __future__ import annotations

import asyncio
import sys
import uuid
from types import TracebackType
from typing import Any, Self

import grpc

from claude_conductor.rpc.channel import bearer, open_channel
from claude_conductor.v1 import agent_pb2
from claude_conductor.v1 import session_service_pb2 as pb

CONNECT = "/claude_conductor.v1.SessionService/Connect"


class Deaf:
    """A raw session. What is written to it piles up wherever the control plane lets it."""

    def __init__(self, address: str, agent_id: str, token: str) -> None:
        self._channel = open_channel(address)
        self._call: Any = self._channel.stream_stream(CONNECT)(metadata=bearer(token), timeout=120)
        self._agent_id = agent_id
        self._writing = asyncio.Lock()
        self._beating: asyncio.Task[None]
        self.sequence = 0

    async def __aenter__(self) -> Self:
        hello = pb.SidecarHello(protocol_version=1000, incarnation=uuid.uuid4().hex, long_running=True, version="0")
        async with asyncio.timeout(15):
            await self.write(hello=hello)
            assert await self._call.read() is not grpc.aio.EOF
            await self.write(credit=pb.Credit(messages=1 << 30, bytes=1 << 50))
        self._beating = asyncio.create_task(self._beat(), name="beat")
        return self

    async def _beat(self) -> None:
        while True:
            await self.write(heartbeat=pb.Heartbeat(state=agent_pb2.AGENT_STATE_IDLE))
            await asyncio.sleep(0.2)

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._beating.cancel()
        await asyncio.gather(self._beating, return_exceptions=True)
        self._call.cancel()
        await self._channel.close()

    async def write(self, **frame: Any) -> None:
        """Write a frame without a number."""
        async with self._writing:
            await self._call.write(pb.ConnectRequest(**frame).SerializeToString())

    async def post(self, **frame: Any) -> None:
        """Write a frame with the next number; nobody ever reads what became of it."""
        self.sequence += 1
        await self.write(sequence=self.sequence, **frame)


async def main(address: str, agent_id: str, token: str) -> None:
    async with Deaf(address, agent_id, token):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.sleep(60)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
