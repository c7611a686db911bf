"""What a consumer that stops reading does to the others: their p99, and the control plane's memory, beside one that reads.

Phases are interleaved, each with a control plane of its own: `alone` (paced pairs), `reading` (the same, and a sender whose
consumer reads) and `stopped` (the same sender, and the consumer reads nothing). The sender waits as the refusals say.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from claude_conductor.rpc import process

process.prepare()

import grpc  # noqa: E402 - the settings above are read at import

from bench.figures import Figure, of_rounds, percentile  # noqa: E402
from bench.processes import control_plane, memory, of_ours, token_of  # noqa: E402
from claude_conductor.clock import mint_uuid7  # noqa: E402
from claude_conductor.rpc.channel import bearer, open_channel  # noqa: E402
from claude_conductor.v1 import agent_pb2, message_pb2  # noqa: E402
from claude_conductor.v1 import session_service_pb2 as pb  # noqa: E402

PHASES = ("alone", "reading", "stopped")
PAIRS = 4
PACE = 0.02
"""Seconds between two messages of a pair."""
LOAD_PACE = 0.005
LOAD_BYTES = 16 << 10
"""Of the third pair: 200 messages a second, 3 MiB a second."""
MAILBOX = 500
"""Messages; a consumer that stops has a full one after 2.5 s."""
PATIENCE = 30.0
SPREAD_LIMIT = 2.0


class Session:
    """A raw session of one agent."""

    def __init__(self, channel: grpc.aio.Channel, agent: str) -> None:
        self._stream = channel.stream_stream("/claude_conductor.v1.SessionService/Connect")(metadata=bearer(token_of(agent)))
        self._agent = agent
        self._sequence = 0
        self.refused: list[pb.Refused] = []
        self.committed = 0

    async def open(self) -> None:
        """Say hello and grant credit without end."""
        hello = pb.SidecarHello(protocol_version=1000, incarnation=self._agent, long_running=True, version="bench")
        await self._write(hello=hello)
        await asyncio.wait_for(self._stream.read(), PATIENCE)
        await self._write(credit=pb.Credit(messages=1 << 30, bytes=1 << 50))

    async def _write(self, **frame: object) -> None:
        await self._stream.write(pb.ConnectRequest(**frame).SerializeToString())  # type: ignore[arg-type]

    async def beat(self) -> None:
        """Give signs of life for ever."""
        while True:
            await self._write(heartbeat=pb.Heartbeat(state=agent_pb2.AGENT_STATE_IDLE))
            await asyncio.sleep(1.0)

    async def send(self, recipient: str, payload: bytes) -> None:
        """Send one durable message."""
        raw = mint_uuid7(time.time_ns() // 1_000_000)
        header = message_pb2.FrameHeader(recipient=recipient, type="bench", message_ids=raw)
        envelope = message_pb2.Envelope(id="msg_" + raw.hex(), type="bench", data=payload)
        self._sequence += 1
        await self._write(sequence=self._sequence, message_frame=message_pb2.MessageFrame(header=header, envelopes=[envelope]))

    async def read(self, times: list[float]) -> None:
        """Read for ever; note how long each message was under way, and acknowledge it."""
        while (raw := await self._stream.read()) is not grpc.aio.EOF:
            frame = pb.ConnectResponse.FromString(raw)
            if frame.HasField("committed"):
                self.committed = frame.committed.sequence
                self.refused += frame.committed.refused
            for delivered in frame.delivery.frames:
                now = time.monotonic()
                times += [now - float(envelope.data[:32]) for envelope in delivered.frame.envelopes]
                await self._acknowledge(delivered)

    async def _acknowledge(self, delivered: message_pb2.DeliveredFrame) -> None:
        header = delivered.header
        last = header.first_position + len(delivered.frame.envelopes) - 1
        receipt = pb.Receipt(
            mailbox=header.mailbox, from_position=header.first_position, to_position=last, state=message_pb2.MESSAGE_STATE_ACKED
        )
        self._sequence += 1
        await self._write(sequence=self._sequence, receipts=pb.Receipts(receipts=[receipt]))


async def pairs(socket: str, seconds: float) -> dict[str, object]:
    """Let paced pairs write to each other, and return how long their messages were under way."""
    times: list[float] = []
    async with open_channel(f"unix:{socket}") as channel:
        sessions = [Session(channel, f"pair-{number}") for number in range(2 * PAIRS)]
        for session in sessions:
            await session.open()
        reading = [asyncio.create_task(session.read(times), name="read") for session in sessions]
        await _begin()
        end = time.monotonic() + seconds
        while (due := time.monotonic()) < end:
            for number in range(PAIRS):
                await sessions[2 * number].send(f"pair-{2 * number + 1}", f"{time.monotonic():<32}".encode() + bytes(224))
                await asyncio.sleep(PACE / PAIRS)
            await asyncio.sleep(max(0.0, due + PACE - time.monotonic()))
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
    return {"times": times}


async def load(socket: str, seconds: float, *, reads: bool) -> dict[str, object]:
    """Write to one consumer, which reads or does not, and heed what the refusals say."""
    async with open_channel(f"unix:{socket}") as channel, open_channel(f"unix:{socket}") as other:
        sender, consumer = Session(channel, "sender"), Session(other, "consumer")
        await sender.open()
        await consumer.open()
        times: list[float] = []
        tasks = [asyncio.create_task(sender.read([]), name="read"), asyncio.create_task(consumer.beat(), name="beat")]
        if reads:
            tasks.append(asyncio.create_task(consumer.read(times), name="consume"))
        await _begin()
        sent, end = 0, time.monotonic() + seconds
        while (due := time.monotonic()) < end:
            before = len(sender.refused)
            await sender.send("consumer", f"{time.monotonic():<32}".encode() + bytes(LOAD_BYTES - 32))
            sent += 1
            await asyncio.sleep(max(0.0, due + LOAD_PACE - time.monotonic()))
            if len(sender.refused) > before:
                await asyncio.sleep(sender.refused[-1].retry_delay.ToMicroseconds() / 1e6)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        reasons = sorted({refused.reason for refused in sender.refused})
    return {"sent": sent, "refused": len(sender.refused), "reasons": reasons, "read": len(times)}


async def _begin() -> None:
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, input)


def _start(part: str, socket: Path, seconds: float) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-m", "bench.slow_consumer", part, str(socket), str(seconds)],
        stdin=-1,
        stdout=-1,
        text=True,
        env=of_ours(),
    )
    assert child.stdout is not None
    if child.stdout.readline() != "ready\n":
        sys.exit("a part of the benchmark did not start; its message is above")
    return child


def phase(name: str, seconds: float) -> dict[str, object]:
    """Run one phase and return the latencies of the pairs, what became of the load, and how the memory grew in MB."""
    agents = [*(f"pair-{number}" for number in range(2 * PAIRS)), "sender", "consumer"]
    with (
        tempfile.TemporaryDirectory(prefix="cb") as place,
        control_plane(Path(place), agents, "sqlite", mailbox_messages=MAILBOX) as server,
    ):
        socket = Path(place) / "run/control.sock"
        parts = [_start("pairs", socket, seconds)]
        if name != "alone":
            parts.append(_start(name, socket, seconds))
        before = memory(server.pid)[0]
        for part in parts:
            assert part.stdin is not None
            part.stdin.write("\n")
            part.stdin.flush()
        found: dict[str, object] = {}
        for part in parts:
            output, _ = part.communicate(timeout=seconds + PATIENCE)
            if part.returncode:
                sys.exit("a part of the benchmark failed; its message is above")
            found |= json.loads(output)
        return {**found, "grown": memory(server.pid)[0] - before}


def measure(rounds: int, seconds: float = 6.0) -> list[Figure]:
    """Measure every phase in every round, in turning order, and compare within the round."""
    found: dict[str, list[dict[str, object]]] = {name: [] for name in PHASES}
    for number in range(max(rounds, 3)):
        for name in (*PHASES[number % 3 :], *PHASES[: number % 3]):
            found[name].append(phase(name, seconds))
    figures: list[Figure] = []
    p99 = {name: [percentile(_times(each), 0.99) * 1e3 for each in phases] for name, phases in found.items()}
    for name, phases in found.items():
        medians = [percentile(_times(each), 0.5) * 1e3 for each in phases]
        figures.append(of_rounds("slow-consumer", f"pairs, {name}: one way p50", "ms", medians))
        figures.append(of_rounds("slow-consumer", f"pairs, {name}: one way p99", "ms", p99[name]))
        figures.append(
            of_rounds("slow-consumer", f"control plane, {name}: memory grown", "MB", [_number(each, "grown") for each in phases])
        )
    refused = [_number(each, "refused") / _number(each, "sent") for each in found["stopped"]]
    figures.append(of_rounds("slow-consumer", "share of the load refused, stopped", "ratio", refused, "> 0"))
    steady = max(p99["alone"]) / min(p99["alone"]) <= SPREAD_LIMIT
    verdict = "<= 1.2" if steady else f"no verdict: alone it spread over {SPREAD_LIMIT:g}x"
    for base, goal in (("reading", verdict), ("alone", "")):
        ratios = [one / other for one, other in zip(p99["stopped"], p99[base], strict=True)]
        figures.append(of_rounds("slow-consumer", f"p99 of the pairs, stopped / {base}", "ratio", ratios, goal))
    return figures


def _times(found: dict[str, object]) -> list[float]:
    times = found["times"]
    assert isinstance(times, list)
    return times[len(times) // 10 :]  # the first ones find cold caches


def _number(found: dict[str, object], name: str) -> float:
    return float(str(found[name]))


async def main(arguments: Sequence[str]) -> None:
    """Play one part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["pairs", "reading", "stopped"])
    parser.add_argument("socket")
    parser.add_argument("seconds", type=float)
    given = parser.parse_args(arguments)
    if given.part == "pairs":
        found = await pairs(given.socket, given.seconds)
    else:
        found = await load(given.socket, given.seconds, reads=given.part == "reading")
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    process.run(main(sys.argv[1:]))
