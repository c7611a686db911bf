"""Each key of the settings files changes what a program gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_sidecar.settings import Settings as SidecarSettings
from claude_conductor.errors import SettingsError
from claude_conductor.settings import yaml_file
from claude_conductor.settings.handover import from_plain
from claude_conductor.settings.home import Home
from claude_conductor.settings.load import Sources, load
from claude_conductor.settings.resolve import Resolved, resolve
from claude_conductor.settings.schema import keys
from controlplane.domain.policy import Effect, Kind, Pattern, Policy, Relation, Rule
from controlplane.settings import Listen
from controlplane.settings import Settings as ControlPlaneSettings

HOME = Home(Path("/c"))
VARIABLES = {"HOME": "/home/me", "PROJECT": "/srv/project"}
ROOT = Path(__file__).resolve().parents[3]

STANDALONE = """
container_config:
  memory_limit: "1g"
  cpu_limit: "0.5"
  enable_networking: false  # ネットワーク隔離
  workspace_mount: true

storage:
  workspace_path: "~/.claude-conductor/workspace"
  temp_path: "/tmp/claude-conductor"
  agent_isolation: true  # エージェント間の隔離を有効化
"""
PRODUCTION = """
agent:
  container_memory: "2g"
  container_cpu: "1.0"
  workspace_isolation: strict  # strict/moderate/minimal
  health_check_interval: 30
  startup_timeout: 60
