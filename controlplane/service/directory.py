"""Whose is a mailbox, and in whose name may an agent speak?"""

from __future__ import annotations

from claude_conductor.errors import AgentNotFoundError, PermissionDeniedError, TaskNotFoundError
from claude_conductor.ids import TenantId
from controlplane.domain import routing
from controlplane.domain.routing import Owner, Recipient
from controlplane.interfaces.task_store import TaskStore
from controlplane.service.leases import Leases
from controlplane.service.registry import Registry


class Directory:
    """Who has which mailbox."""

    def __init__(self, registry: Registry, leases: Leases, tasks: TaskStore) -> None:
        self._registry = registry
        self._leases = leases
        self._tasks = tasks

    async def admit(self, tenant_id: TenantId, recipient: Recipient) -> None:
        """Let a message through to a mailbox that somebody has or will have.

        Raises:
            AgentNotFoundError: Nobody will ever read it.
            TaskNotFoundError: There is no such task.
        """
        match recipient.owner:
            case Owner.AGENT:
                if not self._registry.get(tenant_id, recipient.id).long_running:
                    raise AgentNotFoundError(
                        "This agent runs one task at a time and has no mailbox of its own.",
                        next_step="write to `task/` and the id of the task it works on",
                        agent_id=recipient.id,
                    )
            case Owner.TASK:
                held = self._leases.get(recipient.id)
                if held is not None and held.tenant_id == tenant_id:
                    return
                task = await self._tasks.get(tenant_id, recipient.id)
                if task.state.final:
                    raise AgentNotFoundError("The task has ended and its mailbox is closed.", task_id=task.id)
            case Owner.OPERATOR | Owner.TOPIC | Owner.EVERYONE:
                return

    def has(self, tenant_id: TenantId, recipient: Recipient) -> bool:
        """Return whether `admit` is known to let a message through; False where the store would have to be asked.

        Raises:
            AgentNotFoundError: Nobody will ever read it.
        """
        match recipient.owner:
            case Owner.AGENT:
                return self._registry.get(tenant_id, recipient.id).long_running
            case Owner.TASK:
                held = self._leases.get(recipient.id)
                return held is not None and held.tenant_id == tenant_id
            case _:
                return True

    async def is_open(self, tenant_id: TenantId, mailbox_name: str) -> bool:
        """Return whether messages may go to the mailbox now."""
        try:
            await self.admit(tenant_id, routing.parse_recipient(mailbox_name))
        except (AgentNotFoundError, TaskNotFoundError):
            return False
        return True

    def everyone(self, tenant_id: TenantId) -> list[str]:
        """Return the mailboxes that are read now: of long-running agents, here or away, and of tasks somebody works on.

        A long-running agent is there once, whether it works on a task or not.
        """
        agents = self._registry.long_running(tenant_id)
        working = [held for held in self._leases.of_tenant(tenant_id) if held.agent_id not in agents]
        return [*agents, *(routing.task_mailbox_name(held.lease.task_id) for held in working)]

    async def owns(self, tenant_id: TenantId, agent_id: str, mailbox_name: str) -> bool:
        """Return whether the mailbox is this agent's, now or by a task it had."""
        if mailbox_name == agent_id:
            return True
        return mailbox_name.startswith("task/") and await self.had(tenant_id, agent_id, mailbox_name.removeprefix("task/"))

    async def had(self, tenant_id: TenantId, agent_id: str, task_id: str) -> bool:
        """Return whether the agent has the task, or had it last."""
        held = self._leases.get(task_id)
        if held is not None:
            return held.agent_id == agent_id and held.tenant_id == tenant_id
        try:
            task = await self._tasks.get(tenant_id, task_id)
        except TaskNotFoundError:
            return False
        return task.id == task_id and task.agent_id == agent_id

    def known_sender(self, tenant_id: TenantId, agent_id: str, claimed_task: str, *, long_running: bool) -> str | None:
        """Return what `sender` would, or None where it would ask the store or refuse."""
        if long_running:
            return routing.sender_of_agent(agent_id)
        held = self._leases.get(claimed_task) if claimed_task else None
        if held is not None and held.agent_id == agent_id and held.tenant_id == tenant_id:
            return routing.sender_of_task(claimed_task)
        return None

    async def sender(self, tenant_id: TenantId, agent_id: str, claimed_task: str, *, long_running: bool) -> str:
        """Return the authenticated sender of a frame of this agent.

        Raises:
            PermissionDeniedError: It claims a task that is not its own.
        """
        if long_running:
            return routing.sender_of_agent(agent_id)
        if claimed_task:
            if not await self.had(tenant_id, agent_id, claimed_task):
                raise PermissionDeniedError("The task this message is sent for is not this agent's.", task_id=claimed_task)
            return routing.sender_of_task(claimed_task)
        held = self._leases.of_agent(tenant_id, self._registry.get(tenant_id, agent_id).id)
        return routing.sender_of_task(held[0].lease.task_id) if held else routing.sender_of_agent(agent_id)
