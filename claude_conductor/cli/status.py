"""`conductor status`: what runs, how it is doing, and what waits."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from claude_conductor import __version__
from claude_conductor.cli import commands, output, question_view, session
from claude_conductor.cli.agents import COLUMNS, name
from claude_conductor.cli.output import Format, FormatOption, say
from claude_conductor.client import Conductor
from claude_conductor.client.tasks import FINAL
from claude_conductor.settings.home import find
from claude_conductor.supervisor import control
from claude_conductor.supervisor.state import State
from claude_conductor.v1 import admin_service_pb2, agent_pb2, task_pb2

_MOST_ASKING = 20
app = commands.app("Show what runs and how it is doing.")


@app.command()
def status(form: FormatOption = Format.TABLE) -> None:
    """Show what runs and how it is doing."""
    session.run(_show(form))


async def _show(form: Format) -> None:
    async with session.connect() as conductor:
        answer = await conductor.admin.status()
        agents = await conductor.agents.list()
        asking = await conductor.tasks.list(states=[task_pb2.TASK_STATE_WAITING_FOR_HUMAN], limit=_MOST_ASKING)
        local = conductor.address == f"unix:{find(os.environ).socket}"
        supervisor = control.running(str(find(os.environ).path)) if local else None
        if form in (Format.JSON, Format.YAML):
            plain = _plain(answer, agents, supervisor)
            plain["waiting_for_human"] = [output.plain(task) for task in asking]
            output.show_one(form, plain, list, "")
        elif form is Format.NAME:
            say("\n".join(agent.agent_id for agent in agents))
        else:
            waiting = "\n".join(question_view.hint(task) for task in asking)
            output.facts([*_lines(conductor, answer, supervisor), ("waiting for you", waiting)])
            say("")
            output.show_rows(form, agents, COLUMNS, name, "no agents")


def _lines(conductor: Conductor, answer: admin_service_pb2.GetStatusResponse, supervisor: State | None) -> list[tuple[str, str]]:
    ends = {output.word(task_pb2.TaskState, number, "TASK_STATE_") for number in FINAL}
    ended = {state: count for state, count in answer.tasks.items() if state in ends}
    tasks = _counted({state: count for state, count in answer.tasks.items() if state not in ends})
    agents = ", ".join(f"{count} {state}" for state, count in sorted(answer.agents.items()) if count) or "none"
    version = answer.version if answer.version == __version__ else f"{answer.version} (this command line is {__version__})"
    lines = [
        ("control plane", f"version {version}, pid {answer.pid}, up {output.age(answer.start_time)}, store {answer.store}"),
        ("address", conductor.address),
        ("agents", agents),
        ("tasks", f"{tasks}; ended since the control plane started: {_counted(ended)}"),
    ]
    if supervisor is not None:
        restarts = [f"{child.name} {child.restarts}" for child in supervisor.children if child.restarts]
        lines.append(("supervisor", f"pid {supervisor.pid}, {supervisor.state}"))
        lines.append(("restarts", ", ".join(restarts)))
    return lines


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items()) if count) or "none"


def _plain(
    answer: admin_service_pb2.GetStatusResponse, agents: list[agent_pb2.Agent], supervisor: State | None
) -> dict[str, Any]:
    plain: dict[str, Any] = output.plain(answer)
    plain["agent_list"] = [output.plain(agent) for agent in agents]
    if supervisor is not None:
        plain["supervisor"] = {
            "pid": supervisor.pid,
            "state": str(supervisor.state),
            "programs": [
                {"name": child.name, "pid": child.pid, "state": str(child.state), "restarts": child.restarts}
                for child in supervisor.children
            ],
        }
    return plain
