"""What an agent sees: the mounts, names and identity of its sandbox, as bubblewrap's arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent_sidecar.isolation.interface import Spec

UID = GID = 1000
"""Who the agent is inside."""
HOME = "/home/agent"
HOSTNAME = "agent"
HOME_BYTES = 256 << 20
SHM_BYTES = 64 << 20
MASKED = ("/proc/keys", "/proc/key-users", "/proc/kallsyms", "/proc/timer_list", "/proc/sched_debug", "/proc/latency_stats")
"""Kernel tables any uid may read; keyrings are not namespaced (keyrings(7))."""


@dataclass(frozen=True, slots=True)
class HostView:
    """What of the host is shown, found once when the sidecar starts."""

    system: Mapping[str, str]
    """/bin, /lib and the like -> the symbolic link it is, or empty where it is a folder of its own."""
    masked: tuple[str, ...]
    """Those of MASKED that this kernel has."""
    etc: Path
    """Folder shown as /etc: the few files programs need, and users and hosts of the sandbox's own."""


@dataclass(frozen=True, slots=True)
class Descriptors:
    """Numbers of the open files bubblewrap is given."""

    seccomp: int
    bridge: int | None = None
    """The bridge's program text, where there are bridges."""


def environment(spec: Spec) -> dict[str, str]:
    """Return the agent's environment: what the spec gives, and the few names every program expects."""
    private = f"/tmp/claude_workspace_{spec.agent_id}"  # noqa: S108  # a folder inside the sandbox's own /tmp
    base = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": HOME, "USER": "agent", "LOGNAME": "agent", "SHELL": "/bin/sh"}
    return base | {"LANG": "C.UTF-8", "TMPDIR": private} | dict(spec.environment)


def arguments(spec: Spec, host: HostView, capped: Path, descriptors: Descriptors) -> list[str]:
    """Return the arguments for a sandboxed run, in the order in which bubblewrap applies them.

    Args:
        spec: What is to run; its paths have no symbolic links but for toolchains, which appear where they are named.
        host: What is shown of this host.
        capped: Folder with `meminfo` and `sys` as an agent with these limits should see its machine.
        descriptors: The open files.
    """
    limits = spec.limits
    words: list[str] = ["--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session"]
    words += ["--uid", str(UID), "--gid", str(GID), "--hostname", HOSTNAME, "--cap-drop", "ALL"]
    words += ["--seccomp", str(descriptors.seccomp), "--clearenv"]
    for name, value in sorted(environment(spec).items()):
        words += ["--setenv", name, value]
    words += _system(host)
    words += ["--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys", "--ro-bind", f"{capped}/meminfo", "/proc/meminfo"]
    for path in host.masked:
        words += ["--ro-bind", "/dev/null", path]
    words += ["--ro-bind", f"{capped}/sys", "/sys", "--dev", "/dev"]
    words += _sized("1777", min(SHM_BYTES, limits.memory_bytes), "/dev/shm")  # noqa: S108  # a mount point
    words += ["--remount-ro", "/dev", *_sized("1777", limits.tmp_bytes, "/tmp")]  # noqa: S108
    words += ["--perms", "0700", "--dir", f"/tmp/claude_workspace_{spec.agent_id}"]  # noqa: S108
    words += _sized("0700", min(HOME_BYTES, limits.tmp_bytes), HOME)
    for toolchain in spec.toolchains:
        words += ["--ro-bind", str(toolchain), str(toolchain)]
    words += ["--bind", str(spec.workspace), "/workspace"]
    words += ["--perms", "0755", "--dir", "/run", "--ro-bind", str(spec.socket_directory), "/run/conductor"]
    if descriptors.bridge is not None:
        words += ["--ro-bind-data", str(descriptors.bridge), "/run/bridge.py"]
    words += ["--remount-ro", "/", "--chdir", "/workspace"]
    return words


def _system(host: HostView) -> list[str]:
    words = ["--ro-bind", "/usr", "/usr"]
    for path, link in sorted(host.system.items()):
        words += ["--symlink", link, path] if link else ["--ro-bind", path, path]
    return [*words, "--ro-bind", str(host.etc), "/etc"]


def _sized(mode: str, size: int, path: str) -> list[str]:
    return ["--perms", mode, "--size", str(size), "--tmpfs", path]
