"""What `conductor top` draws of the fleet at one moment."""

import io

from rich.console import Console

from claude_conductor.cli.top import Moment, Row, picture
from claude_conductor.v1.admin_service_pb2 import GetStatusResponse
from claude_conductor.v1.agent_pb2 import AGENT_STATE_IDLE, AGENT_STATE_WORKING, Agent, ResourceUse
from claude_conductor.v1.task_pb2 import TASK_STATE_RUNNING, TASK_STATE_WAITING_FOR_HUMAN, Question, Task, TaskSpec


def drawn(moment: Moment, width: int = 120) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(picture(moment, width))
    return console.file.getvalue().splitlines()


def status(**tasks: int) -> GetStatusResponse:
    return GetStatusResponse(tasks=tasks, agents={"working": 1, "idle": 0})


def test_counts_stand_above_and_what_ended_is_left_out():
    head = drawn(Moment(status(running=2, queued=3, succeeded=9), []))[0]

    assert head.startswith("tasks: 3 queued, 2 running    agents: 1 working")


def test_each_agent_shows_what_it_does():
    agent = Agent(
        agent_id="agent-1", state=AGENT_STATE_WORKING, task_id="task_1", use=ResourceUse(memory_bytes=2 << 20, cpu_seconds=4.2)
    )
    task = Task(task_id="task_1", state=TASK_STATE_RUNNING, spec=TaskSpec(prompt="fix\nthe  test"), progress="3 of 4")

    lines = drawn(Moment(status(), [Row(agent, task), Row(Agent(agent_id="agent-2", state=AGENT_STATE_IDLE), None)]))

    assert any(all(word in line for word in ("working", "agent-1", "2.0 MiB", "4 s", "fix the test: 3 of 4")) for line in lines)
    assert any("idle" in line and "agent-2" in line for line in lines)


def test_a_narrow_terminal_is_never_exceeded_and_hostile_text_is_shown_as_text():
    agent = Agent(agent_id="agent-1", state=AGENT_STATE_WORKING, task_id="task_" + "0" * 32)
    task = Task(task_id=agent.task_id, spec=TaskSpec(prompt="[red]x[/red]\x1b[2J" + "long " * 100))

    lines = drawn(Moment(status(running=1), [Row(agent, task)]), 80)

    assert max(len(line) for line in lines) <= 80
    assert "\x1b" not in "".join(lines)


def test_questions_stand_below_with_the_command_that_answers():
    agent = Agent(agent_id="agent-1", task_id="task_1")
    task = Task(task_id="task_1", state=TASK_STATE_WAITING_FOR_HUMAN, question=Question(text="Which?", state=1))

    assert "conductor tasks answer task_1 TEXT" in drawn(Moment(status(), [Row(agent, task)]))[-1]
