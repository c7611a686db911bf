"""What `conductor doctor` is told about a host."""

from agent_sidecar.isolation.doctor import report
from agent_sidecar.isolation.interface import Capabilities, Mechanism, Strength
from agent_sidecar.isolation.level import EVERY
from agent_sidecar.isolation.plan import HostFacts

EVERYTHING = tuple(Mechanism(name, Strength.YES) for name in EVERY)


def missing(found: tuple[Mechanism, ...], level: str) -> list[str]:
    levels = report(Capabilities("process", found), HostFacts(root=True, agent_uid=61200))["levels"]
    return [entry["name"] for entry in levels[level]["missing"]]


def test_a_host_with_everything_can_isolate_at_every_level():
    assert [missing(EVERYTHING, level) for level in ("strict", "moderate", "minimal")] == [[], [], []]


def test_a_host_without_memory_groups_lacks_them_at_strict_only():
    found = tuple(m for m in EVERYTHING if m.name != "cgroup.memory")

    assert missing(found, "strict") == ["cgroup.memory"]
    assert missing(found, "moderate") == []


def test_a_workspace_cap_is_not_part_of_an_ordinary_task():
    found = tuple(m for m in EVERYTHING if m.name != "disk")

    assert missing(found, "strict") == []


def test_what_a_possible_level_lacks_is_told_as_weaker_and_not_as_in_force():
    found = tuple(m for m in EVERYTHING if m.name != "cgroup.memory")
    levels = report(Capabilities("process", found), HostFacts(root=True, agent_uid=61200))["levels"]

    assert [each.split(":")[0] for each in levels["moderate"]["weaker"]] == ["cgroup.memory"]
    assert "cgroup.memory" not in levels["moderate"]["in_force"]
    assert levels["strict"]["in_force"] == levels["strict"]["weaker"] == []