"""


def resolved(text: str, environment: dict[str, str] | None = None) -> Resolved:
    variables = environment or {}
    loaded = load(Sources(file=yaml_file.parse(text.encode(), "x.yaml"), environment=variables))
    return resolve(loaded, HOME, {**VARIABLES, **variables})


def first(text: str, environment: dict[str, str] | None = None) -> dict[str, object]:
    return dict(resolved(text, environment).sidecars[0])


def refusal(text: str) -> SettingsError:
    with pytest.raises(SettingsError) as problem:
        resolved(text)
    return problem.value


def test_the_standalone_file_of_the_description_resolves_as_written():
    sidecar = from_plain(SidecarSettings, first(STANDALONE))

    assert sidecar.limits.memory_bytes == 1 << 30
    assert sidecar.limits.cpus == 0.5
    assert not sidecar.allow
    assert sidecar.workspace_mount
    assert sidecar.workspace_path == Path("/c/workspace")
    assert sidecar.temp_path == Path("/tmp/claude-conductor")
    assert sidecar.agent_isolation


def test_the_production_file_of_the_description_resolves_as_written():
    sidecar = from_plain(SidecarSettings, first(PRODUCTION))

    assert sidecar.limits.memory_bytes == 2 << 30
    assert sidecar.limits.cpus == 1.0
    assert sidecar.level.value == "strict"
    assert (sidecar.health_check_interval, sidecar.startup_timeout) == (30.0, 60.0)


@pytest.mark.parametrize(("name", "block"), [("standalone.yaml", STANDALONE), ("config.yaml", PRODUCTION)])
def test_the_files_of_the_repository_hold_what_the_description_writes(name: str, block: str):
    ours = yaml_file.read(ROOT / "config" / name).values
    theirs = yaml_file.parse(block.encode(), name).values

    for section, values in theirs.items():
        assert {key: ours[section][key] for key in values} == values
    assert not load(Sources(file=yaml_file.read(ROOT / "config" / name))).warnings


def test_the_standalone_file_of_the_repository_shows_every_key_with_its_default():
    shown = load(Sources(file=yaml_file.read(ROOT / "config/standalone.yaml")))
    only_the_block = load(Sources(file=yaml_file.parse(STANDALONE.encode(), "x.yaml")))
    # The two words for the same limit are not both shown.
    assert {key for key in keys() if not shown.origin(key).rank} == {"agent.container_memory", "agent.container_cpu"}

    def meaning(loaded: object) -> Resolved:
        return resolve(loaded, HOME, VARIABLES)  # type: ignore[arg-type]

    assert meaning(shown) == meaning(only_the_block)


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("container_config: {memory_limit: 512m}", "limits.memory_bytes", 512 << 20),
        ("container_config: {cpu_limit: 2}", "limits.cpus", 2.0),
        ("container_config: {workspace_mount: false}", "workspace_mount", False),
        (
            "container_config: {enable_networking: true}\nagent: {workspace_isolation: minimal}",
            "allow",
            ["pypi", "npm", "github"],
        ),
        ("storage: {workspace_path: ~/work}", "workspace_path", "/home/me/work"),
        ("storage: {workspace_path: $PROJECT/w}", "workspace_path", "/srv/project/w"),
        ("storage: {temp_path: /var/tmp/x}", "temp_path", "/var/tmp/x"),
        ("storage: {agent_isolation: false}\nagent: {workspace_isolation: minimal}", "agent_isolation", False),
        ("agent: {container_memory: 3g}", "limits.memory_bytes", 3 << 30),
        ("agent: {container_cpu: 1.5}", "limits.cpus", 1.5),
        ("agent: {workspace_isolation: Minimal}", "level", "minimal"),
        ("agent: {health_check_interval: 5s}", "health_check_interval", 5.0),
        ("agent: {startup_timeout: 2m}", "startup_timeout", 120.0),
        ("agent: {stop_grace: 0}", "stop_grace", 0.0),
        ("agent: {workspace_size: 7g}", "limits.workspace_bytes", 7 << 30),
        ("agent: {temp_size: 64m}", "limits.tmp_bytes", 64 << 20),
        ("agent: {pids: 99}", "limits.pids", 99),
        ("agent: {open_files: 77}", "limits.open_files", 77),
        ("agent: {keep_workspaces: true}", "keep_workspaces", True),
        ("agent: {keep_workspaces_for: 2h}", "keep_workspaces_for", 7200.0),
        ("storage: {setup_cache_size: 1g}", "setup_cache_bytes", 1 << 30),
        ("agent: {mcp_tools: false}", "mcp_tools", False),
        ("agent: {drivers: [claude-code]}", "drivers", ["claude_code"]),
        ("agent: {labels: {gpu: none}}", "labels", {"gpu": "none"}),
        ("streams: {journal_bytes: 2m}", "journal_bytes", 2 << 20),
        ("streams: {inbox_messages: 7}", "inbox_messages", 7),
        ("streams: {inbox_bytes: 2m}", "inbox_bytes", 2 << 20),
        ("toolchains: [~/tools]", "agent_toolchains", ["/home/me/tools"]),
        ("provider: {base_url: 'http://127.0.0.1:9'}", "provider.base_url", "http://127.0.0.1:9"),
        ("claude_binary: ~/bin/claude", "claude_binary", "/home/me/bin/claude"),
        ("isolation: {uid_range: 61300-61310}", "uid_first", 61300),
        ("isolation: {uid_range: 61300-61310}", "uid_last", 61310),
        ("log_level: DEBUG", "log_level", "debug"),
        ("agents: [{id: x, level: moderate}]\nnum_agents: 0", "level", "moderate"),
        ("agents: [{id: x, memory: 9g}]\nnum_agents: 0", "limits.memory_bytes", 9 << 30),
        ("agents: [{id: x, cpus: 3}]\nnum_agents: 0", "limits.cpus", 3.0),
        ("agents: [{id: x, driver: claude-code}]\nnum_agents: 0", "drivers", ["claude_code"]),
        (
            "agents: [{id: x, driver: grpc_agent, command: [py, $PROJECT]}]\nnum_agents: 0",
            "agent_command",
            ["py", "/srv/project"],
        ),
        ("agents: [{id: x, environment: {A: b}}]\nnum_agents: 0", "agent_environment", {"A": "b"}),
        ("agents: [{id: x, labels: {a: b}}]\nnum_agents: 0\nagent: {labels: {c: d}}", "labels", {"a": "b", "c": "d"}),
        ("agents: [{id: x, toolchains: [/b]}]\nnum_agents: 0\ntoolchains: [/a]", "agent_toolchains", ["/a", "/b"]),
    ],
)
def test_a_key_changes_what_a_sidecar_gets(text: str, field: str, value: object):
    before, after = first(""), first(text)
    name, _, inner = field.partition(".")

    def pick(plain: dict[str, object]) -> object:
        found = plain.get(name)
        return found[inner] if inner else found  # type: ignore[index]

    assert pick(after) == value
    assert pick(before) != value
    from_plain(SidecarSettings, after)


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("store: memory", "store", "memory"),
        ("store: redis://me@host/1", "store", "redis://me@host/1"),
        ("grpc_server: GRPCIO", "grpc_server", "grpcio"),
        ("lease_seconds: 30", "lease_seconds", 30.0),
        ("lease_seconds: 30", "heartbeat_seconds", 10.0),
        ("log_level: warning", "log_level", "warning"),
        ("tasks: {default_driver: claude-code}", "default_driver", "claude_code"),
        ("tasks: {timeout: 2h}", "task_timeout", 7200.0),
        ("tasks: {max_attempts: 9}", "max_attempts", 9),
        ("tasks: {retry_delay: 3s}", "retry_delay", 3.0),
        ("tasks: {keep_days: 2}", "keep_tasks_days", 2.0),
        ("tasks: {concurrency: {tenants: {default: 2}}}", "caps.tenants", {"default": 2}),
        ("tasks: {concurrency: {types: {'*': 3}}}", "caps.types", {"*": 3}),
        ("tasks: {concurrency: {labels: {'repo=*': 1}}}", "caps.labels", {"repo=*": 1}),
        ("limits: {payload_bytes: 2k}", "limits.payload_bytes", 2048),
        ("limits: {mailbox_messages: 3}", "limits.mailbox_messages", 3),
        ("limits: {mailbox_bytes: 1m}", "limits.mailbox_bytes", 1 << 20),
        ("limits: {hops: 2}", "limits.hops", 2),
        ("limits: {message_attempts: 2}", "limits.message_attempts", 2),
        ("limits: {message_seconds: 1h}", "limits.message_seconds", 3600.0),
        ("limits: {kept_messages: 7}", "limits.kept_messages", 7),
        ("limits: {kept_seconds: 1h}", "limits.kept_seconds", 3600.0),
        ("limits: {kept_bytes: 2k}", "limits.kept_bytes", 2048),
        ("limits: {messages_a_second: 7}", "limits.messages_a_second", 7.0),
        ("limits: {messages_at_once: 7}", "limits.messages_at_once", 7),
        ("streams: {queue_bytes: 2k}", "streams.queue_bytes", 2048),
        ("streams: {ahead_messages: 7}", "streams.ahead_messages", 7),
        ("streams: {ahead_bytes: 2k}", "streams.ahead_bytes", 2048),
        ("policy: {otherwise: Deny}", "policy.otherwise", "deny"),
        ("limits: {prompt_bytes: 1k}", "limits.prompt_bytes", 1024),
        ("limits: {output_bytes: 1m}", "limits.output_bytes", 1 << 20),
    ],
)
def test_a_key_changes_what_the_control_plane_gets(text: str, field: str, value: object):
    name, _, inner = field.partition(".")
    plain = resolved(text).control_plane

    assert (plain[name][inner] if inner else plain[name]) == value
    assert from_plain(ControlPlaneSettings, plain) != from_plain(ControlPlaneSettings, resolved("").control_plane)


def test_a_rule_arrives_as_it_was_written():
    rule = "{name: n, effect: deny, sender: {kind: task}, receiver: {labels: {a: b}}, relations: [sibling], types: [t]}"

    settings = from_plain(ControlPlaneSettings, resolved(f"policy: {{messages: [{rule}]}}").control_plane)

    expected = Rule("n", Effect.DENY, Pattern(Kind.TASK), Pattern(labels={"a": "b"}), (Relation.SIBLING,), ("t",))
    assert settings.policy == Policy((expected,))


def test_the_defaults_of_the_programs_are_the_defaults_of_the_files():
    plain = resolved("").control_plane

    assert from_plain(ControlPlaneSettings, plain) == ControlPlaneSettings(home=HOME.path)


def test_num_agents_are_numbered_and_named_slots_come_on_top():
    names = [sidecar["agent_id"] for sidecar in resolved("num_agents: 2\nagents: [{id: extra}]").sidecars]

    assert names == ["agent-1", "agent-2", "extra"]


def test_the_word_set_nearer_to_the_command_line_wins_between_two_words_for_one_limit():
    both = {"CONDUCTOR_CONTAINER_CONFIG__MEMORY_LIMIT": "5g"}

    assert first("agent: {container_memory: 2g}", both)["limits"]["memory_bytes"] == 5 << 30  # type: ignore[index]
    assert first("container_config: {memory_limit: 2g}\nagent: {container_memory: 2048m}")["limits"]["memory_bytes"] == 2 << 30  # type: ignore[index]
    said = refusal("container_config: {memory_limit: 2g}\nagent: {container_memory: 3g}")
    assert "x.yaml:1" in str(said)
    assert "x.yaml:2" in str(said)


def test_networking_is_refused_with_strict():
    said = refusal("container_config: {enable_networking: true}")

    assert "x.yaml:1" in str(said)
    assert "reach nothing unless their task asks" in str(said)
    assert "--allow" in said.next_step
    assert refusal(
        "container_config: {enable_networking: true}\nagent: {workspace_isolation: minimal}\nagents: [{id: x, level: strict}]"
    )


def test_with_networking_agents_reach_the_hosts_on_the_list():
    moderate = "agent: {workspace_isolation: moderate}\ncontainer_config: {enable_networking: "
    assert first(moderate + "true}")["allow"] == ["pypi", "npm", "github"]
    assert first(moderate + "true, allowed_hosts: [example.com, '*.example.org:8443']}")["allow"] == [
        "example.com",
        "*.example.org:8443",
    ]
    assert first(moderate + "false, allowed_hosts: [example.com]}")["allow"] == []


def test_an_allowed_host_that_is_none_is_refused_with_its_place():
    said = refusal("container_config:\n  allowed_hosts: [http://example.com]")
    assert "x.yaml:2" in str(said)
    assert "example.com" in said.next_step


def test_shared_workspaces_are_refused_unless_the_level_is_minimal():
    for level in ("strict", "moderate"):
        said = refusal(f"storage: {{agent_isolation: false}}\nagent: {{workspace_isolation: {level}}}")
        assert "minimal" in said.next_step


@pytest.mark.parametrize("text", ["storage: {workspace_path: work}", "storage: {temp_path: $NOWHERE/x}", "toolchains: [lib]"])
def test_a_path_that_is_not_absolute_or_uses_an_unset_variable_is_refused(text: str):
    assert text.split(":", maxsplit=1)[0] in str(refusal(text))


def test_the_key_of_the_provider_comes_from_a_private_file_or_from_the_environment(tmp_path: Path):
    file = tmp_path / "key"
    file.write_text("from the file\n")
    file.chmod(0o600)

    assert first("", {"ANTHROPIC_API_KEY": "from outside"})["provider"]["api_key"] == "from outside"  # type: ignore[index]
    named = f"provider: {{api_key_file: {file}}}"
    assert first(named, {"ANTHROPIC_API_KEY": "from outside"})["provider"]["api_key"] == "from the file"  # type: ignore[index]
    file.chmod(0o640)
    said = refusal(named)
    assert "chmod 600" in said.next_step
    assert "from the file" not in str(said)
    file.unlink()
    assert "cannot be read" in str(refusal(named))


def test_a_network_is_listened_to_only_where_it_is_said():
    assert from_plain(ControlPlaneSettings, resolved("{}").control_plane).listen == Listen()
    assert not Listen(probe="0.0.0.0:1").secured
    text = "listen: {sidecars: '0.0.0.0:7443', clients: 'conductor.example:7444', names: [gate.example]}"
    listen = from_plain(ControlPlaneSettings, resolved(text).control_plane).listen
    assert listen.secured
    assert listen.hosts == ("conductor.example", "gate.example", "localhost")


@pytest.mark.parametrize("address", ["7443", ":7443", "host", "host:0", "host:70000", " host:1"])
def test_an_address_that_is_none_is_refused(address: str):
    assert "listen.sidecars" in str(refusal(f"listen: {{sidecars: '{address}'}}"))
