"""May this sender write to this receiver? Gathers the facts a policy is about, and remembers what it decided."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from claude_conductor.clock import Clock
from claude_conductor.errors import PolicyDeniedError, TaskNotFoundError
from claude_conductor.ids import AgentId, TenantId
from controlplane.domain import rate, routing
from controlplane.domain.agent import Agent
from controlplane.domain.events import Event
from controlplane.domain.policy import Decision, Facts, Kind, Policy, decide
from controlplane.domain.rate import Rate
from controlplane.domain.routing import Owner, Recipient
from controlplane.interfaces.task_store import TaskStore
from controlplane.service.leases import Leases
from controlplane.service.registry import Registry
from controlplane.service.watch import Watch

MOST_REMEMBERED: Final = 8192
"""Decisions; when there are more the oldest is forgotten, and made again when it is asked for."""
_EVENTS: Final = Rate(per_second=1.0, burst=100.0)
"""Of refusals in the event log: who is refused thousands of times does not push out what others have to know."""

_Key = tuple[TenantId, str, str, str | None]


class Permissions:
    """The policy over messages, applied. A decision holds until labels change or a task changes hands."""

    def __init__(self, policy: Policy, registry: Registry, leases: Leases, tasks: TaskStore, watch: Watch, clock: Clock) -> None:
        self._policy = policy
        self._registry = registry
        self._leases = leases
        self._tasks = tasks
        self._watch = watch
        self._clock = clock
        self._remembered: dict[_Key, Decision] = {}
        self._versions = (0, 0)
        self._reads_labels = policy.reads_labels
        self._reads_types = policy.reads_types
        self._events_full_at = 0.0
        self._untold = 0

    async def check(self, tenant_id: TenantId, sender: str, receiver: Recipient, type: str) -> None:  # noqa: A002 - the domain's word
        """Let a message pass, or say which rule is against it. For each receiver of a message, before it is stored.

        Args:
            tenant_id: Of both.
            sender: Authenticated: `agent/ID`, `task/ID`, `operator` or `conductor`.
            receiver: One that exists.
            type: Of the message.

        Raises:
            PolicyDeniedError: A rule is against it; an event tells of it.
        """
        decision = self._recall(tenant_id, sender, receiver.name, type) or await self.decide(tenant_id, sender, receiver, type)
        if not decision.allowed:
            self._tell(tenant_id, sender, receiver, type, decision)
            raise PolicyDeniedError(
                f"The policy does not let this message through: {decision.reason}.",
                sender=sender,
                recipient=receiver.name,
                type=type,
            )

    def known_to_pass(self, tenant_id: TenantId, sender: str, receiver: str, type: str) -> bool:  # noqa: A002 - see above
        """Return whether it is remembered that such a message may pass."""
        decision = self._recall(tenant_id, sender, receiver, type)
        return decision is not None and decision.allowed

    async def decide(self, tenant_id: TenantId, sender: str, receiver: Recipient, type: str | None) -> Decision:  # noqa: A002 - see above
        """Return whether a message may go; a type of None asks whether one of any type may. Nobody is told.

        Raises:
            TaskNotFoundError: Sender or receiver is a task that is not there.
        """
        known = self._recall(tenant_id, sender, receiver.name, type)
        if known is not None:
            return known
        if sender == routing.CONDUCTOR:
            return Decision(allowed=True, reason="allowed because it is the control plane's own notice")
        versions = self._versions
        receiver_facts = await self._facts(tenant_id, receiver)
        decision = decide(self._policy, await self._facts_of_sender(tenant_id, sender), receiver_facts, type)
        if versions == self._versions:  # else labels changed while the facts were read
            while len(self._remembered) >= MOST_REMEMBERED:
                del self._remembered[next(iter(self._remembered))]
            self._remembered[self._key(tenant_id, sender, receiver.name, type)] = decision
        return decision

    def _recall(self, tenant_id: TenantId, sender: str, receiver: str, type: str | None) -> Decision | None:  # noqa: A002 - see above
        if self._reads_labels and self._versions != (now := (self._registry.labels_version, self._leases.version)):
            self._versions = now
            self._remembered.clear()
        return self._remembered.get(self._key(tenant_id, sender, receiver, type))

    def _key(self, tenant_id: TenantId, sender: str, receiver: str, type: str | None) -> _Key:  # noqa: A002 - see above
        return tenant_id, sender, receiver, type if self._reads_types or type is None else ""

    async def permitted(self, tenant_id: TenantId, sender: str, mailboxes: Sequence[str], type: str) -> list[str]:  # noqa: A002 - see above
        """Return those mailboxes, as senders write them, that get a copy of a message to many. Nobody is told of the others."""
        found: list[str] = []
        for name in mailboxes:
            with suppress(TaskNotFoundError):
                if (await self.decide(tenant_id, sender, routing.parse_recipient(name), type)).allowed:
                    found.append(name)
        return found

    async def peers(self, tenant_id: TenantId, sender: str, agents: Sequence[Agent]) -> list[Agent]:
        """Return those agents the sender may write to: to their own mailbox, or to the task they work on."""
        shown: list[Agent] = []
        for agent in agents:
            by_task = agent.task_id and not agent.long_running
            mailbox = Recipient(Owner.TASK, agent.task_id) if by_task else Recipient(Owner.AGENT, agent.id)
            if (await self.decide(tenant_id, sender, mailbox, None)).allowed:
                shown.append(agent)
        return shown

    def __len__(self) -> int:
        """Return how many decisions are remembered."""
        return len(self._remembered)

    async def _facts_of_sender(self, tenant_id: TenantId, sender: str) -> Facts:
        name = routing.reply_name(sender) or routing.OPERATOR
        return await self._facts(tenant_id, routing.parse_recipient(name))

    async def _facts(self, tenant_id: TenantId, party: Recipient) -> Facts:
        if party.owner is Owner.AGENT:
            return Facts(Kind.AGENT, party.id, self._labels(tenant_id, party.id))
        if party.owner is Owner.OPERATOR:
            return Facts(Kind.OPERATOR, party.id)
        task = await self._tasks.get(tenant_id, party.id)
        held = self._leases.get(task.id)
        holder = held.agent_id if held is not None else task.agent_id
        submitter, _, agent_id = task.submitter.partition("/")
        return Facts(
            Kind.TASK,
            task.id,
            {**task.spec.labels, **self._labels(tenant_id, holder)},  # a submitter chooses its task's labels, not the slot's
            task.spec.parent_task_id,
            agent_id if submitter == "agent" else "",
        )

    def _labels(self, tenant_id: TenantId, agent_id: str | AgentId) -> dict[str, str]:
        agent = self._registry.find(tenant_id, agent_id)
        return dict(agent.labels) if agent is not None else {}

    def _tell(self, tenant_id: TenantId, sender: str, receiver: Recipient, type: str, decision: Decision) -> None:  # noqa: A002 - see above
        self._events_full_at, wait = rate.spend(_EVENTS, self._events_full_at, 1.0, self._clock.monotonic())
        if wait:
            self._untold += 1
            return
        details = {"sender": sender, "recipient": receiver.name, "type": type, "rule": decision.reason}
        if self._untold:
            details["refusals_not_shown_before"] = str(self._untold)
            self._untold = 0
        summary = f"a message from {sender} to {receiver.name} was refused: {decision.reason}"
        owner, _, who = sender.partition("/")
        task_id, agent_id = (who, "") if owner == "task" else ("", who)
        self._watch.publish(Event("message.denied", self._clock.now(), summary, tenant_id, task_id, agent_id, details))
