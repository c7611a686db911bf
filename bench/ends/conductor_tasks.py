"""Slots, each with a session as its sidecar would hold it, and a client of the control plane.

A slot does nothing with a task: it reports that it started and that it ended, and has done it once the control plane says that
the report of the end was taken, which with SQLite is after it was synced.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from contextlib import AsyncExitStack

from claude_conductor.rpc import process

process.prepare()

import grpc  # noqa: E402 - the settings above are read at import

from bench.ends import tasks  # noqa: E402
from bench.processes import token_of  # noqa: E402
from claude_conductor.client import Conductor  # noqa: E402
from claude_conductor.rpc.channel import bearer, open_channel  # noqa: E402
from claude_conductor.v1 import session_service_pb2, task_pb2, task_service_pb2  # noqa: E402

CONNECT = "/claude_conductor.v1.SessionService/Connect"


class Slot:
    """One agent's session; it takes one task at a time."""

    def __init__(self, stream: grpc.aio.StreamStreamCall[bytes, bytes], teller: tasks.Tells) -> None:
        self._stream = stream
        self._teller = teller
        self._sequence = 0
        self._unanswered: deque[tuple[int, str, float]] = deque()
        """The report of each end, the task's text, and when it was in hand."""

    async def hello(self, agent: str, labels: dict[str, str]) -> None:
        """Open the session; return once the slot is welcome."""
        hello = session_service_pb2.SidecarHello(
            protocol_version=1000, incarnation=f"bench-{agent}", version="bench", drivers=["command"], labels=labels
        )
        await self._write(session_service_pb2.ConnectRequest(hello=hello))
        while (await self._read()).WhichOneof("frame") != "welcome":
            continue

    async def work(self) -> None:
        """Do nothing with every task that comes, for ever."""
        while True:
            frame = await self._read()
            kind = frame.WhichOneof("frame")
            if kind == "assignment":
                await self._do(frame.assignment, time.monotonic())
            elif kind == "committed":
                if frame.committed.refused:
                    raise ConnectionError(f"refused: {frame.committed.refused[0]}")
                self._tell(frame.committed.sequence)

    async def _do(self, assignment: session_service_pb2.TaskAssignment, taken: float) -> None:
        started = session_service_pb2.TaskReport(lease=assignment.lease, started=session_service_pb2.TaskStarted())
        ended = session_service_pb2.TaskReport(lease=assignment.lease, completed=task_pb2.TaskResult(exit_code=0))
        for report in (started, ended):
            self._sequence += 1
            await self._write(session_service_pb2.ConnectRequest(sequence=self._sequence, report=report))
        self._unanswered.append((self._sequence, assignment.spec.command[-1], taken))

    def _tell(self, committed: int) -> None:
        while self._unanswered and self._unanswered[0][0] <= committed:
            _, text, taken = self._unanswered.popleft()
            self._teller.tell(text, taken, time.monotonic())

    async def _write(self, request: session_service_pb2.ConnectRequest) -> None:
        await self._stream.write(request.SerializeToString())

    async def _read(self) -> session_service_pb2.ConnectResponse:
        raw = await self._stream.read()
        if not isinstance(raw, bytes):
            raise ConnectionError(await self._stream.details())
        return session_service_pb2.ConnectResponse.FromString(raw)


def work(part: tasks.Part) -> None:
    """Work until ended."""
    process.run(_work(part))


async def _work(part: tasks.Part) -> None:
    teller = tasks.Teller(part.done)
    async with AsyncExitStack() as stack:
        slots = [await open_slot(f"r{number}", part.address, teller, stack) for number in range(part.slots)]
        print("ready", flush=True)
        await asyncio.gather(*(slot.work() for slot in slots))


async def open_slot(
    agent: str, address: str, teller: tasks.Tells, stack: AsyncExitStack, labels: dict[str, str] | None = None
) -> Slot:
    """Open the session of one slot, on a connection of its own."""
    channel = await stack.enter_async_context(open_channel(address))
    stream: grpc.aio.StreamStreamCall[bytes, bytes] = channel.stream_stream(CONNECT)(
        metadata=bearer(token_of(agent)), wait_for_ready=True
    )
    stack.callback(stream.cancel)
    slot = Slot(stream, teller)
    await slot.hello(agent, labels or {})
    return slot


def noop(text: str) -> task_pb2.TaskSpec:
    """Return a task that asks for nothing."""
    return task_pb2.TaskSpec(driver="command", command=["true", text])


class Client:
    """Submits tasks."""

    def __init__(self, conductor: Conductor) -> None:
        self._conductor = conductor

    async def submit(self, text: str) -> None:
        """See Submitter."""
        await self._conductor.tasks.submit(noop(text))

    async def submit_many(self, texts: Sequence[str]) -> None:
        """See Submitter."""
        await self._conductor.tasks.submit_all([task_service_pb2.TaskSubmission(spec=noop(text)) for text in texts])


async def open_client(part: tasks.Part, stack: AsyncExitStack) -> Client:
    """Connect as the operator."""
    return Client(await stack.enter_async_context(Conductor.connect(part.address, token_of("operator"))))


if __name__ == "__main__":
    tasks.main(work, open_client, process.run)
