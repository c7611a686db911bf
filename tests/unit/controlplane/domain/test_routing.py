"""Where messages may go, and what they may be."""

from __future__ import annotations

import pytest

from claude_conductor.errors import (
    HopLimitError,
    InvalidArgumentError,
    MalformedFrameError,
    MessageExpiredError,
    PayloadTooLargeError,
)
from claude_conductor.ids import TenantId
from controlplane.domain import routing
from controlplane.domain.message import Header, Quality
from controlplane.domain.routing import Bounds, Owner, Recipient, Shape

BOUNDS = Bounds(payload_bytes=1000, hops=16, time_to_live_ms=60_000)
HEADER = Header("agent-1", "note", Quality.DURABLE, 0, 0, bytes(32))
TASK = "task_" + "0" * 32
NOW = 1_000_000


@pytest.mark.parametrize(
    ("text", "recipient"),
    [
        ("agent-1", Recipient(Owner.AGENT, "agent-1")),
        (f"task/{TASK}", Recipient(Owner.TASK, TASK)),
        ("operator", Recipient(Owner.OPERATOR, "operator")),
        ("topic/build.failed", Recipient(Owner.TOPIC, "build.failed")),
        ("broadcast", Recipient(Owner.EVERYONE, "broadcast")),
    ],
)
def test_a_recipient_is_an_agent_a_task_the_operator_a_topic_or_everyone(text: str, recipient: Recipient) -> None:
    assert routing.parse_recipient(text) == recipient
    assert recipient.name == text


def test_an_agent_may_be_written_as_it_stands_in_sender_and_only_an_agent() -> None:
    assert routing.parse_recipient("agent/agent-1") == Recipient(Owner.AGENT, "agent-1")
    assert routing.parse_recipient("agent/operator") == Recipient(Owner.AGENT, "operator")
    assert routing.mailbox_name("agent/agent-1") == routing.mailbox_name("agent-1") == "agent-1"
    assert routing.mailbox_name(f"task/{TASK}") == f"task/{TASK}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Agent",
        "agent/",
        "agent/agent/a",
        "agent/task/task_" + "0" * 32,
        "a/b",
        "task/",
        "task/task_12",
        "../x",
        "agent 1",
        "-a",
        "topic/",
        "topic/A",
        "topic/a/b",
        "topic/broadcast",
        "broadcast/x",
    ],
)
def test_anything_else_is_no_recipient(text: str) -> None:
    with pytest.raises(InvalidArgumentError):
        routing.parse_recipient(text)


def test_only_topics_and_everyone_are_shared() -> None:
    shared = {text: routing.is_shared(text) for text in ("topic/x", "broadcast", "agent-1", f"task/{TASK}", "operator", "topic")}
    assert [text for text, is_shared in shared.items() if is_shared] == ["topic/x", "broadcast"]


def test_what_is_shared_goes_to_each_mailbox_once_and_never_back() -> None:
    names = ["b", "agent-1", f"task/{TASK}", "b", "operator"]
    assert routing.shared_with("agent/agent-1", names) == ("b", "operator", f"task/{TASK}")
    assert routing.shared_with(f"task/{TASK}", names) == ("agent-1", "b", "operator")
    assert routing.shared_with("operator", names) == ("agent-1", "b", f"task/{TASK}")
    assert routing.shared_with(routing.CONDUCTOR, ["b"]) == ("b",)


def test_a_mailbox_begins_with_its_tenant_and_can_be_told_without_it() -> None:
    key = routing.mailbox(TenantId("acme"), f"task/{TASK}")
    assert key == f"acme/task/{TASK}"
    assert routing.local_name(key) == f"task/{TASK}"


def test_answers_go_to_the_sender_unless_that_is_the_control_plane() -> None:
    assert routing.reply_name(routing.sender_of_agent("agent-1")) == "agent-1"
    assert routing.reply_name(routing.sender_of_task(TASK)) == f"task/{TASK}"
    assert routing.reply_name("operator") == "operator"
    assert routing.reply_name(routing.CONDUCTOR) is None


def test_a_message_that_says_nothing_lives_as_long_as_the_default() -> None:
    assert routing.check(HEADER, Shape(2, 10), BOUNDS, NOW) == NOW + 60_000


def test_a_message_lives_as_long_as_it_says_but_not_for_ever() -> None:
    assert routing.check(HEADER._replace(expire_time_ms=NOW + 5), Shape(2, 10), BOUNDS, NOW) == NOW + 5
    assert routing.check(HEADER._replace(expire_time_ms=2**64 - 1), Shape(2, 10), BOUNDS, NOW) == NOW + routing.LONGEST_LIFE_MS


@pytest.mark.parametrize(
    ("header", "shape", "error"),
    [
        (HEADER, Shape(1, 10), MalformedFrameError),
        (HEADER, Shape(3, 10), MalformedFrameError),
        (HEADER._replace(message_ids=bytes(17)), Shape(1, 10), MalformedFrameError),
        (HEADER._replace(message_ids=b""), Shape(0, 0), MalformedFrameError),
        (HEADER._replace(message_ids=bytes(16 * 10_001)), Shape(10_001, 10), MalformedFrameError),
        (HEADER, Shape(2, 1001 + routing.ENVELOPE_OVERHEAD), PayloadTooLargeError),
        (HEADER._replace(type="t" * 257), Shape(2, 10), InvalidArgumentError),
        (HEADER._replace(hop_count=17), Shape(2, 10), HopLimitError),
        (HEADER._replace(expire_time_ms=NOW), Shape(2, 10), MessageExpiredError),
    ],
)
def test_a_frame_that_may_not_pass_says_why(header: Header, shape: Shape, error: type[Exception]) -> None:
    with pytest.raises(error):
        routing.check(header, shape, BOUNDS, NOW)
