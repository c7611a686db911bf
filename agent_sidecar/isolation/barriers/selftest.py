"""The test of a sandbox before the agent's first instruction: what a shell inside tries, and what the kernel says outside.

The shell tries what only the inside can try, reports and waits. The sidecar then reads the kernel's own account of that very
process - it will become the agent - and only then lets it go on. So no program or library of the workspace can answer for it, and
it costs less than a shell that reads those files byte by byte.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from agent_sidecar.isolation.kernel import mount_table

READY, FAILED, NO_PROGRAM = "ready", "failed", "program"
"""First words of a report."""
GO = b"go\n"
"""What the sidecar answers to a sandbox that is as planned."""

_HEAD = """\
say() { echo "$*" >&3; }
fail() { say "failed $*"; exit 125; }
[ -w /workspace ] || fail "workspace: the agent cannot write it"
for each in / /usr /etc /dev /sys /proc/sys/kernel /run/conductor; do
[ ! -w $each ] || fail "bubblewrap: $each is writable"
done
[ $$ -lt 10 ] || fail "pid_namespace: this is process $$"
"""

_BRIDGES = """\
%(python)s -I -S /run/bridge.py %(bridges)s 3>&- || fail "bridges: the loopback bridge did not start"
"""

_TAIL = """\
command -v -- "$1" >/dev/null || { say "program $1"; exit 127; }
say ready
read -r answer <&3
[ "$answer" = go ] || exit 125
exec 3>&-
exec "$@"
"""

_HOST_ONLY = ("/root", "/mnt", "/var", "/boot", "/.host")
_CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


def script(bridges: Mapping[int, str], python: str) -> str:
    """Return the shell text: `sh -c TEXT sh PROGRAM ARGUMENTS...` with the report on descriptor 3.

    Args:
        bridges: Loopback port -> socket name in /run/conductor.
        python: Interpreter for the bridge, by its path inside.
    """
    if not bridges:
        return _HEAD + _TAIL
    words = " ".join(shlex.quote(f"{port}={name}") for port, name in sorted(bridges.items()))
    return _HEAD + _BRIDGES % {"python": shlex.quote(python), "bridges": words} + _TAIL


def inspect(pid: int, uid: int, proc: Path = Path("/proc")) -> tuple[str, ...]:
    """Return what the kernel's account of a sandboxed process shows to be not in force; empty if all is.

    Args:
        pid: The process on the host that reported ready and waits.
        uid: Host uid it should have.
        proc: Where the process file system is.

    Raises:
        OSError: The process is gone.
    """
    folder = proc / str(pid)
    status = (folder / "status").read_text()
    mounts = (folder / "mountinfo").read_text()
    interfaces = (folder / "net" / "dev").read_text()
    return (*check_status(status, uid), *check_mounts(mounts), *check_interfaces(interfaces))


def check_status(text: str, uid: int) -> tuple[str, ...]:
    """Check uid, capabilities, privileges, filter and pid namespace in a status file (proc_pid_status(5))."""
    fields = {name: value.split() for name, _, value in (line.partition(":") for line in text.splitlines())}
    found = []
    if set(fields["Uid"]) != {str(uid)} or uid == 0:
        found.append(f"own_uid: its host uids are {' '.join(fields['Uid'])}, not {uid}")
    if any(int(fields[name][0], 16) for name in _CAPABILITIES):
        found.append("capabilities: it has some")
    if fields["NoNewPrivs"] != ["1"]:
        found.append("no_new_privs: it is not set")
    if fields["Seccomp"] != ["2"]:
        found.append("seccomp: no filter is in force")
    if len(fields.get("NSpid", ["", ""])) < 2:
        found.append("pid_namespace: it has none of its own")
    return tuple(found)


def check_mounts(text: str) -> tuple[str, ...]:
    """Check a mount table: a read-only root, a writable workspace, nothing of the host's private folders."""
    mounts = {str(mount.point): mount for mount in mount_table.parse(text)}
    found = []
    if "/" not in mounts or "ro" not in mounts["/"].options:
        found.append("bubblewrap: the root is writable")
    if "/workspace" not in mounts or "rw" not in mounts["/workspace"].options:
        found.append("workspace: it is not mounted for writing")
    if mounts.get("/usr") is None or "ro" not in mounts["/usr"].options:
        found.append("bubblewrap: the system is writable")
    found += [f"bubblewrap: {point} of the host is mounted" for point in _HOST_ONLY if point in mounts]
    return tuple(found)


def check_interfaces(text: str) -> tuple[str, ...]:
    """Check a /proc/net/dev: only the loopback interface."""
    names = [line.partition(":")[0].strip() for line in text.splitlines() if ":" in line]
    return tuple(f"network_namespace: the interface {name} is visible" for name in names if name != "lo")
