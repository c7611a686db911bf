"""What do the settings mean for each program? From a checked document to the plain values control plane and sidecars take."""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from claude_conductor.egress import rules
from claude_conductor.errors import InvalidArgumentError, SettingsError
from claude_conductor.settings import prices
from claude_conductor.settings.home import Home, expand, expand_path
from claude_conductor.settings.load import Loaded
from claude_conductor.settings.origin import Rank
from claude_conductor.settings.schema import NamedAgent, parse_uid_range
from claude_conductor.units import parse_cpus, parse_duration, parse_size


@dataclass(frozen=True, slots=True)
class Resolved:
    """Plain values for `handover.from_plain`; tokens are added by whoever mints them."""

    control_plane: Mapping[str, Any]
    sidecars: tuple[Mapping[str, Any], ...]
    stop_grace: float
    """Seconds between TERM and KILL."""

    @property
    def levels(self) -> frozenset[str]:
        """Every isolation level an agent is configured for."""
        return frozenset(str(sidecar["level"]) for sidecar in self.sidecars)


def resolve(loaded: Loaded, home: Home, environment: Mapping[str, str]) -> Resolved:
    """Give every setting its meaning.

    Args:
        loaded: Checked settings.
        home: Where state goes.
        environment: For `~`, `$NAME` and ANTHROPIC_API_KEY.

    Raises:
        SettingsError: Values that exclude each other, a path that is not absolute, or a key file that others can read.
    """
    document = loaded.document
    _check_combinations(loaded)
    sidecars = [f"agent-{number}" for number in range(1, document.num_agents + 1)]
    shared = _shared(loaded, home, environment)
    slots = [_slot(shared, NamedAgent(id=name), 0, environment) for name in sidecars]
    slots += [_slot(shared, agent, index, environment) for index, agent in enumerate(document.agents)]
    return Resolved(_control_plane(loaded, home), tuple(slots), parse_duration(document.agent.stop_grace))


def _control_plane(loaded: Loaded, home: Home) -> dict[str, Any]:
    document = loaded.document
    limits, tasks, lease = document.limits, document.tasks, parse_duration(document.lease_seconds)
    return {
        "home": str(home.path),
        "store": document.store,
        "grpc_server": document.grpc_server,
        "lease_seconds": lease,
        "heartbeat_seconds": lease / 3,
        "default_driver": tasks.default_driver,
        "task_timeout": parse_duration(tasks.timeout),
        "max_attempts": tasks.max_attempts,
        "retry_delay": parse_duration(tasks.retry_delay),
        "keep_tasks_days": tasks.keep_days,
        "caps": tasks.concurrency.model_dump(),
        "starts_after_limit": document.provider.starts_after_limit,
        "limits": {
            "payload_bytes": parse_size(limits.payload_bytes),
            "mailbox_messages": limits.mailbox_messages,
            "mailbox_bytes": parse_size(limits.mailbox_bytes),
            "hops": limits.hops,
            "messages_a_second": float(limits.messages_a_second),
            "messages_at_once": limits.messages_at_once,
            "message_attempts": limits.message_attempts,
            "subscriptions": limits.subscriptions,
            "subscribers": limits.subscribers,
            "message_seconds": parse_duration(limits.message_seconds),
            "kept_messages": limits.kept_messages,
            "kept_seconds": parse_duration(limits.kept_seconds),
            "kept_bytes": parse_size(limits.kept_bytes),
            "prompt_bytes": parse_size(limits.prompt_bytes),
            "output_bytes": parse_size(limits.output_bytes),
        },
        "streams": {
            "queue_bytes": parse_size(document.streams.queue_bytes),
            "ahead_messages": document.streams.ahead_messages,
            "ahead_bytes": parse_size(document.streams.ahead_bytes),
        },
        "policy": {"rules": document.policy.model_dump(mode="json")["messages"], "otherwise": document.policy.otherwise},
        "listen": {**document.listen.model_dump(), "names": list(document.listen.names)},
        "metrics_port": document.telemetry.metrics_port,
        "log_level": document.log_level,
    }


