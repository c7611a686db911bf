"""What every agent driver is: how a kind of agent is started for a task, and what its output means. Pure: no I/O in here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the runner has to know before it asks the driver for anything."""

    long_running: bool = False
    """One process serves many tasks over its socket (`grpc_agent`); else a process per task."""
    needs_gateway: bool = False
    """It talks to a model provider, so the gateway's bridge is opened."""


@dataclass(frozen=True, slots=True)
class TaskOrder:
    """The part of a task a driver may look at."""

    task_id: str
    type: str
    prompt: str
    command: tuple[str, ...] = ()
    """Argument vector for `command`; `{prompt}` inside an argument is replaced by the prompt."""
    shell_line: str = ""
    """Instead of `command`: one line that `/bin/sh -c` runs inside the sandbox; `{prompt}` in it becomes `"$1"`."""
    environment: Mapping[str, str] = field(default_factory=dict)
    prompt_by: str = "argument"
    """How the prompt reaches a `command` agent: `argument`, `stdin` or `file` (/workspace/.conductor/prompt.txt)."""
    model: str = ""
    max_turns: int = 0
    """0: no limit of its own."""


@dataclass(frozen=True, slots=True)
class Command:
    """What is to be started in the sandbox."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to the sandbox's base environment (PATH, HOME, LANG, TERM, CONDUCTOR_*)."""
    stdin: bytes = b""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Files to write into the workspace first, by relative path; excluded from the patch."""
    toolchains: tuple[Path, ...] = ()
    bridges: Mapping[int, str] = field(default_factory=dict)
    """Loopback port inside -> socket name in /run/conductor."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Something worth showing in one line."""

    text: str


@dataclass(frozen=True, slots=True)
class TokenUse:
    """Tokens and turns so far, as totals (not increments)."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    turns: int = 0
    cost_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """The agent's own final word."""

    text: str
    failed: bool = False


Observation = Progress | TokenUse | Answer


class OutputParser(Protocol):
    """Reads one run's standard output as it comes."""

    def feed(self, chunk: bytes) -> tuple[bytes, list[Observation]]:
        """Take a chunk of any size; return the bytes to show as live output and what they mean. Never raises on odd bytes."""

    def finish(self) -> tuple[bytes, list[Observation]]:
        """Return what was still held back when the stream ended."""


class AgentDriver(Protocol):
    """One kind of agent."""

    name: str

    @property
    def capabilities(self) -> Capabilities:
        """What this kind of agent needs and can do."""

    def command(self, order: TaskOrder) -> Command:
        """Return how the agent is started for this task.

        Raises:
            MissingProgramError: Its program is not installed on this host.
            InvalidArgumentError: The task lacks what this driver needs (such as a command).
        """

    def parser(self) -> OutputParser:
        """Return a fresh parser for one run."""
