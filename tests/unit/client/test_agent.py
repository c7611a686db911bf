"""The client inside of a sandbox, against a local service on a real socket."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from claude_conductor import errors
from claude_conductor.client.agent import AgentClient
from claude_conductor.rpc import status
from claude_conductor.v1 import agent_pb2, local_service_pb2, local_service_pb2_grpc, message_pb2, message_service_pb2, task_pb2


@dataclass
class Door(local_service_pb2_grpc.LocalServiceServicer):
    """What a sidecar would answer."""

    asked: list[object] = field(default_factory=list)
    both_done: asyncio.Event = field(default_factory=asyncio.Event)
    orders: list[str] = field(default_factory=list)
    failing: int = 0
    """So many fetches fail before one is answered."""

    async def GetSelf(self, request, context):  # noqa: N802
        self.asked.append(dict(context.invocation_metadata()))
        return local_service_pb2.GetSelfResponse(agent_id="agent-1", mailbox="task/t")

    async def Send(self, request, context):  # noqa: N802
        self.asked.append(request)
        if request.recipient == "nobody":
            await status.abort(context, errors.AgentNotFoundError(agent_id="nobody"))
        return local_service_pb2.SendResponse(message_id="msg_1", recipient_count=3)

    async def Request(self, request, context):  # noqa: N802
        self.asked.append(request)
        position = 0 if request.quality == message_pb2.QUALITY_EPHEMERAL else 7
        reply = message_service_pb2.ReceivedMessage(sender="agent/x", position=position, mailbox="task/t")
        return local_service_pb2.RequestResponse(reply=reply)

    async def Subscribe(self, request, context):  # noqa: N802
        self.asked.append(request)
        return local_service_pb2.SubscribeResponse()

    async def Unsubscribe(self, request, context):  # noqa: N802
        self.asked.append(request)
        return local_service_pb2.UnsubscribeResponse()

    async def ListSubscriptions(self, request, context):  # noqa: N802
        return local_service_pb2.ListSubscriptionsResponse(topics=["news"])

    async def Fetch(self, request, context):  # noqa: N802
        self.asked.append(request)
        if self.failing:
            self.failing -= 1
            await status.abort(context, errors.ControlPlaneUnavailableError())
        return local_service_pb2.FetchResponse(messages=[message_service_pb2.ReceivedMessage(sender="agent/x", position=7)])

    async def Acknowledge(self, request, context):  # noqa: N802
        self.asked.append(request)
        return local_service_pb2.AcknowledgeResponse()

    async def ListPeers(self, request, context):  # noqa: N802
        return local_service_pb2.ListPeersResponse(agents=[agent_pb2.Agent(agent_id="agent-2")])

    async def SubmitSubtask(self, request, context):  # noqa: N802
        self.asked.append(request)
        return local_service_pb2.SubmitSubtaskResponse(task=task_pb2.Task(task_id="task_child"))

    async def GetSubtask(self, request, context):  # noqa: N802
        self.asked.append(request)
        return local_service_pb2.GetSubtaskResponse(task=task_pb2.Task(task_id=request.task_id))

    async def ReportProgress(self, request, context):  # noqa: N802
        self.asked.append(request.text)
        return local_service_pb2.ReportProgressResponse()

    async def AskHuman(self, request, context):  # noqa: N802
        self.asked.append(request)
        return local_service_pb2.AskHumanResponse(question_id=request.question_id, text="yes", answered_by="operator")

    async def NextTask(self, request, context):  # noqa: N802
        if not self.orders:
            await status.abort(context, errors.DeadlineExceededError())
        return local_service_pb2.NextTaskResponse(task_id=self.orders.pop(0))

    async def CompleteTask(self, request, context):  # noqa: N802
        self.asked.append(request)
        if not self.orders:
            self.both_done.set()
        return local_service_pb2.CompleteTaskResponse()


@asynccontextmanager
async def serving(path: Path, door: Door) -> AsyncIterator[None]:
    server = grpc.aio.server()
    local_service_pb2_grpc.add_LocalServiceServicer_to_server(door, server)
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    try:
        yield
    finally:
        await server.stop(0)


@pytest.fixture
def socket() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="cc-") as folder:
        yield Path(folder) / "agent.sock"


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.fixture
async def agent(socket: Path, door: Door) -> AsyncIterator[AgentClient]:
    async with serving(socket, door), AgentClient.connect(environment={"CONDUCTOR_SOCKET": str(socket)}) as client:
        yield client


async def test_the_socket_is_the_identity_so_no_token_travels(agent: AgentClient, door: Door):
    assert (await agent.get_self()).mailbox == "task/t"
    assert "authorization" not in door.asked[0]  # type: ignore[operator]


async def test_a_question_and_an_approval_are_told_apart_even_if_there_is_nothing_to_approve(agent: AgentClient, door: Door):
    answer = await agent.ask_human("which?", options=["a", "b"], timeout=1.5, question_id="q")
    await agent.ask_human("may I?", approve="rm -rf build")
    await agent.ask_human("may I?", approve="")

    question, approval, nothing = door.asked
    assert (answer.text, answer.question_id) == ("yes", "q")
    assert (question.kind, list(question.options), question.timeout.ToMilliseconds()) == (1, ["a", "b"], 1500)
    assert (approval.kind, approval.raw, nothing.kind) == (task_pb2.QUESTION_KIND_APPROVAL, "rm -rf build", approval.kind)


async def test_a_message_is_built_from_words_or_taken_as_an_envelope(agent: AgentClient, door: Door):
    await agent.send("parent", b"hello", type="question", ephemeral=True, time_to_live=1.5, correlation_id="msg_0")
    await agent.send("parent", message_pb2.Envelope(type="mine", data=b"x"))

    first, second = door.asked
    assert (first.envelope.data, first.envelope.type, first.quality) == (b"hello", "question", message_pb2.QUALITY_EPHEMERAL)
    assert first.time_to_live.ToMilliseconds() == 1500
    assert second.envelope.type == "mine"
    assert second.quality == message_pb2.QUALITY_DURABLE
    with pytest.raises(errors.AgentNotFoundError):
        await agent.send("nobody", b"x")


async def test_who_publishes_is_told_how_many_get_it(agent: AgentClient, door: Door):
    sent = await agent.publish("topic/news", b"hello", type="note", ephemeral=True)

    assert (sent.message_id, sent.recipients) == ("msg_1", 3)
    assert (door.asked[0].recipient, door.asked[0].quality) == ("topic/news", message_pb2.QUALITY_EPHEMERAL)
    assert door.asked[0].envelope.type == "note"


async def test_an_answer_is_acknowledged_with_its_return(agent: AgentClient, door: Door):
    reply = await agent.request("agent-2", b"which?", timeout=2.5, message_id="msg_1")

    asked, acknowledged = door.asked
    assert reply.sender == "agent/x"
    assert (asked.recipient, asked.envelope.type, asked.envelope.id) == ("agent-2", "question", "msg_1")
    assert asked.timeout.ToMilliseconds() == 2500
    assert (list(acknowledged.positions), acknowledged.mailbox) == ([7], "task/t")


async def test_topics_are_subscribed_to_listed_and_left(agent: AgentClient, door: Door):
    await agent.subscribe("news")
    assert await agent.subscriptions() == ["news"]
    await agent.unsubscribe("news")

    assert [(type(request).__name__, request.topic) for request in door.asked] == [
        ("SubscribeRequest", "news"),
        ("UnsubscribeRequest", "news"),
    ]


async def test_messages_are_fetched_and_acknowledged_by_position(agent: AgentClient, door: Door):
    [message] = await agent.fetch(limit=5, wait=2.0)
    await agent.acknowledge([message.position], mailbox="task/t")

    fetch, acknowledge = door.asked
    assert (fetch.max_messages, fetch.wait.seconds) == (5, 2)
    assert (list(acknowledge.positions), acknowledge.mailbox) == ([7], "task/t")


async def test_subtasks_peers_and_progress(agent: AgentClient, door: Door):
    child = await agent.submit_subtask(task_pb2.TaskSpec(prompt="x"), request_id="once")
    assert (await agent.get_subtask(child.task_id, wait=1)).task_id == "task_child"
    assert [peer.agent_id for peer in await agent.peers()] == ["agent-2"]
    await agent.progress("half way")

    assert door.asked[0].request_id == "once"
    assert door.asked[-1] == "half way"


async def test_without_a_task_asking_for_one_ends_with_the_deadline(agent: AgentClient):
    with pytest.raises(errors.DeadlineExceededError):
        await agent.next_task(wait=0.1)


async def test_a_worker_completes_what_succeeds_and_reports_what_fails(agent: AgentClient, door: Door):
    door.orders = ["good", "bad"]

    async def work(order: local_service_pb2.NextTaskResponse) -> str:
        if order.task_id == "bad":
            raise ValueError("no idea")
        return "fine"

    worker = asyncio.create_task(agent.run(work), name="worker")
    async with asyncio.timeout(10):
        await door.both_done.wait()
    worker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await worker

    good, bad = door.asked
    assert (good.task_id, good.summary, good.HasField("failure")) == ("good", "fine", False)
    assert bad.failure.kind == task_pb2.FAILURE_KIND_AGENT_REPORTED
    assert "no idea" in bad.failure.message


async def test_a_fetch_that_failed_is_asked_again_under_its_id_so_that_a_lost_answer_comes_again(agent: AgentClient, door: Door):
    door.failing = 2
    for _ in range(2):
        with pytest.raises(errors.ControlPlaneUnavailableError):
            await agent.fetch()
    await agent.fetch()
    await agent.fetch()
    first, second, third, fourth = (request.request_id for request in door.asked)  # type: ignore[attr-defined]
    assert first == second == third != fourth
    assert first


async def test_fetches_side_by_side_have_ids_of_their_own(agent: AgentClient, door: Door):
    door.failing = 2
    await asyncio.gather(agent.fetch(), agent.fetch(), return_exceptions=True)
    await asyncio.gather(agent.fetch(), agent.fetch())
    ids = [request.request_id for request in door.asked]  # type: ignore[attr-defined]
    assert set(ids[:2]) == set(ids[2:])
    assert len(set(ids)) == 2
