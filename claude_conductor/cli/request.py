"""What is asked for in the words of the command line, and which task is that?"""

from __future__ import annotations

import datetime as dt
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from claude_conductor.cli.when import moment
from claude_conductor.client.tasks import duration
from claude_conductor.egress import rules
from claude_conductor.errors import InvalidArgumentError
from claude_conductor.settings import words
from claude_conductor.units import parse_count, parse_cpus, parse_duration, parse_money, parse_size
from claude_conductor.v1 import agent_pb2, task_pb2
from claude_conductor.write_set import problem

SHELL: Final = "/bin/sh"


@dataclass(frozen=True, slots=True)
class Request:
    """One task in the words of the command line; empty means: the default."""

    prompt: str = ""
    agent: str = ""
    """Kind of agent."""
    cmd: str = ""
    """A shell line; `{prompt}` in it is the prompt, as one word."""
    repo: str = ""
    ref: str = ""
    dirty: bool = False
    """Take changes along that are not committed yet."""
    copy: tuple[str, ...] = ()
    """Files and folders of the repository that git does not have, to be copied along."""
    folder: str = ""
    type: str = ""
    priority: int = 0
    timeout: str = ""
    attempts: int = 0
    memory: str = ""
    cpus: str = ""
    disk: str = ""
    level: str = ""
    allow: tuple[str, ...] = ()
    """Hosts the agent may reach."""
    model: str = ""
    on: str = ""
    """The one agent that shall do it."""
    prompt_by: str = ""
    files: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    needs: Mapping[str, str] = field(default_factory=dict)
    """Labels an agent must have."""
    writes: tuple[str, ...] = ()
    """Paths of the repository it may change."""
    setup: str = ""
    """A shell line that makes the workspace ready."""
    setup_timeout: str = ""
    setup_cache: tuple[str, ...] = ()
    """Files that decide what it makes."""
    setup_keep: tuple[str, ...] = ()
    """What it makes."""
    keep_workspace: bool = False
    """Leave its files after the end."""
    budget_usd: str = ""
    budget_tokens: str = ""
    budget_turns: str = ""
    budget_time: str = ""
    """What it may use with all of its attempts and subtasks."""
    at: str = ""
    """When to start at the earliest (ISO 8601); without a zone in that of this machine."""


def spec(request: Request) -> task_pb2.TaskSpec:
    """Return the task.

    Raises:
        InvalidArgumentError: A value cannot be used; says which flag.
    """
    driver = _driver(request)
    if not 0 <= request.priority <= 10:
        raise InvalidArgumentError(
            "A priority is 1 (last) to 10 (first).", next_step="correct --priority", priority=request.priority
        )
    return task_pb2.TaskSpec(
        type=request.type,
        prompt=request.prompt,
        driver=driver,
        command=_command(request.cmd),
        prompt_by=request.prompt_by,
        environment=request.env,
        files=request.files,
        workspace=_workspace(request),
        priority=request.priority,
        timeout=_seconds("--timeout", request.timeout),
        retry=task_pb2.RetryPolicy(max_attempts=request.attempts) if request.attempts else None,
        isolation=_isolation(request),
        required_labels=request.needs,
        agent_id=request.on,
        model=request.model,
        labels=request.labels,
        writes=_writes(request),
        setup=_setup(request),
        keep_workspace=request.keep_workspace,
        budget=_budget(request),
        not_before_time=_start(request),
    )


def _budget(request: Request) -> task_pb2.Budget | None:
    time = _seconds("--budget-time", request.budget_time)
    if time is not None and not time.ToNanoseconds():
        raise InvalidArgumentError("A budget is above 0.", next_step="correct --budget-time, or leave it out for no limit")
    budget = task_pb2.Budget(
        wall_time=time,
        turns=from_flag("--budget-turns", request.budget_turns, parse_count),
        tokens=from_flag("--budget-tokens", request.budget_tokens, parse_count),
        cost_usd=from_flag("--budget-usd", request.budget_usd, parse_money),
    )
    return budget if budget != task_pb2.Budget() else None


def _start(request: Request) -> Timestamp | None:
    if not request.at:
        return None
    found = Timestamp()
    found.FromDatetime(moment(request.at, dt.datetime.now().astimezone()))
    return found


def _setup(request: Request) -> task_pb2.Setup | None:
    more = {"--setup-timeout": request.setup_timeout, "--setup-cache": request.setup_cache, "--setup-keep": request.setup_keep}
    if not request.setup:
        if given := next((flag for flag, value in more.items() if value), ""):
            raise InvalidArgumentError(f"{given} needs a set-up command.", next_step="add --setup 'make deps', for example")
        return None
    return task_pb2.Setup(
        command=[SHELL, "-c", request.setup],
        timeout=_seconds("--setup-timeout", request.setup_timeout),
        cache_files=request.setup_cache,
        keep=request.setup_keep,
    )


