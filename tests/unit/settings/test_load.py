"""Which value wins, where it comes from, and what is said about a bad one."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_conductor.errors import SettingsError
from claude_conductor.settings import retired, yaml_file
from claude_conductor.settings.load import Loaded, Sources, load, read_file
from claude_conductor.settings.schema import keys


def loaded(text: str = "", **more: object) -> Loaded:
    return load(Sources(file=yaml_file.parse(text.encode(), "/etc/conductor.yaml"), **more))


def complaint(text: str, **more: object) -> str:
    with pytest.raises(SettingsError) as problem:
        loaded(text, **more)
    return str(problem.value)


def test_without_any_source_the_standalone_defaults_hold():
    document = loaded().document

    assert document.num_agents == 4
    assert document.container_config.memory_limit == "1g"
    assert document.container_config.cpu_limit == "0.5"
    assert document.agent.workspace_isolation == "strict"
    assert loaded().origins == {}


def test_a_flag_wins_over_a_variable_over_a_context_over_the_file():
    sources = {
        "flags": {"num_agents": (5, "--agents")},
        "environment": {"CONDUCTOR_NUM_AGENTS": "4"},
        "context": {"num_agents": 3},
        "context_name": "work",
    }
    seen = []
    for dropped in (None, "flags", "environment", "context"):
        if dropped:
            del sources[dropped]
        found = loaded("num_agents: 2", **sources)
        seen.append((found.document.num_agents, str(found.origin("num_agents"))))

    assert seen == [
        (5, "flag --agents"),
        (4, "environment CONDUCTOR_NUM_AGENTS"),
        (3, "context work"),
        (2, "file /etc/conductor.yaml:1"),
    ]
    assert str(loaded().origin("num_agents")) == "default"


def test_a_block_is_merged_key_by_key_and_each_keeps_its_origin():
    found = loaded(
        "agent:\n  container_memory: 2g\n  container_cpu: 1.0\n", environment={"CONDUCTOR_AGENT__CONTAINER_CPU": "0.25"}
    )

    assert (found.document.agent.container_memory, found.document.agent.container_cpu) == ("2g", "0.25")
    assert str(found.origin("agent.container_memory")) == "file /etc/conductor.yaml:2"
    assert str(found.origin("agent.container_cpu")) == "environment CONDUCTOR_AGENT__CONTAINER_CPU"


def test_a_list_is_replaced_as_a_whole():
    found = loaded("agents:\n- id: one\n- id: two\n", environment={"CONDUCTOR_AGENTS": '[{"id": "three"}]'})

    assert [agent.id for agent in found.document.agents] == ["three"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("container_config:\n  memory_limt: 1g\n", ["container_config.memory_limt", ":2", "`container_config.memory_limit`"]),
        ("memory_limit: 1g\n", ["memory_limit", ":1", "`container_config.memory_limit`"]),
        ("\n\nnum_agent: 3\n", ["num_agent", ":3", "`num_agents`"]),
        ("agents:\n- id: a\n  lables: {x: y}\n", ["agents[0].lables", ":3", "`agents[0].labels`"]),
        (
            "policy:\n  messages:\n  - effect: deny\n    receiver: {lables: {}}\n",
            ["policy.messages[0].receiver.lables", ":4", "`policy.messages[0].receiver.labels`"],
        ),
        ("provider:\n  api_key: sk-secret\n", ["provider.api_key", ":2", "`provider.api_key_file`"]),
    ],
)
def test_an_unknown_key_is_named_with_file_line_and_nearest_key(text: str, words: list[str]):
    said = complaint(text)

    assert "unknown key" in said
    assert "/etc/conductor.yaml" in said
    assert "sk-secret" not in said
    for word in words:
        assert word in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("container_config:\n  memory_limit: lots\n", ["container_config.memory_limit", ":2", "a size is a number", "`lots`"]),
        ("container_config:\n  memory_limit: 0\n", ["container_config.memory_limit", "above 0"]),
        ("container_config:\n  cpu_limit: -1\n", ["container_config.cpu_limit", ":2", "above 0"]),
        ("container_config:\n  cpu_limit: true\n", ["container_config.cpu_limit", "a number or a text"]),
        ("container_config:\n  enable_networking: maybe\n", ["container_config.enable_networking", "boolean", "`maybe`"]),
        ("agent:\n  workspace_isolation: paranoid\n", ["agent.workspace_isolation", ":2", "'strict'", "`paranoid`"]),
        ("agent:\n  startup_timeout: 0\n", ["agent.startup_timeout", "above 0"]),
        ("agent:\n  health_check_interval: soon\n", ["agent.health_check_interval", "90s", "`soon`"]),
        ("agent:\n  pids: 0\n", ["agent.pids", "greater than or equal to 1"]),
        ("agent: 3\n", ["`agent`", ":1", "a block of keys"]),
        ("agent:\n  drivers: [commnd]\n", ["agent.drivers[0]", "claude_code"]),
        ("num_agents: many\n", ["num_agents", "integer", "`many`"]),
        ("num_agents: 1000\n", ["num_agents", "256"]),
        ("num_agents: 0\n", ["num_agents", "at least one agent"]),
        ("store: redis\n", ["store", "'sqlite'", "`redis`"]),
        ("store: redis://user:hunter2@host\n", ["store", "password_file", "`redis://user:***@host`"]),
        ("store: http://host\n", ["store", "redis://host:6379/0", "`http://host`"]),
        ("log_level: loud\n", ["log_level", "`loud`"]),
        ("isolation:\n  uid_range: 0-100\n", ["isolation.uid_range", "61200-61999"]),
        ("provider:\n  base_url: nowhere\n", ["provider.base_url", "`nowhere`"]),
        ("agents:\n- id: Not Good\n", ["agents[0].id", ":2", "1 to 63 characters"]),
        ("agents:\n- driver: command\n", ["agents[0].id", "required"]),
        ("agents:\n- id: broadcast\n", ["agents[0].id", ":2", "somebody else"]),
        ("agents:\n- id: one\n- id: one\n", ["agents[1].id", ":3", "another agent"]),
        ("agents:\n- id: agent-1\n", ["agents[0].id", ":2", "another agent"]),
        ("agents:\n- id: talker\n  driver: grpc-agent\n", ["agents[0]", "a `command`"]),
        ("limits:\n  payload_bytes: 4m\n", ["limits.payload_bytes", ":2", "at most 3m", "artefacts"]),
        ("streams:\n  queue_bytes: 0\n", ["streams.queue_bytes", ":2", "above 0"]),
        ("policy:\n  messages:\n  - effect: maybe\n", ["policy.messages[0].effect", ":3", "'deny'", "`maybe`"]),
        ("policy:\n  messages:\n  - name: x\n", ["policy.messages[0].effect", ":3", "required"]),
        (
            "policy:\n  messages:\n  - effect: deny\n    relations: [cousin]\n",
            ["policy.messages[0].relations[0]", ":4", "'sibling'", "`cousin`"],
        ),
        (
            "policy:\n  messages:\n  - effect: deny\n    sender: {kind: ghost}\n",
            ["policy.messages[0].sender.kind", ":4", "'task'"],
        ),
        ("tasks:\n  concurrency:\n    types: {refactor: 0}\n", ["tasks.concurrency.types.refactor", ":3", "greater"]),
        ("tasks:\n  concurrency:\n    labels: {repo: 1}\n", ["tasks.concurrency.labels", ":3", "repo"]),
        ("num_agents: [1\nstore: memory", ["no YAML", "line=2"]),
        ("num_agents: 1\nnum_agents: 2\n", ["twice", "line 1", "line=2"]),
        ("? [a, b]\n: 1\n", ["a key has to be a word", "line=1"]),
        ("- 1\n- 2\n", ["keys with values"]),
        ("\tnum_agents: 1", ["no YAML", "line=1"]),
        ("a: &x [*x]\n", ["no YAML"]),
    ],
)
def test_a_value_that_cannot_be_used_is_named_with_its_key_and_line(text: str, words: list[str]):
    said = complaint(text)

    assert "/etc/conductor.yaml" in said
    for word in words:
        assert word.lower() in said.lower(), said


def test_everything_that_is_wrong_is_said_at_once():
    said = complaint("num_agents: many\nstore: redis\nfoo: 1\n")

    assert "3 things are wrong" in said
    assert all(word in said for word in ("num_agents", "store", "foo"))


def test_a_bad_variable_is_named():
    assert "CONDUCTOR_NUM_AGENTS" in complaint("", environment={"CONDUCTOR_NUM_AGENTS": "x"})
    assert "agents" in complaint("", environment={"CONDUCTOR_AGENTS": "no json"})


def test_a_variable_that_is_no_setting_is_warned_about_with_the_nearest_one():
    [warning] = loaded("", environment={"CONDUCTOR_NUM_AGENT": "3", "CONDUCTOR_HOME": "/h", "PATH": "/bin"}).warnings

    assert "CONDUCTOR_NUM_AGENT " in warning
    assert "CONDUCTOR_NUM_AGENTS" in warning


def test_keys_of_the_older_files_are_accepted_with_a_warning_that_names_the_successor():
    text = """
