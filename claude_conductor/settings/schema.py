"""What may a settings file say? The keys, their meaning, their defaults and what values they take; nothing is read here.

Values stay as they are written (`1g`, `~/work`), so that an export reads like its file; `resolve` gives them meaning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from claude_conductor.errors import InvalidArgumentError
from claude_conductor.ids import check_name
from claude_conductor.settings.words import DRIVERS, driver
from claude_conductor.units import parse_cpus, parse_duration, parse_size

STORES = ("sqlite", "memory")
REMOTE_STORES = ("redis", "rediss", "unix")
"""How the address of a Redis server begins."""
LARGEST_PAYLOAD = 3 << 20
"""Bytes; an answer with one such message is within the 4 MiB that a gRPC client takes without options."""


def _written(parse: Callable[[str], object]) -> BeforeValidator:
    """Check a value with `parse` and keep it as it was written."""

    def check(value: object) -> str:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError(f"a number or a text is needed, not {type(value).__name__}")  # noqa: TRY004 - pydantic wants ValueError
        try:
            parse(str(value))
        except InvalidArgumentError as problem:
            raise ValueError(problem.message) from problem
        return str(value)

    return BeforeValidator(check)


def _positive_size(text: str) -> int:
    if (size := parse_size(text)) <= 0:
        raise InvalidArgumentError("A size is above 0 here.")
    return size


def _payload_size(text: str) -> int:
    if (size := _positive_size(text)) > LARGEST_PAYLOAD:
        raise InvalidArgumentError(
            "A payload has at most 3m, so that ordinary gRPC clients can read it: larger things are artefacts."
        )
    return size


def _positive_duration(text: str) -> float:
    if (seconds := parse_duration(text)) <= 0:
        raise InvalidArgumentError("A duration is above 0 here.")
    return seconds


def parse_uid_range(text: str) -> tuple[int, int]:
    """Return the first and last uid of `61200-61999`.

    Raises:
        InvalidArgumentError: It is no range of ordinary uids that fits 16-bit user maps.
    """
    first, _, last = text.partition("-")
    if not (first.strip().isdecimal() and last.strip().isdecimal()) or not 1000 <= int(first) <= int(last) <= 65533:
        raise InvalidArgumentError("A uid range is written like 61200-61999, within 1000 to 65533.")
    return int(first), int(last)


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _store(value: object) -> object:
    if not isinstance(value, str) or (plain := value.strip()).lower() in STORES:
        return _lower(value)
    scheme, _, rest = plain.partition("://")
    if scheme.lower() not in REMOTE_STORES or not rest:
        raise ValueError("'sqlite', 'memory' or an address like redis://host:6379/0 is needed")
    if "@" in (place := rest.partition("?")[0]) and ":" in place.rpartition("@")[0]:
        raise ValueError("a password does not belong into settings; ?password_file=/path names a file that holds it")
    return plain


def _driver(value: object) -> object:
    plain = driver(value) if isinstance(value, str) else value
    if plain not in DRIVERS:
        raise ValueError(f"a kind of agent is needed: {', '.join(DRIVERS)}")
    return plain


_RECIPIENTS = frozenset({"operator", "broadcast", "parent", "conductor"})


def _agent_id(text: str) -> str:
    if text in _RECIPIENTS:
        raise InvalidArgumentError(f"`{text}` means somebody else to those who send messages.")
    return check_name("agent", text)


Size = Annotated[str, _written(_positive_size)]
AnySize = Annotated[str, _written(parse_size)]
Cpus = Annotated[str, _written(parse_cpus)]
Seconds = Annotated[str, _written(_positive_duration)]
Delay = Annotated[str, _written(parse_duration)]
Driver = Annotated[str, BeforeValidator(_driver)]
Level = Annotated[Literal["strict", "moderate", "minimal"], BeforeValidator(_lower)]
LogLevel = Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)]
Count = Annotated[int, Field(ge=1)]


class Block(BaseModel):
    """A block of keys; a key that is not here is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class ContainerConfig(Block):
    """What every agent gets, in the words of the standalone file."""

    memory_limit: Size = "1g"
    cpu_limit: Cpus = "0.5"
    enable_networking: bool = False
    """Agents reach `allowed_hosts` through the proxy beside them (moderate), or have the host's network (minimal); refused with
    strict, where a task asks for hosts by itself."""
    allowed_hosts: tuple[str, ...] = ("pypi", "npm", "github")
    """Hosts and presets, as `conductor run --allow` takes them; counts with `enable_networking`."""
    workspace_mount: bool = True
    """False: an empty sized scratch folder instead of the task's files."""


