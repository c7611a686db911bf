"""What piles up behind a slow write neither grows nor is lost; and who passes a message on is counted."""

from __future__ import annotations

from agent_sidecar.uplink.notes import Notes
from claude_conductor.hops import Hops
from claude_conductor.v1 import message_pb2
from claude_conductor.v1.session_service_pb2 import ConnectRequest, Credit, Heartbeat
from tests.fakes.boxes import Boxes, delivery


def test_credit_is_added_up_and_only_the_newest_heartbeat_is_given():
    notes = Notes()
    for number in range(1000):
        notes.beat(Heartbeat(reason=str(number)))
        notes.credit(2, 10)

    assert [notes.take(), notes.take(), notes.take()] == [
        ConnectRequest(heartbeat=Heartbeat(reason="999")),
        ConnectRequest(credit=Credit(messages=2000, bytes=10_000)),
        None,
    ]


def test_a_grant_of_nothing_is_said_too():
    notes = Notes()
    notes.credit(0, 0)

    assert notes.take() == ConnectRequest(credit=Credit())


def test_a_message_that_was_fetched_and_is_sent_again_has_one_hop_more_and_few_are_remembered():
    hops = Hops()
    hops.fetched("msg_a", 0)
    hops.fetched("msg_b", 15)

    assert [hops.of_next(name) for name in ("msg_a", "msg_b", "msg_new")] == [1, 16, 0]
    for number in range(4096):
        hops.fetched(f"msg_{number}", 3)
    assert [hops.of_next(name) for name in ("msg_a", "msg_4095")] == [0, 4]


async def test_hops_are_those_of_the_frame_that_was_delivered(boxes: Boxes):
    passed = delivery("agent-1", 1, "msg_passed")
    passed.frames[0].frame.header.hop_count = 7
    await boxes.inbox.deliver(passed)
    assert boxes.inbox.hops.of_next("msg_passed") == 0

    (message,) = await boxes.inbox.fetch(1, 0)

    assert isinstance(message.envelope, message_pb2.Envelope)
    assert boxes.inbox.hops.of_next("msg_passed") == 8
