"""Is this server fit to keep what was acknowledged, and what is at risk?"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from claude_conductor.errors import SettingsError
from controlplane.backends.redis.address import Address

OLDEST: Final = (7, 0)
_NEARLY: Final = 0.8
_NEAR: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class Verdict(enum.Enum):
    """What a finding means."""

    GOOD = "good"
    RISK = "risk"
    """It works, and something can be lost."""
    UNFIT = "unfit"
    """The control plane does not start with it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""


def judge(info: Mapping[str, str], config: Mapping[str, str], address: Address) -> list[Finding]:
    """Judge a server.

    `appendfsync everysec` can lose what was acknowledged even if only Redis is killed: while a sync is under way it puts writing
    off for up to 2 s and answers meanwhile (https://redis.io/docs/latest/operate/oss_and_stack/management/optimization/latency/).

    Args:
        info: The lines of INFO.
        config: Some of its settings; those it does not tell (by ACL) are missing.
        address: How it is reached.
    """
    return [
        _version(info),
        _role(info),
        _eviction(info),
        _persistence(info, config, address),
        _replicas(info),
        _memory(info),
        _way(address),
    ]


def refuse(findings: Sequence[Finding], address: Address) -> None:
    """Refuse a server that is unfit.

    Raises:
        SettingsError: Says why, and what to do.
    """
    unfit = [finding for finding in findings if finding.verdict is Verdict.UNFIT]
    if unfit:
        raise SettingsError(
            "Redis is not fit to be the store: " + "; ".join(finding.found for finding in unfit) + ".",
            next_step="; ".join(finding.remedy for finding in unfit),
            address=address,
        )


def _version(info: Mapping[str, str]) -> Finding:
    version = info.get("redis_version", "")
    numbers = [int(part) for part in version.split(".")[:2] if part.isdecimal()]
    oldest = ".".join(map(str, OLDEST))
    if tuple(numbers) < OLDEST:
        return Finding("version", Verdict.UNFIT, f"version {version or 'unknown'} is too old", f"install Redis {oldest} or newer")
    return Finding("version", Verdict.GOOD, version)


def _role(info: Mapping[str, str]) -> Finding:
    if info.get("redis_mode") == "cluster":
        remedy = "name a single server; Cluster is not served yet"
        return Finding("role", Verdict.UNFIT, "it is a node of a Redis Cluster", remedy)
    if info.get("redis_mode") == "sentinel":
        return Finding("role", Verdict.UNFIT, "it is a Sentinel, which stores nothing", "name the master it watches")
    if info.get("role") != "master":
        master = f"{info.get('master_host', '?')}:{info.get('master_port', '?')}"
        return Finding("role", Verdict.UNFIT, "it is a replica and takes no writes", f"name its master, {master}")
    return Finding("role", Verdict.GOOD, "master")


def _eviction(info: Mapping[str, str]) -> Finding:
    policy = info.get("maxmemory_policy", "unknown")
    if policy.startswith("allkeys"):
        remedy = "set `maxmemory-policy noeviction` in redis.conf (CONFIG SET and CONFIG REWRITE do it without a restart)"
        return Finding("eviction", Verdict.UNFIT, f"with maxmemory-policy {policy} it drops tasks and messages", remedy)
    return Finding("eviction", Verdict.GOOD, policy)


def _persistence(info: Mapping[str, str], config: Mapping[str, str], address: Address) -> Finding:
    if info.get("aof_enabled") != "1":
        found = "without an append-only file it forgets what it acknowledged when it ends"
        return Finding("persistence", Verdict.UNFIT, found, "set `appendonly yes` in redis.conf, and CONFIG SET the same")
    if info.get("aof_last_write_status", "ok") != "ok":
        found = "it cannot write its append-only file"
        return Finding("persistence", Verdict.UNFIT, found, "free space on its disk and look at its log")
    sync = config.get("appendfsync", "")
    found = f"append-only file, appendfsync {sync}"
    if sync == "always":
        return Finding("persistence", Verdict.GOOD, found)
    if not sync:
        remedy = "let its user see it (ACL SETUSER: +config|get)"
        return Finding("persistence", Verdict.UNFIT, "it does not tell how often it syncs its append-only file", remedy)
    if sync == address.sync == "everysec":
        found += ", as the address accepts: the last 2 s are lost with the machine, and if Redis is killed while its disk is busy"
        return Finding("persistence", Verdict.RISK, found, "`appendfsync always` loses nothing, and costs an fsync a batch")
    found = f"with appendfsync {sync} it acknowledges what is not on disk yet, and can lose it when it is killed"
    remedy = (
        "set `appendfsync always` in redis.conf, and CONFIG SET the same; or accept the loss of the last 2 s with ?sync=everysec"
    )
    return Finding("persistence", Verdict.UNFIT, found, remedy)


def _replicas(info: Mapping[str, str]) -> Finding:
    count = int(info.get("connected_slaves", "0"))
    if count:
        found = f"{count} connected; they follow with a delay: an acknowledged write may be missing there"
        return Finding(
            "replicas", Verdict.RISK, found, "start them with `appendonly yes` too, so that a restart keeps what they have"
        )
    return Finding(
        "replicas", Verdict.RISK, "none: with the disk of this machine everything is lost", "add a replica on another machine"
    )


def _memory(info: Mapping[str, str]) -> Finding:
    used, most = int(info.get("used_memory", "0")), int(info.get("maxmemory", "0"))
    bound = most or int(info.get("total_system_memory", "0"))
    found = f"{used >> 20} of {bound >> 20} MiB used" + ("" if most else " (of the machine: no maxmemory is set)")
    if bound and used > _NEARLY * bound:
        return Finding(
            "memory", Verdict.RISK, found + "; once it is full, nothing more is accepted", "raise maxmemory, or keep less"
        )
    if not most:
        remedy = "set maxmemory below what the machine has, so that Redis refuses writes before the kernel ends it"
        return Finding("memory", Verdict.RISK, found, remedy)
    return Finding("memory", Verdict.GOOD, found)


def _way(address: Address) -> Finding:
    if address.scheme == "redis" and address.host not in _NEAR:
        found = f"in the clear to {address.host}: passwords and prompts can be read on the way"
        return Finding("way", Verdict.RISK, found, "use rediss:// (TLS)")
    return Finding("way", Verdict.GOOD, {"unix": "Unix socket", "rediss": "TLS"}.get(address.scheme, "this machine"))
