"""The decision whether and how a spec runs at its level on this host: pure, from values to a plan or a refusal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agent_sidecar.isolation import level as levels
from agent_sidecar.isolation.interface import Capabilities, Level, Mechanism, Plan, Refusal, Spec, Strength
from agent_sidecar.isolation.level import Want

_FORBIDDEN = frozenset(
    Path(each)
    for each in ("/", "/home", "/root", "/etc", "/var", "/proc", "/sys", "/dev", "/run", "/var/run", "/tmp", "/boot", "/srv")  # noqa: S108
)
_ENGINE_SOCKETS = frozenset({"docker.sock", "podman.sock", "containerd.sock", "crio.sock"})


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What of the host matters to a plan beside its mechanisms."""

    root: bool
    """The sidecar is root."""
    agent_uid: int
    homes: frozenset[Path] = frozenset()
    """Home folders of this host's users."""


def decide(spec: Spec, capabilities: Capabilities, host: HostFacts) -> Plan | Refusal:
    """Return how the spec runs, or everything that stands in its way.

    Nothing is lowered here: at strict each mechanism is in force or the answer is a refusal.
    """
    missing = [*_forbidden(spec, host)]
    if host.agent_uid == 0:
        missing.append(Mechanism("own_uid", Strength.NO, "the agent would run as host uid 0", "run the sidecar with a uid range"))
    in_force: list[str] = []
    degraded: list[str] = []
    for name in levels.EVERY:
        want = _want(spec, name, host)
        if want is Want.UNUSED:
            continue
        mechanism = _found(capabilities, name)
        if mechanism.strength is Strength.YES:
            in_force.append(name)
        elif want is Want.REQUIRED:
            missing.append(_with_level(mechanism, spec.level))
        else:
            degraded.append(_degradation(mechanism))
    if missing:
        return Refusal(spec.level, tuple(missing))
    return Plan(spec, spec.level, tuple(in_force), tuple(degraded))


def _want(spec: Spec, name: str, host: HostFacts) -> Want:
    if name in levels.ONLY_ROOT and not host.root:
        return Want.UNUSED
    if name == levels.DISK and not spec.limits.workspace_bytes:
        return Want.UNUSED
    return levels.WANTS[spec.level][name]


def _found(capabilities: Capabilities, name: str) -> Mechanism:
    return next(
        (each for each in capabilities.mechanisms if each.name == name), Mechanism(name, Strength.NO, "it was not probed")
    )


def _with_level(mechanism: Mechanism, level: Level) -> Mechanism:
    """Add the explicit lower level to the remedy, where one would run without the mechanism."""
    order = (Level.STRICT, Level.MODERATE, Level.MINIMAL)
    lower = order[order.index(level) + 1 :]
    without = next((each for each in lower if levels.WANTS[each][mechanism.name] is not Want.REQUIRED), None)
    if without is None:
        return mechanism
    advice = f"or run without it, on purpose: --level {without.value}"
    remedy = f"{mechanism.remedy}, {advice}" if mechanism.remedy else advice.removeprefix("or ")
    return Mechanism(mechanism.name, mechanism.strength, mechanism.detail, remedy)


def _degradation(mechanism: Mechanism) -> str:
    text = f"{mechanism.name}: {levels.DEGRADED.get(mechanism.name, 'it is not in force')}"
    return f"{text} ({mechanism.detail})" if mechanism.detail else text


def _forbidden(spec: Spec, host: HostFacts) -> list[Mechanism]:
    """Return what may be shown to no agent at any level: whole homes, system state, engine sockets, a repository's own .git."""
    found: list[Mechanism] = []
    for path in (spec.workspace, spec.socket_directory, *spec.toolchains):
        why = _why_forbidden(path, host)
        if why:
            found.append(Mechanism("mounts", Strength.NO, f"{path} {why}", "name the folder below it that the agent needs"))
    names = (spec.agent_id, spec.run_id)
    found += [Mechanism("names", Strength.NO, f"{name!r} cannot name a folder") for name in names if _unusable(name)]
    found += [Mechanism("spec", Strength.NO, why, "correct the task") for why in _malformed(spec)]
    return found


def _malformed(spec: Spec) -> list[str]:
    """Return what cannot be passed on as it is. A NUL would end a word and make an option of what follows."""
    found: list[str] = []
    if not spec.argv or not spec.argv[0]:
        found.append("there is no program to run")
    names, values = tuple(spec.environment), tuple(spec.environment.values())
    paths = tuple(str(each) for each in (spec.workspace, spec.socket_directory, *spec.toolchains))
    if any("\0" in each for each in (*spec.argv, *names, *values, *paths)):
        found.append("an argument, a variable or a path holds a NUL byte")
    found += [f"{name!r} cannot name an environment variable" for name in names if not name or "=" in name]
    found += [f"port {port} cannot be a bridge's" for port in spec.bridges if not 1024 <= port <= 65535]
    found += [f"{name!r} cannot name a socket" for name in spec.bridges.values() if _unusable(name) or "=" in name]
    return found


def _why_forbidden(path: Path, host: HostFacts) -> str:
    if not path.is_absolute() or ".." in path.parts:
        return "is not an absolute path"
    if path in _FORBIDDEN or any(path == home or path in home.parents for home in host.homes):
        return "is a home or system folder and may not be shown to an agent"
    if path.name in _ENGINE_SOCKETS:
        return "is the socket of a container engine, which is root on this host"
    if path.name == ".git":
        return "is a repository's own data, through which an agent could run code outside"
    return ""


def _unusable(name: str) -> bool:
    return not name or len(name) > 128 or name in (".", "..") or any(each in "/\0\n" or each.isspace() for each in name)