class Storage(Block):
    """Where files are. A path below `~/.claude-conductor` follows CONDUCTOR_HOME."""

    workspace_path: str = "~/.claude-conductor/workspace"
    temp_path: str = ""
    """Parent of private temporary folders; empty: the sidecar's own."""
    agent_isolation: bool = True
    """False shares workspaces between agents; refused unless the level is minimal."""
    setup_cache_size: AnySize = "5g"
    """What set-up commands of tasks made and what is kept for the next, in all; the oldest goes first. 0: nothing is kept."""


class AgentBlock(Block):
    """What every agent gets, in the words of the production file, and more."""

    container_memory: Size = "1g"
    """The same as `container_config.memory_limit`; the one that is set nearer to the command line wins."""
    container_cpu: Cpus = "0.5"
    workspace_isolation: Level = "strict"
    health_check_interval: Seconds = "30"
    startup_timeout: Seconds = "60"
    stop_grace: Delay = "5"
    """Between TERM and KILL."""
    workspace_size: AnySize = "0"
    """Cap of the workspace as a whole; 0: none. Refused at strict where the host has nothing that enforces it."""
    temp_size: Size = "256m"
    pids: Count = 512
    open_files: Count = 4096
    keep_workspaces: bool = False
    """Leave the workspace of a failed task for a look."""
    keep_workspaces_for: Seconds = "7d"
    """How long these and those of tasks with `--keep-workspace` are left."""
    drivers: tuple[Driver, ...] = ("command", "claude_code", "scripted")
    labels: dict[str, str] = {}
    mcp_tools: bool = True
    """Claude Code is given Conductor's tools (`conductor-agent mcp`): messages, tasks, questions to you."""


class NamedAgent(Block):
    """A slot of its own, besides the `num_agents` plain ones; what it does not say it takes from `agent`."""

    id: Annotated[str, _written(_agent_id)]
    driver: Driver | None = None
    command: tuple[str, ...] = ()
    """For `grpc_agent`: the long-running program."""
    environment: dict[str, str] = {}
    labels: dict[str, str] = {}
    level: Level | None = None
    memory: Size | None = None
    cpus: Cpus | None = None
    toolchains: tuple[str, ...] = ()


class Limits(Block):
    """Bounds of messages and output."""

    payload_bytes: Annotated[str, _written(_payload_size)] = "1m"
    mailbox_messages: Count = 10_000
    mailbox_bytes: Size = "64m"
    hops: Annotated[int, Field(ge=1, le=255)] = 16
    messages_a_second: Count = 5000
    """Of one sender, in the long run."""
    messages_at_once: Count = 10_000
    """Of one sender that was silent."""
    message_attempts: Count = 5
    subscriptions: Count = 100
    """Topics one mailbox may be subscribed to."""
    subscribers: Count = 1000
    """Mailboxes that may be subscribed to one topic."""
    message_seconds: Seconds = "24h"
    kept_messages: Count = 100_000
    """Acknowledged, expired, bounced and dead messages that are kept to be shown."""
    kept_seconds: Seconds = "24h"
    """How long they are kept."""
    kept_bytes: Size = "1g"
    """Of what they say; acknowledged ones keep nothing of it."""
    prompt_bytes: Size = "256k"
    output_bytes: Size = "64m"


class Concurrency(Block):
    """How many tasks may be with agents at once; the others wait. `*` stands for each one that is not named."""

    tenants: dict[str, Count] = {}
    types: dict[str, Count] = {}
    """Within a tenant."""
    labels: dict[Annotated[str, Field(pattern=r"^[^=]+=.+$")], Count] = {}
    """Of tasks, written `name=value`, or `name=*` for each value by itself. Within a tenant."""


class Tasks(Block):
    """What a task gets that does not say, and how many may run."""

    default_driver: Driver = "command"
    timeout: Seconds = "1h"
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 3
    retry_delay: Delay = "1s"
    keep_days: Annotated[float, Field(ge=1)] = 30.0  # a request id is remembered for a day
    concurrency: Concurrency = Concurrency()


class Streams(Block):
    """How much may be under way between the control plane and one sidecar, and wait beside its agent."""

    queue_bytes: Size = "1m"
    """Deliveries queued for one sidecar; what does not fit stays in the store."""
    ahead_messages: Count = 10_000
    ahead_bytes: Size = "4m"
    """What a sidecar may send before it has the answers."""
    journal_bytes: Size = "64m"
    """What a sidecar keeps for a control plane that is away; messages that do not fit are refused."""
    inbox_messages: Count = 1000
    inbox_bytes: Size = "8m"
    """What waits beside the agent; the rest stays in its mailbox."""


class Party(Block):
    """Which senders or receivers a rule means; what is empty fits all. A text that ends in `*` fits what begins like it."""

    kind: Annotated[Literal["agent", "task", "operator"] | None, BeforeValidator(_lower)] = None
    id: str = ""
    """An agent's id, or a task's."""
    labels: dict[str, str] = {}


