"""A scripted control plane on a Unix socket: takes what a sidecar sends, says what a test wants said, forgets all when killed."""

# ruff: noqa: N802 - gRPC names its methods in camel case

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc

from claude_conductor.rpc import server as rpc_server
from claude_conductor.v1 import (
    agent_pb2,
    agent_service_pb2,
    agent_service_pb2_grpc,
    artefact_service_pb2,
    artefact_service_pb2_grpc,
    message_pb2,
    session_service_pb2_grpc,
    task_pb2,
    task_service_pb2,
    task_service_pb2_grpc,
)
from claude_conductor.v1 import session_service_pb2 as pb

Context = grpc.aio.ServicerContext


class Servicer(
    session_service_pb2_grpc.SessionServiceServicer,
    task_service_pb2_grpc.TaskServiceServicer,
    artefact_service_pb2_grpc.ArtefactServiceServicer,
    agent_service_pb2_grpc.AgentServiceServicer,
):
    """One life of a control plane."""

    def __init__(self, plane: FakeControlPlane) -> None:
        self._plane = plane
        self.committed = 0

    async def Connect(self, request_iterator: object, context: grpc.aio.ServicerContext) -> None:
        plane = self._plane
        plane.tokens.append(dict(context.invocation_metadata()).get("authorization", ""))
        first = await context.read()
        assert first.HasField("hello")
        await context.write(
            pb.ConnectResponse(
                welcome=pb.Welcome(
                    protocol_version=1000,
                    session_id="s",
                    committed_sequence=self.committed,
                    heartbeat_interval={"nanos": 100_000_000},
                    lease_duration={"seconds": 1},
                    credit=pb.Credit(messages=plane.first_credit, bytes=1 << 24),
                    max_payload_bytes=plane.max_payload,
                    max_message_attempts=plane.message_attempts,
                )
            )
        )
        plane.hellos.append(first.hello)
        plane.outgoing = outgoing = asyncio.Queue()
        plane.changed()
        writer = asyncio.create_task(self._write(context, outgoing), name="fake writer")
        try:
            while (request := await context.read()) is not grpc.aio.EOF:
                await self._take(request, outgoing)
                plane.changed()
                if request.heartbeat.leaving:
                    return
        finally:
            writer.cancel()
            if plane.outgoing is outgoing:
                plane.outgoing = None

    async def _write(self, context: grpc.aio.ServicerContext, outgoing: asyncio.Queue[pb.ConnectResponse]) -> None:
        while True:
            await context.write(await outgoing.get())

    async def _take(self, request: pb.ConnectRequest, outgoing: asyncio.Queue[pb.ConnectResponse]) -> None:
        plane = self._plane
        plane.frames.append(request)
        if not request.sequence or not plane.commits:
            return
        if request.sequence > self.committed:
            self.committed = request.sequence
            plane.taken.append(request)
            refused = plane.refuse(request)
            outgoing.put_nowait(
                pb.ConnectResponse(
                    committed=pb.Committed(
                        sequence=self.committed,
                        refused=[pb.Refused(sequence=request.sequence, reason=refused, message=refused)] if refused else [],
                    )
                )
            )

    async def SubmitTask(self, request: task_service_pb2.SubmitTaskRequest, context: object):
        self._plane.submitted.append(request)
        return task_service_pb2.SubmitTaskResponse(task=task_pb2.Task(task_id="task_child", spec=request.spec))

    async def GetTask(self, request: task_service_pb2.GetTaskRequest, context: object):
        return task_service_pb2.GetTaskResponse(task=task_pb2.Task(task_id=request.task_id, state=task_pb2.TASK_STATE_RUNNING))

    async def WatchTask(self, request: task_service_pb2.WatchTaskRequest, context: object):
        for state in (task_pb2.TASK_STATE_RUNNING, task_pb2.TASK_STATE_SUCCEEDED):
            yield task_service_pb2.WatchTaskResponse(task=task_pb2.Task(task_id=request.task_id, state=state))

    async def WriteArtefact(self, request_iterator: AsyncIterator[artefact_service_pb2.WriteArtefactRequest], context: Context):
        if self._plane.refuse_artefacts is not None:
            await context.abort(self._plane.refuse_artefacts, "no room")
        content = b""
        announced = task_pb2.Artefact()
        async for request in request_iterator:
            if request.HasField("artefact"):
                announced = request.artefact
            content += request.data
        assert announced.sha256 == hashlib.sha256(content).digest()
        announced.artefact_id = f"sha256_{announced.sha256.hex()}"
        self._plane.artefacts[announced.artefact_id] = content
        self._plane.order.append("artefact")
        return artefact_service_pb2.WriteArtefactResponse(artefact=announced)

    async def ListAgents(self, request: agent_service_pb2.ListAgentsRequest, context: object):
        agents = [agent_pb2.Agent(agent_id="agent-2", tenant_id="default", host="secret-host", sidecar_pid=7)]
        return agent_service_pb2.ListAgentsResponse(agents=agents)


