"""Everything a sidecar can be told, resolved: it reads no file and no environment below `app`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent_sidecar.gateway.price import Prices
from agent_sidecar.isolation.interface import Level, Limits
from claude_conductor.settings.secret import Secret


@dataclass(frozen=True, slots=True)
class Provider:
    """The model provider behind the gateway."""

    base_url: str = "https://api.anthropic.com"
    api_key: Secret = Secret("")
    """Added to requests in the sidecar; the agent never sees it."""
    prices: Prices = field(default_factory=dict)
    """Of models."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What `app` builds a sidecar from. Times in seconds."""

    home: Path
    """State goes to `home/sidecars/ID`, sockets to `home/run/agents/ID`, workspaces to `workspace_path/ID`."""
    agent_id: str
    control_plane: str
    """gRPC address, such as `unix:/home/me/.claude-conductor/run/control.sock`."""
    token: Secret = Secret("")
    identity: Path | None = None
    """File of the identity that this machine got when it joined; None: the token says who we are."""
    workspace_path: Path = Path()
    """Parent of the workspaces; the empty path means `home/workspace`."""
    temp_path: Path | None = None
    """Parent of private temporary folders; made 0700, refused if it is somebody else's or a link."""
    level: Level = Level.STRICT
    """Level of tasks that choose none."""
    limits: Limits = Limits()
    workspace_mount: bool = True
    """False: every task starts with an empty scratch folder, whatever source it names."""
    agent_isolation: bool = True
    """False shares one workspace parent between agents; refused unless the level is minimal."""
    allow: tuple[str, ...] = ()
    """Hosts that agents may reach through the proxy when their task names none; at minimal they have the host's network."""
    drivers: tuple[str, ...] = ("command", "claude_code", "scripted")
    """Kinds of agent this slot runs, a process per task."""
    agent_command: tuple[str, ...] = ()
    """For a slot with one long-running `grpc_agent`: its argument vector. Empty: a slot for tasks of `drivers`."""
    agent_environment: Mapping[str, str] = field(default_factory=dict)
    agent_toolchains: tuple[Path, ...] = ()
    """Further folders the agent may read, shown at their own path."""
    labels: Mapping[str, str] = field(default_factory=dict)
    uid_first: int = 61200
    uid_last: int = 61999
    """Host uids for agents of sidecars that run as root."""
    startup_timeout: float = 60.0
    """From the lease to the first sign of life of the agent's process."""
    health_check_interval: float = 30.0
    """An agent that is silent for two of these is shown as stalled."""
    stop_grace: float = 5.0
    """Between TERM and KILL."""
    keep_workspaces: bool = False
    """Leave the workspace of a failed task for a look."""
    keep_workspaces_for: float = 7 * 86_400.0
    """How long workspaces are kept that are."""
    setup_cache_bytes: int = 5 << 30
    """Of what set-up commands made, all agents of the home together; 0: nothing is kept."""
    provider: Provider = Provider()
    journal_bytes: int = 64 << 20
    """Of what waits for the control plane; messages that do not fit are refused."""
    inbox_messages: int = 1000
    inbox_bytes: int = 8 << 20
    """What waits beside the agent; the rest stays in its mailbox."""
    claude_binary: str = ""
    """Path of Claude Code; empty: `claude` on PATH."""
    mcp_tools: bool = True
    """Claude Code is given the tools of `conductor-agent mcp`."""
    log_level: str = "info"
    log_style: str = "json"
