"""One end of the relay benchmark: a session that sends, receives or answers messages. Prints one JSON line when it is done."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from dataclasses import dataclass

from claude_conductor.rpc import process

process.prepare()

import grpc  # noqa: E402 - the settings above are read at import

from bench.processes import token_of  # noqa: E402
from claude_conductor.clock import mint_uuid7  # noqa: E402
from claude_conductor.rpc.channel import bearer, open_channel  # noqa: E402
from claude_conductor.v1 import message_pb2, session_service_pb2  # noqa: E402

CONNECT = "/claude_conductor.v1.SessionService/Connect"
FRAME_BYTES = 256 << 10
PATIENCE = 60.0


@dataclass(slots=True)
class Credit:
    """What may still be sent."""

    messages: int = 0
    size: int = 0


class Peer:
    """A session of one agent."""

    def __init__(self, stream: grpc.aio.StreamStreamCall[bytes, bytes], quality: message_pb2.Quality) -> None:
        self._stream = stream
        self._quality = quality
        self._credit = Credit()
        self._more = asyncio.Event()
        self.welcomed = asyncio.Event()
        self.sequence = 0
        self.committed = 0
        self.refused: list[message_pb2.MessageFrame] = []
        """What the recipient had no room for; it is sent again, as any client of an ephemeral message would."""
        self._under_way: dict[int, message_pb2.MessageFrame] = {}
        self.received: asyncio.Queue[message_pb2.DeliveredFrame] = asyncio.Queue()

    async def hello(self, agent: str) -> None:
        """Open the session and start reading."""
        hello = session_service_pb2.SidecarHello(
            protocol_version=1000, incarnation=f"bench-{agent}", long_running=True, version="bench"
        )
        await self._stream.write(session_service_pb2.ConnectRequest(hello=hello).SerializeToString())
        grant = session_service_pb2.Credit(messages=1 << 30, bytes=1 << 50)
        await self._stream.write(session_service_pb2.ConnectRequest(credit=grant).SerializeToString())

    async def read(self) -> None:
        """Read frames until the stream ends."""
        while (raw := await self._stream.read()) is not grpc.aio.EOF:
            frame = session_service_pb2.ConnectResponse.FromString(raw)
            match frame.WhichOneof("frame"):
                case "delivery":
                    for delivered in frame.delivery.frames:
                        self.received.put_nowait(delivered)
                case "welcome":
                    self.welcomed.set()
                    self._grant(frame.welcome.credit)
                case "credit":
                    self._grant(frame.credit)
                case "committed":
                    self._commit(frame.committed)

    def _commit(self, committed: session_service_pb2.Committed) -> None:
        for refused in committed.refused:
            if refused.reason != "MAILBOX_FULL":
                raise RuntimeError(f"refused: {refused}")
            self.refused.append(self._under_way[refused.sequence])
        for sequence in [each for each in self._under_way if each <= committed.sequence]:
            del self._under_way[sequence]
        self.committed = committed.sequence

    def _grant(self, credit: session_service_pb2.Credit) -> None:
        self._credit.messages += credit.messages
        self._credit.size += credit.bytes
        self._more.set()

    async def send(self, recipient: str, payload: bytes, count: int) -> None:
        """Send `count` messages of one payload as one frame, when there is credit for it."""
        envelopes = []
        packed = b""
        for _ in range(count):
            raw = mint_uuid7(time.time_ns() // 1_000_000)
            packed += raw
            envelopes.append(message_pb2.Envelope(id="msg_" + raw.hex(), type="bench", data=payload))
        header = message_pb2.FrameHeader(recipient=recipient, type="bench", quality=self._quality, message_ids=packed)
        await self.send_frame(message_pb2.MessageFrame(header=header, envelopes=envelopes))

    async def send_frame(self, frame: message_pb2.MessageFrame) -> None:
        """Send a frame when there is credit for it."""
        count, size = len(frame.envelopes), frame.ByteSize()
        while self._credit.messages < count or self._credit.size < size:
            self._more.clear()
            await asyncio.wait_for(self._more.wait(), PATIENCE)
        self._credit.messages -= count
        self._credit.size -= size
        self.sequence += 1
        self._under_way[self.sequence] = frame
        await self._stream.write(
            session_service_pb2.ConnectRequest(sequence=self.sequence, message_frame=frame).SerializeToString()
        )

    async def acknowledge(self, delivered: message_pb2.DeliveredFrame) -> int:
        """Acknowledge a frame and return how many messages it had."""
        count = len(delivered.frame.envelopes)
        first = delivered.header.first_position
        if first:
            receipt = session_service_pb2.Receipt(
                mailbox=delivered.header.mailbox,
                from_position=first,
                to_position=first + count - 1,
                state=message_pb2.MESSAGE_STATE_ACKED,
            )
            self.sequence += 1
            receipts = session_service_pb2.Receipts(receipts=[receipt])
            await self._stream.write(
                session_service_pb2.ConnectRequest(sequence=self.sequence, receipts=receipts).SerializeToString()
            )
        return count


async def flood(peer: Peer, recipient: str, size: int, count: int) -> dict[str, float]:
    """Send as quickly as the credit allows, in frames of up to 256 KiB."""
    payload = b"x" * size
    batch = max(1, min(512, FRAME_BYTES // (size + 64)))
    began = time.perf_counter()
    left = count
    while left:
        await peer.send(recipient, payload, min(batch, left))
        left -= min(batch, left)
        await _send_refused_again(peer)
    while peer.committed < peer.sequence or peer.refused:
        await _send_refused_again(peer)
        await asyncio.sleep(0.001)
    return {"seconds": time.perf_counter() - began}


async def _send_refused_again(peer: Peer) -> None:
    while peer.refused:
        await asyncio.sleep(0.001)
        await peer.send_frame(peer.refused.pop(0))


async def sink(peer: Peer, recipient: str, size: int, count: int) -> dict[str, float]:
    """Receive and acknowledge everything."""
    del recipient, size
    seen, began = 0, 0.0
    while seen < count:
        delivered = await asyncio.wait_for(peer.received.get(), PATIENCE)
        began = began or time.perf_counter()
        seen += await peer.acknowledge(delivered)
    return {"seconds": time.perf_counter() - began, "messages": seen}


async def ping(peer: Peer, recipient: str, size: int, count: int) -> dict[str, list[float]]:
    """Send one message at a time and wait for its echo."""
    payload, times = b"x" * size, []
    for _ in range(count):
        began = time.perf_counter()
        await peer.send(recipient, payload, 1)
        await peer.acknowledge(await asyncio.wait_for(peer.received.get(), PATIENCE))
        times.append(time.perf_counter() - began)
    return {"seconds": times}


async def pong(peer: Peer, recipient: str, size: int, count: int) -> dict[str, float]:
    """Answer every message."""
    for _ in range(count):
        delivered = await asyncio.wait_for(peer.received.get(), PATIENCE)
        await peer.send(recipient, b"x" * size, 1)
        await peer.acknowledge(delivered)
    return {}


async def main() -> None:
    """Play one part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["flood", "sink", "ping", "pong"])
    parser.add_argument("--socket", required=True)
    parser.add_argument("--agent", required=True)
    parser.add_argument("--to", default="")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--quality", choices=["durable", "ephemeral"], default="durable")
    given = parser.parse_args()
    async with open_channel(f"unix:{given.socket}") as channel:
        stream = channel.stream_stream(CONNECT)(metadata=bearer(token_of(given.agent)))
        peer = Peer(stream, message_pb2.Quality.Value(f"QUALITY_{given.quality.upper()}"))
        await peer.hello(given.agent)
        reading = asyncio.create_task(peer.read(), name="read session")
        await asyncio.wait_for(peer.welcomed.wait(), PATIENCE)
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, input)
        work = {"flood": flood, "sink": sink, "ping": ping, "pong": pong}[given.part]
        doing = asyncio.create_task(work(peer, given.to, given.size, given.count), name=given.part)
        await asyncio.wait({reading, doing}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            doing.cancel()
            sys.exit(f"the session ended too early: {reading.exception() or 'the control plane closed it'}")
        print(json.dumps(doing.result()), flush=True)
        stream.cancel()
        await asyncio.gather(reading, return_exceptions=True)


if __name__ == "__main__":
    process.run(main())