num_agents: 2
max_workers: 4
task_timeout: 120
agent_config: {startup_delay: 5, max_memory_usage: "1g"}
container_config: {image: "ubuntu:22.04", memory_limit: "2g"}
network: {dashboard_port: 8080}
features: {redis_enabled: false}
performance: {thread_pool_size: 4, cache_ttl: 300}
security: {enable_authentication: false}
task_execution: {max_retries: 2}
orchestrator: {num_agents: 3}
"""
    found = loaded(text)

    assert found.document.num_agents == 2
    assert found.document.container_config.memory_limit == "2g"
    said = "\n".join(found.warnings)
    for old, successor in {
        "max_workers": "num_agents",
        "task_timeout": "tasks.timeout",
        "agent_config.max_memory_usage": "agent.container_memory",
        "container_config.image": "toolchains",
        "network": "Unix socket",
        "features.redis_enabled": "store",
        "performance.cache_ttl": "limits",
        "security.enable_authentication": "authenticated",
        "task_execution.max_retries": "tasks.max_attempts",
        "orchestrator.num_agents": "num_agents",
    }.items():
        [line] = [line for line in found.warnings if f"`{old}`" in line]
        assert successor in line
        assert "/etc/conductor.yaml:" in line
    assert "memory_limit" not in said


def test_no_key_that_acts_counts_as_retired():
    assert not {key for key in keys() if retired.successor(key)}


def test_every_successor_that_is_a_key_exists():
    known = set(keys())
    for old, successor in retired.SUCCESSORS.items():
        words = [word.strip(",.;:()") for word in successor.split()]
        for word in words:
            if "." in word and word.split(".")[0] in known and not word.endswith(".sock"):
                assert word in known, (old, word)


def test_a_missing_file_is_an_error_only_if_it_was_asked_for(tmp_path: Path):
    assert read_file(tmp_path / "none.yaml", required=False) is None
    with pytest.raises(SettingsError) as problem:
        read_file(tmp_path / "none.yaml", required=True)
    assert "none.yaml" in str(problem.value)


def test_a_file_that_is_no_text_or_too_large_is_refused(tmp_path: Path):
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "large.yaml").write_bytes(b"#" * (yaml_file.LARGEST + 1))

    for name in ("binary.yaml", "large.yaml"):
        with pytest.raises(SettingsError):
            yaml_file.read(tmp_path / name)