def _driver(request: Request) -> str:
    driver = words.driver(request.agent)
    if driver and driver not in words.DRIVERS:
        near = difflib.get_close_matches(driver, words.DRIVERS, n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise InvalidArgumentError(
            "There is no such kind of agent.", next_step=f"{meant}there are: {', '.join(words.DRIVERS)}", agent=request.agent
        )
    if request.cmd and driver not in ("", "command"):
        raise InvalidArgumentError(
            "--cmd is for agents of the kind `command`.", next_step="leave --cmd or --agent out", agent=driver
        )
    if driver == "command" and not request.cmd:
        raise InvalidArgumentError(
            "An agent of the kind `command` needs a command.", next_step="add --cmd 'make check', for example"
        )
    if not request.prompt.strip() and not request.cmd:
        raise InvalidArgumentError(
            "There is nothing to do: no prompt and no command.",
            next_step='`conductor run "fix the failing test" --agent claude-code --repo .`',
        )
    return "command" if request.cmd else driver


def _command(line: str) -> list[str]:
    """Return the argument vector of a shell line. The prompt is a word of its own there, so that nothing in it is run."""
    if not line:
        return []
    if "{prompt}" in line:
        return [SHELL, "-c", line.replace("{prompt}", '"$1"'), "sh", "{prompt}"]
    return [SHELL, "-c", line]


def _writes(request: Request) -> tuple[str, ...]:
    if request.writes and not request.repo:
        raise InvalidArgumentError(
            "--writes names paths of a repository.", next_step="add --repo PATH", **{"--writes": ",".join(request.writes)}
        )
    for pattern in request.writes:
        if why := problem(pattern):
            raise InvalidArgumentError(why, next_step="correct --writes", **{"--writes": repr(pattern)})
    return request.writes


def _workspace(request: Request) -> task_pb2.WorkspaceSource | None:
    if request.repo and request.folder:
        raise InvalidArgumentError("--repo and --folder exclude each other.", next_step="give one of the two")
    if request.ref and not request.repo:
        raise InvalidArgumentError("--ref needs a repository.", next_step="add --repo PATH")
    if request.repo:
        return task_pb2.WorkspaceSource(git=task_pb2.GitWorkspace(repository=request.repo, ref=request.ref))
    if request.folder:
        return task_pb2.WorkspaceSource(folder=task_pb2.FolderWorkspace(path=request.folder))
    return None


def _isolation(request: Request) -> agent_pb2.IsolationSpec | None:
    level = request.level.strip().lower()
    if level and level not in words.LEVELS:
        raise InvalidArgumentError(
            "There is no such isolation level.", next_step=f"there are: {', '.join(words.LEVELS)}", level=level
        )
    limits = agent_pb2.ResourceLimits(
        memory_bytes=from_flag("--memory", request.memory, parse_size) or 0,
        cpus=from_flag("--cpus", request.cpus, parse_cpus) or 0.0,
        workspace_bytes=from_flag("--disk", request.disk, parse_size) or 0,
    )
    allow = _hosts(request.allow)
    if not level and not allow and limits == agent_pb2.ResourceLimits():
        return None
    number = (
        agent_pb2.IsolationLevel.Value(f"ISOLATION_LEVEL_{level.upper()}") if level else agent_pb2.ISOLATION_LEVEL_UNSPECIFIED
    )
    return agent_pb2.IsolationSpec(level=number, limits=limits, allow=allow)


def _hosts(written: tuple[str, ...]) -> list[str]:
    """Return the entries of flags that may hold several, separated by commas."""
    found = [entry.strip() for text in written for entry in text.split(",") if entry.strip()]
    try:
        rules(found)
    except InvalidArgumentError as problem:
        raise InvalidArgumentError(problem.message, next_step=problem.next_step, **{"--allow": ",".join(written)}) from problem
    return found


def _seconds(flag: str, text: str) -> Duration | None:
    seconds = from_flag(flag, text, parse_duration)
    return None if seconds is None else duration(seconds)


def from_flag(flag: str, text: str, parse: Any) -> Any:  # noqa: ANN401 - one of the parsers of units
    """Return the parsed value, None where nothing was said.

    Raises:
        InvalidArgumentError: Names the flag.
    """
    if not text:
        return None
    try:
        return parse(text)
    except InvalidArgumentError as problem:
        raise InvalidArgumentError(problem.message, next_step=f"correct {flag}", **{flag: text}) from problem


def pairs(flag: str, texts: list[str]) -> dict[str, str]:
    """Return names and values of `NAME=VALUE` flags.

    Raises:
        InvalidArgumentError: One has no `=`.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise InvalidArgumentError("A name and a value are written NAME=VALUE.", next_step=f"correct {flag}", **{flag: text})
        found[name] = value
    return found
