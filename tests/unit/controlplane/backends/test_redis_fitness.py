"""A server that would lose what was acknowledged is refused, with the reason and what to do; what remains at risk is said."""

from __future__ import annotations

import pytest

from claude_conductor.errors import SettingsError
from controlplane.backends.redis.address import parse
from controlplane.backends.redis.fitness import Verdict, judge, refuse

GOOD = {
    "redis_version": "7.0.15",
    "redis_mode": "standalone",
    "role": "master",
    "maxmemory_policy": "noeviction",
    "maxmemory": "1000000000",
    "used_memory": "1000000",
    "total_system_memory": "8000000000",
    "aof_enabled": "1",
    "aof_last_write_status": "ok",
    "connected_slaves": "1",
}
HERE = parse("unix:///run/redis.sock")


def verdicts(**changes: str) -> dict[str, Verdict]:
    return {finding.name: finding.verdict for finding in judge({**GOOD, **changes}, {"appendfsync": "always"}, HERE)}


def test_a_good_server_is_not_refused_and_only_the_delay_of_its_replicas_is_a_risk() -> None:
    assert {name for name, verdict in verdicts().items() if verdict is not Verdict.GOOD} == {"replicas"}
    refuse(judge(GOOD, {"appendfsync": "always"}, HERE), HERE)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("version", {"redis_version": "6.2.14"}, ["6.2.14 is too old", "7.0 or newer"]),
        ("version", {"redis_version": ""}, ["unknown is too old"]),
        ("role", {"role": "slave", "master_host": "10.0.0.1", "master_port": "6379"}, ["replica", "10.0.0.1:6379"]),
        ("role", {"redis_mode": "cluster"}, ["Cluster", "single server"]),
        ("role", {"redis_mode": "sentinel"}, ["Sentinel", "master"]),
        ("eviction", {"maxmemory_policy": "allkeys-lfu"}, ["allkeys-lfu", "noeviction"]),
        ("persistence", {"aof_enabled": "0"}, ["append-only", "appendonly yes"]),
        ("persistence", {"aof_last_write_status": "err"}, ["cannot write", "free space"]),
    ],
)
def test_an_unfit_server_is_refused_with_reason_and_remedy(name: str, changes: dict[str, str], words: list[str]) -> None:
    assert verdicts(**changes)[name] is Verdict.UNFIT
    with pytest.raises(SettingsError) as refusal:
        refuse(judge({**GOOD, **changes}, {}, HERE), HERE)
    said = f"{refusal.value} {refusal.value.next_step}"
    assert all(word in said for word in words), said


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("replicas", {"connected_slaves": "0"}),
        ("memory", {"used_memory": "900000000"}),
        ("memory", {"maxmemory": "0"}),
    ],
)
def test_what_can_be_lost_is_said_and_not_refused(name: str, changes: dict[str, str]) -> None:
    assert verdicts(**changes)[name] is Verdict.RISK


@pytest.mark.parametrize(
    ("sync", "accepted", "verdict", "words"),
    [
        ("always", "always", Verdict.GOOD, "always"),
        ("always", "everysec", Verdict.GOOD, "always"),
        ("everysec", "everysec", Verdict.RISK, "the last 2 s are lost"),
        ("everysec", "always", Verdict.UNFIT, "not on disk yet"),
        ("no", "everysec", Verdict.UNFIT, "not on disk yet"),
        (None, "everysec", Verdict.UNFIT, "does not tell"),
    ],
)
def test_what_is_acknowledged_is_on_disk_unless_the_address_accepts_otherwise(
    sync: str | None, accepted: str, verdict: Verdict, words: str
) -> None:
    findings = judge(GOOD, {"appendfsync": sync} if sync else {}, parse(f"unix:///r.sock?sync={accepted}"))
    (finding,) = (finding for finding in findings if finding.name == "persistence")
    assert finding.verdict is verdict
    assert words in finding.found


def test_a_way_over_the_network_in_the_clear_is_a_risk() -> None:
    ways = {
        url: judge(GOOD, {}, parse(url))[-1].verdict for url in ("redis://db.example", "redis://localhost", "rediss://db.example")
    }
    assert list(ways.values()) == [Verdict.RISK, Verdict.GOOD, Verdict.GOOD]
