"""An agent in a process of its own and its socket: messages, subtasks, bounds, and the long-running kind."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

from agent_sidecar.isolation.interface import Level
from claude_conductor.v1 import agent_pb2, message_pb2, task_pb2
from claude_conductor.v1 import session_service_pb2 as pb
from tests.fakes.repository import make_repository
from tests.fakes.scripted_control_plane import FakeControlPlane
from tests.fakes.sidecar_process import ROOT, SidecarProcess

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PROGRAM = [sys.executable, "-m", "tests.fakes.agent_program"]
AGENT = (*PROGRAM, "serve")
ENVIRONMENT = {"PYTHONPATH": str(ROOT)}


def calls(*steps: list[object], **more: object) -> task_pb2.TaskSpec:
    return task_pb2.TaskSpec(
        driver="command", command=PROGRAM, prompt=json.dumps(steps), prompt_by="stdin", environment=ENVIRONMENT, **more
    )


async def answers(plane: FakeControlPlane, number: int = 1) -> list[dict[str, object]]:
    result = await plane.result(number, seconds=25)
    assert not result.HasField("failure"), result
    return [json.loads(line) for line in result.summary.splitlines()]


async def test_an_agent_learns_who_it_is_and_finds_its_peers(plane: FakeControlPlane, sidecar: SidecarProcess):
    plane.assign("task_1", calls(["GetSelf", {}], ["ListPeers", {}], ["Health", {}], parent_task_id="task_0"))
    me, peers, health = await answers(plane)
    assert (me["agentId"], me["taskId"], me["mailbox"], me["parentTaskId"]) == ("agent-1", "task_1", "task/task_1", "task_0")
    assert me["isolation"]["driver"] == "fake"
    assert peers["agents"] == [{"agentId": "agent-2", "tenantId": "default"}]
    assert health == {"status": 1}


async def test_a_message_is_accepted_once_it_is_committed_and_carries_who_and_where(
    plane: FakeControlPlane, sidecar: SidecarProcess
):
    data = base64.b64encode(b"hi").decode()
    fixed = f"msg_{7:032x}"
    plane.assign(
        "task_1",
        calls(
            ["Send", {"recipient": "parent", "envelope": {"id": fixed, "type": "greeting", "data": data}, "timeToLive": "60s"}],
            ["Send", {"recipient": "agent/agent-2", "envelope": {"data": data}}],
            parent_task_id="task_0",
        ),
        traceparent=TRACE,
    )
    first, second = await answers(plane)
    assert first == {"messageId": fixed, "recipientCount": 1}
    assert second["messageId"].startswith("msg_")
    to_parent, to_peer = plane.messages()
    assert to_parent.header.recipient == "task/task_0"
    assert to_parent.header.task_id == "task_1"
    assert to_parent.header.type == "greeting"
    assert to_parent.header.quality == message_pb2.QUALITY_DURABLE
    assert to_parent.header.message_ids == bytes(15) + b"\7"
    assert to_parent.header.expire_time_ms > 0
    assert to_parent.envelopes[0].traceparent == TRACE
    assert to_parent.envelopes[0].source == "agent-1"
    assert to_peer.header.recipient == "agent/agent-2"


async def test_what_cannot_be_sent_is_an_answer_with_a_reason(plane: FakeControlPlane, sidecar: SidecarProcess):
    plane.refuse = lambda request: "AGENT_NOT_FOUND" if request.message_frame.header.recipient == "nobody" else ""
    plane.assign(
        "task_1",
        calls(
            ["Send", {"recipient": "nobody", "envelope": {}}],
            ["Send", {"recipient": "parent", "envelope": {}}],
            ["Send", {"recipient": "", "envelope": {}}],
            ["Send", {"recipient": "agent-2", "envelope": {}, "pad": (1 << 20) + 1}],
            ["Send", {"recipient": "agent-2", "envelope": {"subject": "x" * (1100 << 10)}}],
            ["Send", {"recipient": "agent-2", "envelope": {"id": "odd"}}],
            ["Send", {"recipient": "x" * 300, "envelope": {}}],
            ["Acknowledge", {"positions": [99]}],
            ["Fetch", {"maxMessages": 1001}],
            ["ReportProgress", {"text": "x" * 1025}],
            ["NextTask", {}],
            ["CompleteTask", {"taskId": "task_1"}],
            ["Send", {"recipient": "agent-2", "envelope": {}, "pad": 1 << 20}],
        ),
    )
    *refused, sent = await answers(plane)
    assert [answer["error"] for answer in refused] == [
        "AGENT_NOT_FOUND",
        "AGENT_NOT_FOUND",
        "INVALID_ARGUMENT",
        "PAYLOAD_TOO_LARGE",
        "PAYLOAD_TOO_LARGE",
        "INVALID_ARGUMENT",
        "INVALID_ARGUMENT",
        "MESSAGE_NOT_FOUND",
        "INVALID_ARGUMENT",
        "INVALID_ARGUMENT",
        "INVALID_ARGUMENT",
        "INVALID_ARGUMENT",
    ]
    assert "messageId" in sent


async def test_a_message_is_fetched_once_and_acknowledged(plane: FakeControlPlane, sidecar: SidecarProcess):
    plane.assign(
        "task_1",
        calls(
            ["Fetch", {"wait": "10s", "maxMessages": 1}],
            ["Fetch", {"wait": "10s"}],
            ["Fetch", {}],
            ["Acknowledge", {"positions": [1, 2]}],
            ["Acknowledge", {"positions": [1, 2]}],
        ),
    )
    plane.deliver("task/task_1", "one", "two")
    first, second, third, *_ = await answers(plane)
    assert [message["position"] for message in first["messages"]] == ["1"]
    assert [message["position"] for message in second["messages"]] == ["2"]
    assert second["messages"][0]["sender"] == "operator"
    assert third == {}
    for state in (message_pb2.MESSAGE_STATE_AT_SIDECAR, message_pb2.MESSAGE_STATE_ACKED):
        (receipt,) = plane.receipts(state)
        assert (receipt.mailbox, receipt.from_position, receipt.to_position) == ("task/task_1", 1, 2)
    assert len(plane.receipts(message_pb2.MESSAGE_STATE_SEEN)) == 2


async def test_repeats_of_a_delivery_are_dropped_and_an_acknowledgement_is_said_again(
    plane: FakeControlPlane, sidecar: SidecarProcess
):
    plane.assign("task_1", calls(["Fetch", {"wait": "10s"}], ["Acknowledge", {"positions": [1]}], ["Fetch", {"wait": "1s"}]))
    plane.deliver("task/task_1", "one", position=1)
    await plane.until(lambda: plane.receipts(message_pb2.MESSAGE_STATE_ACKED))
    plane.deliver("task/task_1", "one", position=1)
    await plane.until(lambda: len(plane.receipts(message_pb2.MESSAGE_STATE_ACKED)) == 2)
    *_, last = await answers(plane)
    assert last == {}


async def test_an_ephemeral_message_passes_without_receipts(plane: FakeControlPlane, sidecar: SidecarProcess):
    plane.assign("task_1", calls(["Fetch", {"wait": "10s"}], ["Fetch", {}]))
    plane.deliver("task/task_1", "now", position=0)
    first, second = await answers(plane)
    assert len(first["messages"]) == 1
    assert second == {}
    assert not any(request.HasField("receipts") for request in plane.taken)


async def test_a_message_that_is_passed_on_has_one_hop_more_whatever_the_agent_says(
    plane: FakeControlPlane, sidecar: SidecarProcess
):
    forwarded, new = f"msg_{0:032x}", f"msg_{9:032x}"
    plane.assign(
        "task_1",
        calls(
            ["Fetch", {"wait": "10s"}],
            ["Send", {"recipient": "agent-2", "envelope": {"id": forwarded}}],
            ["Send", {"recipient": "agent-2", "envelope": {"id": new}}],
        ),
    )
    plane.deliver("task/task_1", "round and round")
    await answers(plane)
    assert [frame.header.hop_count for frame in plane.messages()] == [1, 0]


async def test_a_subtask_belongs_to_the_present_task(plane: FakeControlPlane, sidecar: SidecarProcess):
    spec = {"driver": "command", "command": ["true"], "parentTaskId": "task_forged"}
    plane.assign(
        "task_1",
        calls(
            ["SubmitSubtask", {"requestId": "k", "spec": spec}],
            ["GetSubtask", {"taskId": "task_child"}],
            ["GetSubtask", {"taskId": "task_child", "wait": "5s"}],
            ["ReportProgress", {"text": "half\nway"}],
        ),
        traceparent=TRACE,
    )
    submitted, now, ended, _ = await answers(plane)
    assert submitted["task"]["taskId"] == "task_child"
    assert plane.submitted[0].spec.parent_task_id == "task_1"
    assert plane.submitted[0].request_id == "k"
    assert now["task"]["state"] == "TASK_STATE_RUNNING"
    assert ended["task"]["state"] == "TASK_STATE_SUCCEEDED"
    progress = [request.report.progress.text for request in plane.taken if request.report.HasField("progress")]
    assert progress == ["half way"]


async def test_an_agent_that_reports_without_end_is_shown_now_and_then(plane: FakeControlPlane, sidecar: SidecarProcess):
    plane.assign("task_1", calls(*(["ReportProgress", {"text": str(number)}] for number in range(200))))
    assert len(await answers(plane)) == 200
    assert 10 <= sum(request.report.HasField("progress") for request in plane.taken) < 150


async def test_sending_while_the_control_plane_is_away_is_unknown_and_the_same_id_is_accepted_once(
    plane: FakeControlPlane, sidecar: SidecarProcess
):
    envelope = {"id": f"msg_{9:032x}"}
    plane.commits = False
    plane.assign(
        "task_1",
        calls(
            ["Send", {"recipient": "agent-2", "envelope": envelope, "timeout": 0.4}],
            ["Send", {"recipient": "agent-2", "envelope": envelope, "timeout": 15}],
        ),
    )
    await plane.until(lambda: any(b"error" in frame.report.output.data for frame in plane.frames))
    await plane.kill()
    plane.commits = True
    await plane.start()
    first, second = await answers(plane)
    assert first["error"] in ("CONTROL_PLANE_UNAVAILABLE", "DEADLINE_EXCEEDED")
    assert second == {"messageId": envelope["id"], "recipientCount": 1} or second["error"] == "CONTROL_PLANE_UNAVAILABLE"
    ids = [frame.header.message_ids for frame in plane.messages()]
    assert set(ids) == {bytes(15) + b"\x09"}


async def test_the_socket_is_the_agents_and_in_a_folder_it_cannot_write(plane: FakeControlPlane, sidecar: SidecarProcess):
    folder = sidecar.settings.home / "run/agents/agent-1"
    assert folder.stat().st_mode & 0o777 == 0o711
    assert (folder / "agent.sock").stat().st_mode & 0o777 == 0o600
    await sidecar.stop()
    assert not (folder / "agent.sock").exists()


def long_running(prompt: str, **more: object) -> task_pb2.TaskSpec:
    return task_pb2.TaskSpec(driver="grpc_agent", prompt=prompt, **more)


async def idle(plane: FakeControlPlane) -> None:
    await plane.until(lambda: plane.heartbeats() and plane.heartbeats()[-1].state == agent_pb2.AGENT_STATE_IDLE, 20)


async def start_agent(start_sidecar: object, **more: object) -> SidecarProcess:
    return await start_sidecar(agent_command=AGENT, agent_environment=ENVIRONMENT, **more)


async def test_a_long_running_agent_takes_task_after_task(plane: FakeControlPlane, start_sidecar, tmp_path: Path):
    sidecar = await start_agent(start_sidecar)
    assert plane.hellos[0].long_running
    assert list(plane.hellos[0].drivers) == ["grpc_agent"]
    await idle(plane)
    assert plane.heartbeats()[0].state == agent_pb2.AGENT_STATE_STARTING
    plane.assign("task_1", long_running("one"))
    first = await plane.result()
    assert (first.summary, first.HasField("failure")) == ("did one", False), sidecar.log()
    plane.assign("task_2", long_running("fail"))
    second = await plane.result(2)
    assert second.failure.kind == task_pb2.FAILURE_KIND_AGENT_REPORTED
    assert second.failure.message == "no"
    assert any(b"working on task_2 in /workspace/task_2" in output.data for output in plane.output())
    assert await sidecar.stop() == 0, sidecar.log()


async def test_a_long_running_agents_changes_come_back_as_a_patch(plane: FakeControlPlane, start_sidecar, tmp_path: Path):
    repository = tmp_path / "repository"
    make_repository(repository)
    sidecar = await start_agent(start_sidecar, level=Level.MINIMAL)  # the folder is named as it is on the host
    await idle(plane)
    plane.assign("task_1", long_running("write two", workspace={"git": {"repository": str(repository)}}))
    result = await plane.result()
    assert not result.HasField("failure"), sidecar.log()
    assert result.patch.added_lines == 1
    assert b"+write two" in plane.artefacts[result.patch_artefact_id]
    assert list((sidecar.settings.home / "workspace/agent-1/home").iterdir()) == []


async def test_a_long_running_agent_that_dies_ends_its_task_and_is_started_again(plane: FakeControlPlane, start_sidecar):
    await start_agent(start_sidecar)
    await idle(plane)
    plane.assign("task_1", long_running("crash"))
    result = await plane.result()
    assert result.failure.kind == task_pb2.FAILURE_KIND_EXIT_CODE
    assert result.failure.retryable
    await idle(plane)
    plane.assign("task_2", long_running("two"))
    assert (await plane.result(2)).summary == "did two"


async def test_a_long_running_agents_task_can_be_cancelled(plane: FakeControlPlane, start_sidecar):
    await start_agent(start_sidecar)
    await idle(plane)
    lease = plane.assign("task_1", long_running("hang"))
    await plane.until(lambda: any(request.report.HasField("started") for request in plane.taken))
    plane.say(pb.ConnectResponse(cancellation=pb.TaskCancellation(lease=lease, reason="stop it")))
    result = await plane.result()
    assert result.failure.kind == task_pb2.FAILURE_KIND_CANCELLED
    await idle(plane)
    plane.assign("task_2", long_running("two"))
    assert (await plane.result(2)).summary == "did two"


async def test_what_a_dead_agent_saw_is_offered_to_the_next_with_a_higher_attempt(plane: FakeControlPlane, start_sidecar):
    await start_agent(start_sidecar)
    await idle(plane)
    plane.assign("task_1", long_running("hang"))
    plane.deliver("agent-1", "for the agent")
    await plane.until(lambda: plane.receipts(message_pb2.MESSAGE_STATE_SEEN))
    lease = task_pb2.Lease(task_id="task_1", attempt=1, epoch=7)
    plane.say(pb.ConnectResponse(cancellation=pb.TaskCancellation(lease=lease, reason="x")))
    await plane.result()
    await idle(plane)
    plane.assign("task_2", long_running("read"))
    assert (await plane.result(2)).summary == 'did [["agent-1", 2, "msg_00000000000000000000000000000000"]]'
    assert [receipt.attempt for receipt in plane.receipts(message_pb2.MESSAGE_STATE_SEEN)] == [1, 2]


async def test_what_as_many_processes_saw_as_the_control_plane_allows_is_given_up_with_how_the_last_one_ended(
    plane: FakeControlPlane, start_sidecar
):
    plane.message_attempts = 1
    await start_agent(start_sidecar)
    await idle(plane)
    plane.deliver("agent-1", "for the agent")
    plane.assign("task_1", long_running("read"))
    assert "agent-1" in (await plane.result()).summary
    plane.assign("task_2", long_running("crash"))
    await plane.until(lambda: plane.receipts(message_pb2.MESSAGE_STATE_DEAD), 20)
    (dead,) = plane.receipts(message_pb2.MESSAGE_STATE_DEAD)
    assert (dead.attempt, dead.reason) == (1, "delivered once without an acknowledgement")
    assert dead.last_error == "its program ended: exit code 9"


async def test_a_long_running_agent_that_falls_silent_is_stalled_until_it_speaks(
    plane: FakeControlPlane, start_sidecar, tmp_path: Path
):
    await start_agent(start_sidecar, health_check_interval=0.5)
    await idle(plane)
    plane.assign("task_1", long_running(f"silent {tmp_path}/go"))
    await plane.until(lambda: plane.heartbeats()[-1].state == agent_pb2.AGENT_STATE_STALLED, 20)
    assert "no call since " in plane.heartbeats()[-1].reason
    assert "500 ms" in plane.heartbeats()[-1].reason
    (tmp_path / "go").touch()
    assert not (await plane.result()).HasField("failure")
    await idle(plane)


async def test_an_agent_that_waits_for_a_task_is_not_stalled(plane: FakeControlPlane, start_sidecar):
    await start_agent(start_sidecar, health_check_interval=0.2)  # it polls for 5 s
    await idle(plane)
    seen = len(plane.heartbeats())
    await plane.until(lambda: len(plane.heartbeats()) > seen + 3, 20)
    assert {beat.state for beat in plane.heartbeats()[seen:]} == {agent_pb2.AGENT_STATE_IDLE}


async def test_a_task_is_stalled_without_output_call_or_processor_time(plane: FakeControlPlane, start_sidecar):
    await start_sidecar(health_check_interval=0.5)
    plane.assign(
        "task_1", task_pb2.TaskSpec(driver="command", command=["/bin/sh", "-c", "echo begun; read -r _ < /dev/null; sleep 4"])
    )
    await plane.until(lambda: plane.heartbeats() and plane.heartbeats()[-1].state == agent_pb2.AGENT_STATE_STALLED, 20)
    assert "no output, call or processor time since " in plane.heartbeats()[-1].reason
    assert not (await plane.result()).HasField("failure")
