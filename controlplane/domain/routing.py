"""Where does a message go, and may it go there?"""

from __future__ import annotations

import enum
import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from claude_conductor.errors import (
    HopLimitError,
    InvalidArgumentError,
    MalformedFrameError,
    MessageExpiredError,
    PayloadTooLargeError,
)
from claude_conductor.ids import TenantId, check_name
from controlplane.domain.message import Header

OPERATOR: Final = "operator"
"""Mailbox and sender of people and programs without a sidecar."""
BROADCAST: Final = "broadcast"
"""Recipient: everyone who has a mailbox."""
CONDUCTOR: Final = "conductor"
"""Sender of the control plane's own notices; it has no mailbox."""
BOUNCED_TYPE: Final = "conductor.bounced"
"""Type of the notice a sender gets when its message could not be delivered."""
ENVELOPE_OVERHEAD: Final = 8 << 10
"""Bytes an envelope may have beside its payload."""
MAX_MESSAGES: Final = 10_000
"""Messages in one frame."""
LONGEST_TYPE: Final = 256
"""Bytes of a message's type: it is kept and shown with every record."""
LONGEST_LIFE_MS: Final = 30 * 86_400_000
"""No message waits longer, whatever it says."""
_AGENT: Final = "agent/"
_TASK: Final = "task/"
_TOPIC: Final = "topic/"


class Owner(enum.Enum):
    """Who a mailbox belongs to; a topic and everyone have none, their messages are copied to the mailboxes of others."""

    AGENT = "agent"
    TASK = "task"
    OPERATOR = "operator"
    TOPIC = "topic"
    EVERYONE = "everyone"


@dataclass(frozen=True, slots=True)
class Recipient:
    """A parsed recipient."""

    owner: Owner
    id: str
    """Agent id, task id or name of a topic; `operator` for the operator, `broadcast` for everyone."""

    @property
    def name(self) -> str:
        """The recipient as senders write it."""
        match self.owner:
            case Owner.TASK:
                return _TASK + self.id
            case Owner.TOPIC:
                return _TOPIC + self.id
            case _:
                return self.id


@functools.lru_cache(maxsize=4096)
def parse_recipient(text: str) -> Recipient:
    """Return who `agent-1` (or `agent/agent-1`), `task/task_...`, `operator`, `topic/...` or `broadcast` means.

    Raises:
        InvalidArgumentError: It is none of these.
    """
    if text == OPERATOR:
        return Recipient(Owner.OPERATOR, OPERATOR)
    if text.startswith(_TASK):
        task_id = text.removeprefix(_TASK)
        if not task_id.startswith("task_") or len(task_id) != len("task_") + 32:
            raise InvalidArgumentError("A task is addressed as `task/` and its whole id.", recipient=text)
        return Recipient(Owner.TASK, task_id)
    if text.startswith(_TOPIC):
        return Recipient(Owner.TOPIC, _topic_to_write_to(text.removeprefix(_TOPIC)))
    if text == BROADCAST:
        return Recipient(Owner.EVERYONE, BROADCAST)
    return Recipient(Owner.AGENT, check_name("recipient", text.removeprefix(_AGENT)))


def _topic_to_write_to(name: str) -> str:
    if name == BROADCAST:
        raise InvalidArgumentError("Messages to everyone are addressed to `broadcast`.", recipient=_TOPIC + name)
    return check_topic(name)


def check_topic(name: str) -> str:
    """Return the name of a topic somebody subscribes to; `broadcast` stands for messages to everyone.

    Raises:
        InvalidArgumentError: It cannot name a topic.
    """
    return check_name("topic", name)


@functools.lru_cache(maxsize=4096)
def is_shared(recipient: str) -> bool:
    """Return whether messages to this recipient are copied, to the mailboxes there are when they are accepted."""
    return recipient.startswith(_TOPIC) or recipient == BROADCAST


def shared_with(sender: str, mailboxes: Iterable[str]) -> tuple[str, ...]:
    """Return the mailboxes that get a copy, sorted and each once: nobody gets its own."""
    return tuple(sorted(set(mailboxes) - {reply_name(sender)}))


def mailbox(tenant_id: TenantId, name: str) -> str:
    """Return the store's name of a mailbox; the tenant stands in front, so tenants never share one."""
    return f"{tenant_id}/{name}"


def mailbox_name(text: str) -> str:
    """Return the mailbox somebody names: an agent's may be written as `agent/ID`, as it stands in `sender`."""
    return text.removeprefix(_AGENT)


def task_mailbox_name(task_id: str) -> str:
    """Return the mailbox of a task as senders write it."""
    return _TASK + task_id


def local_name(mailbox_key: str) -> str:
    """Return the mailbox as senders write it."""
    return mailbox_key.partition("/")[2]


def sender_of_agent(agent_id: str) -> str:
    """Return the sender name of a long-running agent."""
    return _AGENT + agent_id


def sender_of_task(task_id: str) -> str:
    """Return the sender name of whoever works on a task."""
    return _TASK + task_id


def reply_name(sender: str) -> str | None:
    """Return the mailbox that answers to this sender go to, or None if it has none."""
    if sender == CONDUCTOR:
        return None
    return sender.removeprefix(_AGENT)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a message may be."""

    payload_bytes: int
    hops: int
    time_to_live_ms: int
    """For messages that set none."""


class Shape(NamedTuple):
    """What was counted in a frame."""

    envelopes: int
    largest: int
    """Bytes of the largest envelope, or an upper bound where that is small enough anyway."""


def check(header: Header, shape: Shape, bounds: Bounds, now_ms: int) -> int:
    """Return when the messages of the frame expire, in milliseconds since the epoch.

    Raises:
        MalformedFrameError: The ids do not fit the envelopes, or there are none or too many.
        InvalidArgumentError: Its type is longer than a name is.
        PayloadTooLargeError: An envelope is larger than allowed.
        HopLimitError: It was forwarded too often.
        MessageExpiredError: Its time is over already.
    """
    if len(header.message_ids) % 16 or header.messages != shape.envelopes:
        raise MalformedFrameError(
            "A frame has one id of 16 bytes for each envelope.", ids=len(header.message_ids) / 16, envelopes=shape.envelopes
        )
    if not 0 < header.messages <= MAX_MESSAGES:
        raise MalformedFrameError(f"A frame carries 1 to {MAX_MESSAGES} messages.", messages=header.messages)
    if len(header.type) > LONGEST_TYPE or len(header.type.encode()) > LONGEST_TYPE:
        raise InvalidArgumentError(f"A message's type has at most {LONGEST_TYPE} bytes.", field="type")
    if shape.largest > bounds.payload_bytes + ENVELOPE_OVERHEAD:
        raise PayloadTooLargeError(bytes=shape.largest, limit=bounds.payload_bytes)
    if header.hop_count > bounds.hops:
        raise HopLimitError(hops=header.hop_count, limit=bounds.hops)
    expire_time_ms = header.expire_time_ms or now_ms + bounds.time_to_live_ms
    if expire_time_ms <= now_ms:
        raise MessageExpiredError(expired_ms_ago=now_ms - expire_time_ms)
    return min(expire_time_ms, now_ms + LONGEST_LIFE_MS)
