"""`conductor agents`: which agents there are, what they do, and what keeps them apart."""

from __future__ import annotations

from typing import Annotated

import typer

from claude_conductor.cli import commands, output, session
from claude_conductor.cli.completion import agent_ids
from claude_conductor.cli.output import Column, Format, FormatOption
from claude_conductor.units import format_size
from claude_conductor.v1 import agent_pb2

app = commands.app("List and inspect agents.", group=True)

AgentArgument = Annotated[str, typer.Argument(metavar="AGENT", autocompletion=agent_ids, help="Id of an agent.")]


def state(agent: agent_pb2.Agent) -> str:
    """Return an agent's state in a word."""
    return output.word(agent_pb2.AgentState, agent.state, "AGENT_STATE_")


def level(number: int) -> str:
    """Return an isolation level in a word; empty if it is not known."""
    return output.word(agent_pb2.IsolationLevel, number, "ISOLATION_LEVEL_") if number else ""


def name(agent: agent_pb2.Agent) -> str:
    """Return what `-o name` prints."""
    return agent.agent_id


UNUSUAL = frozenset({"starting", "stalled", "rate_limited", "waiting_for_human", "lost"})
"""States that a reader of the list wants explained."""

COLUMNS = (
    Column("AGENT", name, least=12),
    Column("STATE", state, least=9),
    Column("SINCE", lambda agent: output.age(agent.state_time)),
    Column("TASK", lambda agent: agent.task_id or "-", least=output.ID_WIDTH),
    Column("STRONGEST", lambda agent: level(agent.strongest_level) or "-"),
    Column("DRIVERS", lambda agent: ",".join(agent.drivers)),
    Column("MEMORY", lambda agent: format_size(agent.use.memory_bytes) if agent.use.memory_bytes else "-", wide=True),
    Column("PID", lambda agent: str(agent.sidecar_pid or "-"), wide=True),
    Column("HOST", lambda agent: agent.host, wide=True),
    Column("REASON", lambda agent: agent.state_reason if state(agent) in UNUSUAL else "-"),
)


@app.command("list")
def list_(form: FormatOption = Format.TABLE) -> None:
    """List agents by id."""
    session.run(_list(form))


@app.command("show", hidden=True)
@app.command()
def inspect(agent: AgentArgument, form: FormatOption = Format.TABLE) -> None:
    """Show everything about one agent, its isolation included."""
    session.run(_inspect(agent, form))


@app.command()
def quarantine(
    agent: AgentArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why; its sidecar is told, and the event log.")] = "",
) -> None:
    """Take an agent out at once: its streams end, what it has is revoked, its task goes to another one."""
    session.run(_quarantine(agent, reason))
    output.say(f"{agent} is out; `conductor agents release {agent}` lets it in again")


@app.command()
def release(agent: AgentArgument) -> None:
    """Let an agent in again; a sidecar on another machine has to join anew."""
    session.run(_release(agent))
    output.say(f"{agent} may come in again")


async def _quarantine(agent_id: str, reason: str) -> None:
    async with session.connect() as conductor:
        await conductor.agents.quarantine(agent_id, reason)


async def _release(agent_id: str) -> None:
    async with session.connect() as conductor:
        await conductor.agents.release(agent_id)


async def _list(form: Format) -> None:
    async with session.connect() as conductor:
        output.show_rows(
            form, await conductor.agents.list(), COLUMNS, name, "no agents: `conductor start --agents N` starts some"
        )


async def _inspect(agent_id: str, form: Format) -> None:
    async with session.connect() as conductor:
        agent = await conductor.agents.get(agent_id)
    output.show_one(form, agent, lambda: _lines(agent), agent.agent_id)


def _lines(agent: agent_pb2.Agent) -> list[tuple[str, str]]:
    isolation, use = agent.isolation, agent.use
    memory = f"{format_size(use.memory_bytes)}, {use.cpu_seconds:.1f} s of processor time, {use.pids} processes"
    return [
        ("agent", agent.agent_id),
        ("state", f"{state(agent)} for {output.age(agent.state_time)}" if agent.state_time.seconds else state(agent)),
        ("reason", output.printable(agent.state_reason)),
        ("task", agent.task_id),
        ("drivers", ", ".join(agent.drivers)),
        ("labels", ", ".join(f"{name}={value}" for name, value in sorted(agent.labels.items()))),
        *isolation_lines(isolation),
        ("strongest level", level(agent.strongest_level)),
        ("in use", memory if use.memory_bytes else ""),
        ("sidecar", f"pid {agent.sidecar_pid} on {agent.host}, version {agent.version}, incarnation {agent.incarnation}"),
    ]


def isolation_lines(isolation: agent_pb2.IsolationStatus) -> list[tuple[str, str]]:
    """Return what is in force around an agent, as lines."""
    effective, requested = level(isolation.effective_level), level(isolation.requested_level)
    none_yet = f"{requested} is asked for, none is in force" if requested else ""
    asked = f" (asked for: {requested})" if requested and requested != effective else ""
    return [
        ("isolation", f"{effective}{asked}, driver {isolation.driver}" if effective else none_yet),
        ("in force", ", ".join(isolation.mechanisms)),
        ("weaker than asked", "\n".join(isolation.degradations)),
    ]
