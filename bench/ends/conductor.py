"""An agent's session with the control plane, as a sidecar would hold it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

from claude_conductor.rpc import process

process.prepare()

import grpc  # noqa: E402 - the settings above are read at import

from agent_sidecar.uplink.frames import content_size, numbered  # noqa: E402
from bench.ends import parts  # noqa: E402
from bench.processes import token_of  # noqa: E402
from claude_conductor.clock import mint_uuid7  # noqa: E402
from claude_conductor.rpc.channel import bearer, open_channel  # noqa: E402
from claude_conductor.v1 import message_pb2, session_service_pb2  # noqa: E402

CONNECT = "/claude_conductor.v1.SessionService/Connect"
FRAME_BYTES = 256 << 10
FRAME_MESSAGES = 512
_AGAIN_SECONDS = 0.001
_Frame = tuple[int, bytes]
"""How many messages, and their bytes."""


class Session:
    """One agent's session. Nothing runs beside the part that is played, so a round trip costs what the protocol costs."""

    def __init__(self, stream: grpc.aio.StreamStreamCall[bytes, bytes], recipient: str, quality: str) -> None:
        self._stream = stream
        self._recipient = recipient
        self._quality = message_pb2.Quality.Value(f"QUALITY_{quality.upper()}")
        self._messages = self._bytes = 0  # credit
        self._sequence = self._committed = 0
        self._under_way: dict[int, _Frame] = {}
        self._refused: list[_Frame] = []

    async def hello(self, agent: str) -> None:
        """Open the session."""
        hello = session_service_pb2.SidecarHello(
            protocol_version=1000, incarnation=f"bench-{agent}", long_running=True, version="bench"
        )
        await self._write(session_service_pb2.ConnectRequest(hello=hello))
        await self._write(session_service_pb2.ConnectRequest(credit=session_service_pb2.Credit(messages=1 << 30, bytes=1 << 50)))
        while not self._messages:
            await self._read()

    async def _write(self, request: session_service_pb2.ConnectRequest) -> None:
        await self._stream.write(request.SerializeToString())

    async def _read(self) -> Sequence[message_pb2.DeliveredFrame]:
        """Read one frame; return what it delivers."""
        raw = await self._stream.read()
        if not isinstance(raw, bytes):
            raise ConnectionError(await self._stream.details())
        frame = session_service_pb2.ConnectResponse.FromString(raw)
        kind = frame.WhichOneof("frame")
        if kind == "delivery":
            delivery = frame.delivery
            self._forget(delivery.committed_sequence)
            return delivery.frames
        if kind == "committed":
            self._commit(frame.committed)
        elif kind in {"welcome", "credit"}:
            credit = frame.welcome.credit if kind == "welcome" else frame.credit
            self._messages += credit.messages
            self._bytes += credit.bytes
        return ()

    def _commit(self, committed: session_service_pb2.Committed) -> None:
        for refused in committed.refused:
            if refused.reason != "MAILBOX_FULL":
                raise ConnectionError(f"refused: {refused}")
            self._refused.append(self._under_way[refused.sequence])
        self._forget(committed.sequence)

    def _forget(self, taken: int) -> None:
        for sequence in range(self._committed + 1, taken + 1):
            self._under_way.pop(sequence, None)  # a receipt is not kept
        self._committed = max(self._committed, taken)

    def _frame(self, payload: bytes, count: int) -> _Frame:
        """Return a ConnectRequest without its number, as a sidecar journals it."""
        now_ms = time.time_ns() // 1_000_000
        ids = [mint_uuid7(now_ms) for _ in range(count)]
        request = session_service_pb2.ConnectRequest()
        header, envelopes = request.message_frame.header, request.message_frame.envelopes
        header.recipient, header.type, header.quality, header.message_ids = self._recipient, "bench", self._quality, b"".join(ids)
        for each in ids:
            envelopes.add(id=f"msg_{each.hex()}", type="bench", data=payload)
        return count, request.SerializeToString()

    async def _send(self, frame: _Frame) -> None:
        """Send a frame when there is credit for it."""
        count, body = frame
        size = content_size(len(body))
        while self._messages < count or self._bytes < size:
            await self._read()
        self._messages -= count
        self._bytes -= size
        self._sequence += 1
        self._under_way[self._sequence] = frame
        await self._stream.write(numbered(self._sequence, body))

    async def send(self, payload: bytes) -> None:
        """See Line."""
        await self._send(self._frame(payload, 1))

    async def flood(self, payload: bytes, count: int) -> None:
        """See Line: frames of up to 256 KiB, as a sidecar's outbox fills them; what there was no room for is sent again."""
        batch = max(1, min(FRAME_MESSAGES, FRAME_BYTES // (len(payload) + 64)))
        for first in range(0, count, batch):
            await self._send(self._frame(payload, min(batch, count - first)))
            await self._send_refused()
        while self._under_way or self._refused:
            await self._read()
            await self._send_refused()

    async def _send_refused(self) -> None:
        while self._refused:
            await asyncio.sleep(_AGAIN_SECONDS)
            await self._send(self._refused.pop(0))

    async def receive(self) -> Sequence[bytes]:
        """See Line: one receipt for everything that came together."""
        while not (frames := await self._read()):
            pass
        if frames[0].header.first_position:
            last = frames[-1]
            receipt = session_service_pb2.Receipt(
                mailbox=last.header.mailbox,
                from_position=frames[0].header.first_position,
                to_position=last.header.first_position + len(last.frame.envelopes) - 1,
                state=message_pb2.MESSAGE_STATE_ACKED,
            )
            self._sequence += 1
            receipts = session_service_pb2.Receipts(receipts=[receipt])
            await self._write(session_service_pb2.ConnectRequest(sequence=self._sequence, receipts=receipts))
        return [envelope.data for frame in frames for envelope in frame.frame.envelopes]

    async def ask(self, payload: bytes) -> None:
        """See Line."""
        await self.send(payload)
        await self.receive()


async def open_session(part: parts.Part, number: int, stack: AsyncExitStack) -> Session:
    """Open the session of one pair's end."""
    agent, recipient = (f"s{number}", f"r{number}") if part.sends else (f"r{number}", f"s{number}")
    channel = await stack.enter_async_context(open_channel(part.address))
    stream: grpc.aio.StreamStreamCall[bytes, bytes] = channel.stream_stream(CONNECT)(
        metadata=bearer(token_of(agent)), wait_for_ready=True
    )
    stack.callback(stream.cancel)
    session = Session(stream, recipient, part.quality)
    await session.hello(agent)
    return session


if __name__ == "__main__":
    parts.main(open_session, process.run)