class FakeControlPlane:
    """What all lives of the control plane saw."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.hellos: list[pb.SidecarHello] = []
        self.tokens: list[str] = []
        self.frames: list[pb.ConnectRequest] = []
        """Everything, repeats included."""
        self.taken: list[pb.ConnectRequest] = []
        """What a life of it committed."""
        self.submitted: list[task_service_pb2.SubmitTaskRequest] = []
        self.artefacts: dict[str, bytes] = {}
        self.order: list[str] = []
        self.outgoing: asyncio.Queue[pb.ConnectResponse] | None = None
        self.refuse: Callable[[pb.ConnectRequest], str] = lambda _: ""
        self.refuse_artefacts: grpc.StatusCode | None = None
        self.commits = True
        self.first_credit = 1000
        self.max_payload = 1 << 20
        self.message_attempts = 0
        self._server: grpc.aio.Server | None = None
        self._news = asyncio.Condition()
        self._positions = itertools.count(1)
        self._notifying: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        server = grpc.aio.server(options=rpc_server.options(16 << 20))
        servicer = Servicer(self)
        session_service_pb2_grpc.add_SessionServiceServicer_to_server(servicer, server)
        task_service_pb2_grpc.add_TaskServiceServicer_to_server(servicer, server)
        artefact_service_pb2_grpc.add_ArtefactServiceServicer_to_server(servicer, server)
        agent_service_pb2_grpc.add_AgentServiceServicer_to_server(servicer, server)
        server.add_insecure_port(rpc_server.claim_socket(self.path))
        await server.start()
        self._server = server

    async def kill(self) -> None:
        """End at once; the next start knows nothing of this life."""
        if self._server is not None:
            server, self._server = self._server, None
            await server.stop(None)

    def changed(self) -> None:
        async def tell() -> None:
            async with self._news:
                self._news.notify_all()

        task = asyncio.create_task(tell())
        self._notifying.add(task)
        task.add_done_callback(self._notifying.discard)

    async def until(self, condition: Callable[[], object], seconds: float = 15.0) -> None:
        """Wait until something is true of what was seen."""
        async with asyncio.timeout(seconds), self._news:
            await self._news.wait_for(condition)

    async def connected(self, sessions: int = 1) -> None:
        await self.until(lambda: len(self.hellos) >= sessions and self.outgoing is not None)

    def say(self, response: pb.ConnectResponse) -> None:
        assert self.outgoing is not None
        self.outgoing.put_nowait(response)

    def assign(self, task_id: str, spec: task_pb2.TaskSpec, *, attempt: int = 1, traceparent: str = "") -> task_pb2.Lease:
        lease = task_pb2.Lease(task_id=task_id, attempt=attempt, epoch=7)
        assignment = pb.TaskAssignment(
            lease=lease, spec=spec, tenant_id="default", mailbox=f"task/{task_id}", traceparent=traceparent
        )
        self.say(pb.ConnectResponse(assignment=assignment))
        return lease

    def deliver(self, mailbox: str, *texts: str, position: int | None = None, sender: str = "operator") -> int:
        """Deliver messages; returns the first one's position."""
        first = next(self._positions) if position is None else position
        for _ in texts[1:]:
            next(self._positions)
        frame = message_pb2.MessageFrame(
            header=message_pb2.FrameHeader(recipient=mailbox, message_ids=bytes(16 * len(texts))),
            envelopes=[message_pb2.Envelope(id=f"msg_{index:032x}", data=text.encode()) for index, text in enumerate(texts)],
        )
        header = message_pb2.DeliveryHeader(mailbox=mailbox, sender=sender, first_position=first, attempt=1)
        delivered = message_pb2.DeliveredFrame(header=header, frame=frame)
        self.say(pb.ConnectResponse(delivery=pb.Delivery(frames=[delivered])))
        return first

    def results(self) -> list[pb.TaskReport]:
        return [request.report for request in self.taken if request.report.HasField("completed")]

    async def result(self, number: int = 1, seconds: float = 15.0) -> task_pb2.TaskResult:
        await self.until(lambda: len(self.results()) >= number, seconds)
        return self.results()[number - 1].completed

    def output(self, stream: str = "") -> list[pb.TaskOutput]:
        reports = [request.report.output for request in self.taken if request.report.HasField("output")]
        return [output for output in reports if not stream or output.stream == stream]

    def heartbeats(self) -> list[pb.Heartbeat]:
        return [request.heartbeat for request in self.frames if request.HasField("heartbeat")]

    def receipts(self, state: message_pb2.MessageState.ValueType) -> list[pb.Receipt]:
        return [r for request in self.taken for r in request.receipts.receipts if r.state == state]

    def messages(self) -> list[message_pb2.MessageFrame]:
        return [request.message_frame for request in self.taken if request.HasField("message_frame")]
