"""A sidecar of tests: the real SessionService over the real socket, with a journal, and an agent that is a script."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import grpc

from claude_conductor.rpc.channel import Tls, bearer, open_channel
from claude_conductor.v1 import agent_pb2, message_pb2, session_service_pb2_grpc, task_pb2
from claude_conductor.v1 import session_service_pb2 as pb

DEADLINE = 15.0


class Sidecar:
    """Connects as one agent. What it must not lose goes through `journal`, and is sent again after a reconnect."""

    def __init__(
        self,
        address: str,
        agent_id: str,
        token: str,
        *,
        long_running: bool = False,
        drivers: Iterable[str] = ("scripted",),
        tls: Tls | None = None,
        **hello: Any,
    ) -> None:
        self.address = address
        self.tls = tls
        self.agent_id = agent_id
        self.token = token
        self.incarnation = uuid.uuid4().hex
        self.hello: dict[str, Any] = {
            "protocol_version": 1000,
            "drivers": list(drivers),
            "strongest_level": agent_pb2.ISOLATION_LEVEL_STRICT,
            "long_running": long_running,
            "pid": os.getpid(),
            "host": "test",
            "version": "0",
            **hello,
        }
        self.journal: dict[int, pb.ConnectRequest] = {}
        self.sequence = 0
        self.welcome = pb.Welcome()
        self.leases: dict[str, task_pb2.Lease] = {}
        self.positions: dict[str, int] = {}
        self.assignments: asyncio.Queue[pb.TaskAssignment] = asyncio.Queue()
        self.cancellations: asyncio.Queue[pb.TaskCancellation] = asyncio.Queue()
        self.delivered: asyncio.Queue[message_pb2.DeliveredFrame] = asyncio.Queue()
        self.revoked: asyncio.Queue[task_pb2.Lease] = asyncio.Queue()
        self.moves: asyncio.Queue[pb.Move] = asyncio.Queue()
        self.holds: asyncio.Queue[pb.CredentialHold] = asyncio.Queue()
        self.closed: list[pb.QuestionClosed] = []
        self.refused: dict[int, pb.Refused] = {}
        self.published: dict[int, int] = {}
        self.credit_messages = 0
        self.ended: grpc.aio.AioRpcError | None = None
        self._changed = asyncio.Condition()
        self._channel: grpc.aio.Channel | None = None
        self._call: Any = None
        self._reader: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()

    # --- the connection

    async def connect(self, *, credit: tuple[int, int] | None = (100_000, 64 << 20)) -> Sidecar:
        """Open a session, say hello, send the journal again, and grant credit."""
        await self.disconnect()
        self.ended = None
        self._channel = open_channel(self.address, tls=self.tls)
        stub: Any = session_service_pb2_grpc.SessionServiceStub(self._channel)
        self._call = stub.Connect(metadata=bearer(self.token), wait_for_ready=True, timeout=120)
        hello = pb.SidecarHello(
            incarnation=self.incarnation,
            active_leases=[*self.leases.values(), *self._finished()],
            mailbox_positions=self.positions,
            **self.hello,
        )
        async with asyncio.timeout(DEADLINE):
            await self._call.write(pb.ConnectRequest(hello=hello))
            answer = await self._call.read()
            assert answer is not grpc.aio.EOF, f"refused: {await self._call.details()}"
        self.welcome = answer.welcome
        self._forget(self.welcome.committed_sequence)
        self._reader = asyncio.create_task(self._read(self._call), name=f"fake sidecar {self.agent_id}")
        if credit is not None:
            await self.send(pb.ConnectRequest(credit=pb.Credit(messages=credit[0], bytes=credit[1])))
        for sequence in sorted(self.journal):
            await self.send(self.journal[sequence])
        return self

    def _finished(self) -> list[task_pb2.Lease]:
        """Return the leases whose results are in the journal."""
        return [frame.report.lease for frame in self.journal.values() if frame.report.HasField("completed")]

    async def disconnect(self) -> None:
        """Drop the connection without a word, as a broken link would."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
            self._reader = None
        if self._call is not None:
            self._call.cancel()
            self._call = None
        if self._channel is not None:
            await self._channel.close()
            self._channel = None

    def die(self) -> None:
        """Become another life of the sidecar process; what the old one worked on is gone, its journal is kept."""
        self.incarnation = uuid.uuid4().hex
        self.leases.clear()
        self.positions.clear()

    async def _read(self, call: Any) -> None:
        try:
            while (answer := await call.read()) is not grpc.aio.EOF:
                await self._take(answer)
        except grpc.aio.AioRpcError as error:
            self.ended = error
        async with self._changed:
            self._changed.notify_all()

    async def _take(self, answer: pb.ConnectResponse) -> None:
        match answer.WhichOneof("frame"):
            case "delivery":
                self._forget(answer.delivery.committed_sequence)
                for frame in answer.delivery.frames:
                    if frame.header.first_position:
                        last = frame.header.first_position + len(frame.frame.envelopes) - 1
                        self.positions[frame.header.mailbox] = last
                    await self.delivered.put(frame)
            case "committed":
                self.published.update({each.sequence: each.recipients for each in answer.committed.published})
                self.refused.update({refused.sequence: refused for refused in answer.committed.refused})
                self._forget(answer.committed.sequence)
            case "assignment":
                self.leases[answer.assignment.lease.task_id] = answer.assignment.lease
                await self.assignments.put(answer.assignment)
            case "cancellation":
                await self.cancellations.put(answer.cancellation)
            case "leases_revoked":
                for lease in answer.leases_revoked.leases:
                    self.leases.pop(lease.task_id, None)
                    await self.revoked.put(lease)
            case "credit":
                self.credit_messages += answer.credit.messages
            case _:
                await self._hear(answer)
        async with self._changed:
            self._changed.notify_all()

    async def _hear(self, answer: pb.ConnectResponse) -> None:
        match answer.WhichOneof("frame"):
            case "question_closed":
                self.closed.append(answer.question_closed)
            case "credential_hold":
                await self.holds.put(answer.credential_hold)
            case "move":
                await self.moves.put(answer.move)

    def _forget(self, sequence: int) -> None:
        for known in [known for known in self.journal if known <= sequence]:
            del self.journal[known]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something the stream brings makes the condition true."""
        async with asyncio.timeout(DEADLINE), self._changed:
            await self._changed.wait_for(condition)

    # --- sending

    async def send(self, frame: pb.ConnectRequest) -> None:
        """Write a frame now; one that the connection loses stays in the journal."""
        if self._call is None:
            return
        try:
            async with self._writing:
                await self._call.write(frame)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return

    async def post(self, **content: Any) -> int:
        """Journal and send a numbered frame; return its number."""
        self.sequence += 1
        frame = pb.ConnectRequest(sequence=self.sequence, **content)
        self.journal[self.sequence] = frame
        await self.send(frame)
        return self.sequence

    async def committed(self, sequence: int) -> pb.Refused | None:
        """Wait until the frame is taken or refused; return the refusal."""
        await self.until(lambda: sequence not in self.journal)
        return self.refused.get(sequence)

    async def say(self, recipient: str, *texts: str, ids: list[bytes] | None = None, **header: Any) -> int:
        """Send messages in one frame."""
        packed = ids or [uuid.uuid4().bytes for _ in texts]
        envelopes = [
            message_pb2.Envelope(id=f"msg_{raw.hex()}", source=self.agent_id, type="note", data=text.encode())
            for raw, text in zip(packed, texts, strict=True)
        ]
        head = message_pb2.FrameHeader(recipient=recipient, type="note", message_ids=b"".join(packed), **header)
        return await self.post(message_frame=message_pb2.MessageFrame(header=head, envelopes=envelopes))

    async def receipt(self, mailbox: str, first: int, last: int, state: int, reason: str = "") -> int:
        receipt = pb.Receipt(mailbox=mailbox, from_position=first, to_position=last, state=state, reason=reason)  # type: ignore[arg-type]
        return await self.post(receipts=pb.Receipts(receipts=[receipt]))

    async def beat(self, state: int = agent_pb2.AGENT_STATE_IDLE) -> None:
        """Give a sign of life that renews every lease."""
        heartbeat = pb.Heartbeat(leases=list(self.leases.values()), state=state)  # type: ignore[arg-type]
        await self.send(pb.ConnectRequest(heartbeat=heartbeat))

    async def leave(self) -> None:
        """Say farewell, as a sidecar that was told to stop."""
        await self.send(pb.ConnectRequest(heartbeat=pb.Heartbeat(state=agent_pb2.AGENT_STATE_IDLE, leaving=True)))

    async def report(self, lease: task_pb2.Lease, **report: Any) -> int:
        return await self.post(report=pb.TaskReport(lease=lease, **report))

    # --- receiving

    async def next_assignment(self) -> pb.TaskAssignment:
        async with asyncio.timeout(DEADLINE):
            return await self.assignments.get()

    async def next_frame(self) -> message_pb2.DeliveredFrame:
        async with asyncio.timeout(DEADLINE):
            return await self.delivered.get()

    async def next_cancellation(self) -> pb.TaskCancellation:
        async with asyncio.timeout(DEADLINE):
            return await self.cancellations.get()

    # --- the scripted agent

    async def started(self, assignment: pb.TaskAssignment) -> int:
        return await self.report(assignment.lease, started=pb.TaskStarted())

    async def completed(self, assignment: pb.TaskAssignment, summary: str = "done", **result: Any) -> int:
        sequence = await self.report(assignment.lease, completed=task_pb2.TaskResult(summary=summary, **result))
        self.leases.pop(assignment.lease.task_id, None)
        return sequence

    async def serve(self, work: Callable[[pb.TaskAssignment], Awaitable[None]]) -> None:
        """Do every task that comes, until cancelled."""
        while True:
            await work(await self.assignments.get())
