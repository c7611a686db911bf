"""Which free agent shall work on which ready task, and in whose turn?"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from claude_conductor.ids import AgentId, TaskId, TenantId
from claude_conductor.units import format_size
from controlplane.domain.agent import Agent, State
from controlplane.domain.caps import Caps, Group, capped, full
from controlplane.domain.rate_window import credential_of, may_begin
from controlplane.domain.room import Rooms
from controlplane.domain.task import IsolationLevel, ResourceLimits, Task, queue_order
from controlplane.domain.write_set import Claim, Writers


@dataclass(frozen=True, slots=True)
class _Need:
    """Something a task wants of its agent, in words that go on after `no connected agent` and after an agent's id."""

    wanted: str
    lacking: str
    met_by: Callable[[Agent], bool]


def _needs(task: Task) -> list[_Need]:
    spec = task.spec
    needs = [_Need(f"runs {spec.driver}", f"cannot run {spec.driver}", lambda agent: spec.driver in agent.drivers)]
    for name, value in spec.required_labels.items():
        needs.append(_label(name, value))
    if spec.isolation_level is not None:
        needs.append(_level(spec.isolation_level))
    if spec.allow:
        words = "a list of hosts of its own to a task"
        # A long-running agent has been in its sandbox before the task came, with the hosts of its settings.
        needs.append(_Need(f"can give {words}", f"cannot give {words}", lambda agent: not agent.long_running))
    asked = spec.limits
    if asked.memory_bytes:
        words = f"{format_size(asked.memory_bytes)} of memory"
        needs.append(_limit(words, asked.memory_bytes, lambda most: most.memory_bytes))
    if asked.cpus:
        needs.append(_limit(f"{asked.cpus:g} processors", asked.cpus, lambda most: most.cpus))
    if asked.pids:
        needs.append(_limit(f"{asked.pids} processes", asked.pids, lambda most: most.pids))
    if asked.workspace_bytes:
        words = f"a workspace of {format_size(asked.workspace_bytes)}"
        needs.append(_limit(words, asked.workspace_bytes, lambda most: most.workspace_bytes))
    return needs


def _label(name: str, value: str) -> _Need:
    words = f"the label {name}={value}"
    return _Need(f"has {words}", f"does not have {words}", lambda agent: agent.labels.get(name) == value)


def _level(level: IsolationLevel) -> _Need:
    def met_by(agent: Agent) -> bool:
        possible = agent.default_level if agent.long_running else agent.strongest_level
        return possible is not None and possible.rank >= level.rank

    return _Need(f"isolates at {level.value}", f"cannot isolate at {level.value}", met_by)


def _limit(words: str, asked: float, of: Callable[[ResourceLimits], float]) -> _Need:
    def met_by(agent: Agent) -> bool:
        # A long-running agent has been in its sandbox before the task came: what holds there holds for its tasks.
        most = of(agent.default_limits if agent.long_running else agent.capacity)
        return not most or asked <= most

    return _Need(f"has {words} to give", f"does not have {words} to give", met_by)


def obstacle(task: Task, agent: Agent) -> str:
    """Return why the agent cannot work on the task, or an empty text if it can. Whether it is free is another question."""
    return _obstacle(task, _needs(task), agent)


def _obstacle(task: Task, needs: Sequence[_Need], agent: Agent) -> str:
    if agent.tenant_id != task.tenant_id:
        return "belongs to another tenant"
    if task.spec.agent_id and task.spec.agent_id != agent.id:
        return f"is not {task.spec.agent_id}"
    return next((need.lacking for need in needs if not need.met_by(agent)), "")


def possible(task: Task, agents: Iterable[Agent]) -> bool:
    """Return whether one of the agents could work on the task if it were free."""
    needs = _needs(task)
    return any(not _obstacle(task, needs, agent) for agent in agents)


def able(task: Task, agents: Iterable[Agent]) -> list[Agent]:
    """Return the agents that could work on the task if they were free."""
    needs = _needs(task)
    return [agent for agent in agents if not _obstacle(task, needs, agent)]


def ranked(task: Task, free: Iterable[Agent]) -> list[Agent]:
    """Return the agents that can work on the task, the one that shall first.

    Specialists are spared: the one with the fewest drivers and labels goes first, then the one that has been idle for longest.
    """
    return sorted(able(task, free), key=lambda agent: (len(agent.drivers) + len(agent.labels), agent.state_time, agent.id))


class _Queue:
    """The lanes of one tenant, the one whose first task waits longest (by `queue_order`) in front."""

    def __init__(self) -> None:
        self._lanes: dict[str, deque[Task]] = {}
        self._heads: list[tuple[float, str, str]] = []

    def add(self, task: Task) -> None:
        if task.lane not in self._lanes:
            self._lanes[task.lane] = deque()
            heapq.heappush(self._heads, (queue_order(task), task.id, task.lane))
        self._lanes[task.lane].append(task)

    @property
    def turn(self) -> tuple[float, str]:
        order, task_id, _ = self._heads[0]
        return order, task_id

    def first(self) -> Task:
        return self._lanes[self._heads[0][2]][0]

    def drop(self, *, lane: bool) -> bool:
        """Leave out the first task, or all of its lane; return whether nothing is left."""
        _, _, name = heapq.heappop(self._heads)
        rest = self._lanes[name]
        rest.popleft()
        if rest and not lane:
            heapq.heappush(self._heads, (queue_order(rest[0]), rest[0].id, name))
        return not self._heads


