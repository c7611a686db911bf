"""What is exported and imported again means the same."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from claude_conductor.settings import yaml_file
from claude_conductor.settings.load import Sources, load

sizes = st.builds("{}{}".format, st.integers(1, 4096), st.sampled_from(["", "k", "m", "g"]))
cpus = st.sampled_from(["0.5", 1, 2.25, "16"])
durations = st.builds("{}{}".format, st.integers(1, 600), st.sampled_from(["", "s", "m", "h"]))
texts = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=20)
labels = st.dictionaries(texts, texts, max_size=3)


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Any part of a block."""
    return st.fixed_dictionaries({}, optional=fields)


agents = st.lists(
    st.fixed_dictionaries(
        {"id": st.from_regex(r"[a-z]{2,9}", fullmatch=True)},
        optional={
            "driver": st.sampled_from(["command", "claude-code", "scripted"]),
            "environment": labels,
            "labels": labels,
            "level": st.sampled_from(["strict", "Moderate", "minimal"]),
            "memory": sizes,
            "cpus": cpus,
            "toolchains": st.lists(texts, max_size=2),
        },
    ),
    max_size=3,
    unique_by=lambda agent: agent["id"],
)
documents = some(
    num_agents=st.integers(1, 256),
    log_level=st.sampled_from(["debug", "INFO"]),
    store=st.sampled_from(["sqlite", "memory"]),
    lease_seconds=durations,
    claude_binary=texts,
    container_config=some(memory_limit=sizes, cpu_limit=cpus, enable_networking=st.booleans(), workspace_mount=st.booleans()),
    storage=some(workspace_path=texts, temp_path=texts, agent_isolation=st.booleans()),
    agent=some(container_memory=sizes, startup_timeout=durations, pids=st.integers(1, 9999), labels=labels),
    agents=agents,
    limits=some(
        payload_bytes=st.sampled_from(["1k", "3m", "64"]),
        mailbox_bytes=sizes,
        hops=st.integers(1, 255),
        message_seconds=durations,
    ),
    policy=some(
        otherwise=st.sampled_from(["allow", "Deny"]),
        messages=st.lists(
            st.fixed_dictionaries(
                {"effect": st.sampled_from(["allow", "deny"])},
                optional={"name": texts, "sender": some(labels=labels, id=texts), "types": st.lists(texts, max_size=2)},
            ),
            max_size=3,
        ),
    ),
    tasks=some(timeout=durations, keep_days=st.floats(1, 99), default_driver=st.just("claude-code")),
    toolchains=st.lists(texts, max_size=3),
    isolation=st.just({"uid_range": "61200-61999"}),
)


@given(documents)
def test_an_export_is_imported_with_the_same_values_and_exported_the_same(values: dict[str, Any]):
    first = load(Sources(file=yaml_file.parse(yaml_file.dump(values).encode(), "first")))
    text = yaml_file.dump(first.written())
    second = load(Sources(file=yaml_file.parse(text.encode(), "second")))

    assert second.document == first.document
    assert yaml_file.dump(second.written()) == text
    assert set(first.written()) == set(values)