class MessageRule(Block):
    """Who may write to whom: it fits a message if everything that it names fits."""

    name: Annotated[str, Field(max_length=200)] = ""
    """What senders are told who are refused, and what is in the event log."""
    effect: Annotated[Literal["allow", "deny"], BeforeValidator(_lower)]
    sender: Party = Party()
    receiver: Party = Party()
    relations: tuple[Literal["itself", "parent", "child", "sibling", "stranger"], ...] = ()
    """What the sender is to the receiver, any of these."""
    types: tuple[str, ...] = ()
    """Types of messages, any of these."""


class Policy(Block):
    """What agents may do to each other."""

    messages: Annotated[tuple[MessageRule, ...], Field(max_length=1000)] = ()
    """In order: the first rule that fits decides, then the default rules."""
    otherwise: Annotated[Literal["allow", "deny"], BeforeValidator(_lower)] = "allow"
    """What happens to messages no rule fits."""


class Provider(Block):
    """The model provider behind the gateway. The key is in a file of yours (0600) or in ANTHROPIC_API_KEY, never in here."""

    base_url: Annotated[str, Field(pattern=r"^https?://[^\s]+$")] = "https://api.anthropic.com"
    api_key_file: str = ""
    prices_file: str = ""
    """What models cost; its entries go before the built-in ones. Empty: `config/prices.yaml` of the home, if it is there."""
    starts_after_limit: Count = 1
    """Tasks that start in the first second after a rate limit of the provider is over; twice as many in each further second."""


def _listen_address(text: str) -> str:
    """Return `HOST:PORT`, or nothing.

    Raises:
        InvalidArgumentError: It is neither.
    """
    host, _, port = text.rpartition(":")
    if text and (not host.strip("[]") or not port.isdecimal() or not 0 < int(port) < 1 << 16 or host.strip() != host):
        raise InvalidArgumentError("An address to listen on is written like 0.0.0.0:7443 or [::1]:7443.")
    return text


Address = Annotated[str, _written(_listen_address)]


class Listen(Block):
    """What the control plane serves on a network, besides its Unix socket; each is off while it is empty."""

    sidecars: Address = ""
    """Mutual TLS, for sidecars of other machines; by custom port 7443."""
    clients: Address = ""
    """TLS of the server and tokens, for people and programs; by custom port 7444."""
    probe: Address = ""
    """In the clear and nothing but gRPC health, for probes that have no certificate."""
    names: tuple[str, ...] = ()
    """Further names and addresses of this machine that its certificate shall be good for."""


class Isolation(Block):
    """How agents are kept apart on this host."""

    uid_range: Annotated[str, _written(parse_uid_range)] = "61200-61999"


class Telemetry(Block):
    """What is told about the set to programs that watch it. Traces follow the OTEL_* variables."""

    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Port on 127.0.0.1 where Prometheus reads `/metrics`; 0: none. 7444 is customary."""


class Document(Block):
    """A whole settings file."""

    num_agents: Annotated[int, Field(ge=0, le=256)] = 4
    log_level: LogLevel = "info"
    store: Annotated[str, BeforeValidator(_store)] = "sqlite"
    """`sqlite`, `memory`, or the URL of a Redis server: `redis://`, `rediss://`, `unix://`."""
    grpc_server: Annotated[Literal["native", "grpcio"], BeforeValidator(_lower)] = "native"
    """What the control plane serves gRPC with: Conductor's own server, which needs less processor time a message, or grpcio's."""
    lease_seconds: Seconds = "15"
    toolchains: tuple[str, ...] = ()
    """Folders agents may read, shown at their own path."""
    claude_binary: str = ""
    """Path of Claude Code; empty: `claude` on PATH."""
    container_config: ContainerConfig = ContainerConfig()
    storage: Storage = Storage()
    agent: AgentBlock = AgentBlock()
    agents: tuple[NamedAgent, ...] = ()
    limits: Limits = Limits()
    streams: Streams = Streams()
    policy: Policy = Policy()
    tasks: Tasks = Tasks()
    provider: Provider = Provider()
    isolation: Isolation = Isolation()
    listen: Listen = Listen()
    telemetry: Telemetry = Telemetry()


def keys(block: type[BaseModel] = Document, prefix: str = "") -> dict[str, type[BaseModel] | None]:
    """Return every dotted key, blocks (with their class) before what is in them; `agents` stands for its list."""
    found: dict[str, type[BaseModel] | None] = {}
    for name, field in block.model_fields.items():
        kind = field.annotation
        inner = kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None
        found[prefix + name] = inner
        if inner is not None:
            found |= keys(inner, f"{prefix}{name}.")
    return found