class _Fleet:
    """The agents that are free in a round: who is next for a task, and what is left after it."""

    def __init__(self, free: Iterable[Agent], turns: Mapping[str, int], rooms: Rooms | None) -> None:
        self._left = {(agent.tenant_id, agent.id): agent for agent in free}
        self._turns = dict(turns)
        self._rooms = rooms
        self._in_order: dict[str, Iterator[Agent]] = {}
        """By lane; whoever was passed in it is taken, or its credential or host has no room any more."""
        self._short: dict[str, Agent] = {}
        """By lane, one that it could have but for the room on its host."""

    def __bool__(self) -> bool:
        return bool(self._left)

    def best(self, task: Task) -> Agent | None:
        """Return the agent that shall work on the task; without one the next call is about another lane."""
        if task.lane not in self._in_order:
            self._in_order[task.lane] = iter(ranked(task, self._left.values()))
        agent = next((each for each in self._in_order[task.lane] if self._goes(each, task)), None)
        if agent is None and self._rooms is not None and task.lane in self._short:
            self._rooms.keep(self._short[task.lane])
        return agent

    def _goes(self, agent: Agent, task: Task) -> bool:
        if (agent.tenant_id, agent.id) not in self._left or not may_begin(task, agent, self._turns):
            return False
        if self._rooms is None:
            return True
        if self._rooms.closed(task, agent):
            return False
        if self._rooms.lacking(task, agent):
            self._short.setdefault(task.lane, agent)
            return False
        return True

    def took(self, task: Task, agent: Agent) -> None:
        """Note who got the task."""
        del self._left[agent.tenant_id, agent.id]
        if self._rooms is not None:
            self._rooms.take(task, agent)
        if (credential := credential_of(agent, task.spec.driver)) in self._turns:
            self._turns[credential] -= 1


def plan(
    ready: Iterable[Task],
    free: Iterable[Agent],
    counts: Mapping[Group, int] | None = None,
    caps: Caps | None = None,
    claims: Mapping[TaskId, Claim] | None = None,
    room: Mapping[str, int] | None = None,
    rooms: Rooms | None = None,
) -> list[tuple[Task, Agent]]:
    """Return who gets what, each agent once, in the order in which it was decided.

    Tenants take turns: the one that has the fewest tasks with agents now goes next, so that a long queue of one delays no other;
    what counts is what runs at the moment, so nobody saves up turns and a restart forgets nothing. Within a tenant, and between
    tenants that have as many, the order of the queue holds. A task that no free agent can do, or that is capped, holds up no
    other. One that could go but for its write set holds up those that would write the same files, so that it has its turn.

    Args:
        ready: Queued tasks; those of one lane in the order of the queue.
        free: Agents without work.
        counts: How many tasks of each group are with agents.
        caps: How many of a group may be.
        claims: What the tasks that are with agents may write.
        room: How many tasks may begin now, of each provider credential whose window is not open.
        rooms: What hosts have left; None: nobody asks for any of it. A task whose turn it is and that has no room keeps a host to
            itself until it has, so that smaller ones do not pass it for ever.
    """
    caps, writers = caps or Caps(), Writers(claims)
    held, fleet = Counter(counts or {}), _Fleet(free, room or {}, rooms)
    queues: dict[TenantId, _Queue] = {}
    for task in ready:
        queues.setdefault(task.tenant_id, _Queue()).add(task)
    placed: list[tuple[Task, Agent]] = []
    while fleet and queues:
        tenant = min(queues, key=lambda tenant: (held[Group(tenant)], queues[tenant].turn))
        task = queues[tenant].first()
        agent = None if full(task, caps, held) else fleet.best(task)
        if agent is not None and writers.before(task) is not None:
            writers.waits(task)
            agent = None
        if agent is not None:
            writers.took(task)
            fleet.took(task, agent)
            placed.append((task, agent))
            held.update({Group(tenant), *capped(task, caps)})
        if queues[tenant].drop(lane=agent is None):
            del queues[tenant]
    return placed


def why_waiting(
    task: Task, agents: Sequence[Agent], *, known: bool = True, full: str = "", closed: str = "", rooms: Rooms | None = None
) -> str:
    """Return in one sentence what a queued task waits for.

    Args:
        task: The task.
        agents: Every connected agent of its tenant.
        known: Whether the agent that it names has ever been here.
        full: The cap, or the task that writes the same files, that keeps it waiting, if one does.
        closed: The window of a credential that does, if one does.
        rooms: What hosts have left.
    """
    wanted = task.spec.agent_id
    named = [agent for agent in agents if not wanted or agent.id == wanted]
    if not named:
        if not wanted:
            return "waits for an agent: none is connected"
        return f"waits for {wanted}, which {'is not connected' if known else 'nobody here knows'}"
    needs = _needs(task)
    obstacles = {agent.id: _obstacle(task, needs, agent) for agent in named}
    if wanted and obstacles[named[0].id]:
        return f"waits for {wanted}, which {obstacles[named[0].id]}"
    can = [agent for agent in named if not obstacles[agent.id]]
    if not can:
        return _impossible(needs, named, obstacles)
    if full or closed:
        return full or closed
    idle = [agent for agent in can if agent.state is State.IDLE]
    if idle:
        taken = [rooms.lacking(task, agent) for agent in idle] if rooms is not None else [""]
        return taken[0] if all(taken) else "waits for its turn"
    if len(can) == 1:
        return f"waits for {can[0].id} to be free"
    return f"waits for a free agent: {len(can)} can do it, and none of them is free"


def _impossible(needs: Sequence[_Need], agents: Sequence[Agent], obstacles: Mapping[AgentId, str]) -> str:
    nobody = [need.wanted for need in needs if not any(need.met_by(agent) for agent in agents)]
    if nobody:
        return "no connected agent " + ", and none ".join(nobody)
    listed = "; ".join(f"{agent_id} {reason}" for agent_id, reason in sorted(obstacles.items())[:3])
    return f"no connected agent can do it: {listed}"