def _shared(loaded: Loaded, home: Home, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return what all sidecars have in common."""
    document = loaded.document
    agent, storage, container = document.agent, document.storage, document.container_config
    first, last = parse_uid_range(document.isolation.uid_range)
    temp = storage.temp_path
    return {
        "home": str(home.path),
        "control_plane": f"unix:{home.socket}",
        "workspace_path": str(expand_path(storage.workspace_path, home, environment, key="storage.workspace_path")),
        "temp_path": str(expand_path(temp, home, environment, key="storage.temp_path")) if temp else None,
        "level": agent.workspace_isolation,
        "limits": {
            "memory_bytes": parse_size(_either(loaded, "agent.container_memory", "container_config.memory_limit", parse_size)),
            "cpus": parse_cpus(_either(loaded, "agent.container_cpu", "container_config.cpu_limit", parse_cpus)),
            "pids": agent.pids,
            "workspace_bytes": parse_size(agent.workspace_size),
            "tmp_bytes": parse_size(agent.temp_size),
            "open_files": agent.open_files,
        },
        "workspace_mount": container.workspace_mount,
        "agent_isolation": storage.agent_isolation,
        "allow": list(container.allowed_hosts) if container.enable_networking else [],
        "drivers": list(agent.drivers),
        "agent_toolchains": _folders(document.toolchains, home, environment, "toolchains"),
        "labels": dict(agent.labels),
        "uid_first": first,
        "uid_last": last,
        "startup_timeout": parse_duration(agent.startup_timeout),
        "health_check_interval": parse_duration(agent.health_check_interval),
        "stop_grace": parse_duration(agent.stop_grace),
        "keep_workspaces": agent.keep_workspaces,
        "keep_workspaces_for": parse_duration(agent.keep_workspaces_for),
        "setup_cache_bytes": parse_size(storage.setup_cache_size),
        "mcp_tools": agent.mcp_tools,
        "provider": {
            "base_url": document.provider.base_url,
            "api_key": _api_key(loaded, home, environment),
            "prices": {name: dict(entry.price) for name, entry in prices_in_force(loaded, home, environment).items()},
        },
        "journal_bytes": parse_size(document.streams.journal_bytes),
        "inbox_messages": document.streams.inbox_messages,
        "inbox_bytes": parse_size(document.streams.inbox_bytes),
        "claude_binary": expand(document.claude_binary, environment, key="claude_binary"),
        "log_level": document.log_level,
    }


def _slot(shared: Mapping[str, Any], agent: NamedAgent, index: int, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return one sidecar's values: the shared ones, and what its own entry says."""
    key = f"agents[{index}]"
    limits = dict(shared["limits"])
    if agent.memory is not None:
        limits["memory_bytes"] = parse_size(agent.memory)
    if agent.cpus is not None:
        limits["cpus"] = parse_cpus(agent.cpus)
    own: dict[str, Any] = {
        "agent_id": agent.id,
        "limits": limits,
        "labels": {**shared["labels"], **agent.labels},
        "agent_environment": dict(agent.environment),
    }
    if agent.level is not None:
        own["level"] = agent.level
    if agent.driver is not None:
        own["drivers"] = [agent.driver]
    if agent.command:
        own["agent_command"] = [expand(word, environment, key=f"{key}.command") for word in agent.command]
    if agent.toolchains:
        folders = [expand(folder, environment, key=f"{key}.toolchains") for folder in agent.toolchains]
        own["agent_toolchains"] = [*shared["agent_toolchains"], *folders]
    return {**shared, **own}


def _either(loaded: Loaded, one: str, other: str, parse: Callable[[str], float]) -> str:
    """Return the value of two keys for the same thing: the one set nearer to the command line.

    Raises:
        SettingsError: Both are set in the same place, differently.
    """
    values = {key: _value(loaded, key) for key in (one, other)}
    origins = {key: loaded.origin(key) for key in (one, other)}
    if origins[one].rank is origins[other].rank is not Rank.DEFAULT and parse(values[one]) != parse(values[other]):
        raise SettingsError(
            f"`{one}` ({origins[one]}) and `{other}` ({origins[other]}) say different things about the same limit.",
            next_step="keep one of the two",
        )
    return values[one] if origins[one].rank >= origins[other].rank else values[other]


def _value(loaded: Loaded, key: str) -> str:
    block, _, name = key.partition(".")
    return str(getattr(getattr(loaded.document, block), name))


def _check_combinations(loaded: Loaded) -> None:
    document = loaded.document
    levels = {document.agent.workspace_isolation} if document.num_agents else set()
    levels |= {agent.level or document.agent.workspace_isolation for agent in document.agents}
    container = document.container_config
    if container.enable_networking and "strict" in levels:
        where = f"`container_config.enable_networking` ({loaded.origin('container_config.enable_networking')})"
        raise SettingsError(
            f"{where} is refused with isolation level strict, whose agents reach nothing unless their task asks for it.",
            next_step="set it to false and use `conductor run --allow HOST`, or choose `agent.workspace_isolation: moderate`",
        )
    try:
        rules(container.allowed_hosts)
    except InvalidArgumentError as error:
        where = f"`container_config.allowed_hosts` ({loaded.origin('container_config.allowed_hosts')})"
        raise SettingsError(f"{where}: {error.message}", next_step=error.next_step) from error
    if not document.storage.agent_isolation and levels != {"minimal"}:
        raise SettingsError(
            f"`storage.agent_isolation: false` ({loaded.origin('storage.agent_isolation')}) shares workspaces between agents, "
            "and is refused unless the isolation level is minimal.",
            next_step="set it to true, or choose `agent.workspace_isolation: minimal` explicitly",
        )


def _folders(written: tuple[str, ...], home: Home, environment: Mapping[str, str], key: str) -> list[str]:
    return [str(expand_path(folder, home, environment, key=key)) for folder in written]


def prices_in_force(loaded: Loaded, home: Home, environment: Mapping[str, str]) -> dict[str, prices.Entry]:
    """Return what models cost here, by name.

    Raises:
        SettingsError: The file of prices cannot be read, or is none.
    """
    written = loaded.document.provider.prices_file
    if written:
        return prices.table(expand_path(written, home, environment, key="provider.prices_file"))
    return prices.table(home.prices if home.prices.exists() else None)


def _api_key(loaded: Loaded, home: Home, environment: Mapping[str, str]) -> str:
    """Return the provider's key: from its file if one is named, else from ANTHROPIC_API_KEY; empty if there is none."""
    written = loaded.document.provider.api_key_file
    if not written:
        return environment.get("ANTHROPIC_API_KEY", "").strip()
    path = expand_path(written, home, environment, key="provider.api_key_file")
    where = loaded.origin("provider.api_key_file")
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise SettingsError(
                f"`provider.api_key_file` ({where}): others can read this file.", next_step=f"chmod 600 {path}", file=path
            )
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as cause:
        raise SettingsError(f"`provider.api_key_file` ({where}): the file cannot be read.", file=path, cause=cause) from cause
