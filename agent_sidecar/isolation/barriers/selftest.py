"""The test a sandbox makes of itself before the agent's first instruction: shell text of built-in commands only, so it costs 3 ms."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from agent_sidecar.isolation.barriers import view

PASSED, FAILED, NO_PROGRAM = "passed", "failed", "program"
"""First words of a report."""

_HEAD = """\
say() { echo "$*" >&3; }
fail() { say "failed $*"; exit 125; }
"""

_STATUS = """\
while read -r key value rest; do case $key in
Uid:) [ "$value" = %(uid)s ] || fail "own_uid: uid $value inside";;
NoNewPrivs:) nnp=$value;;
Seccomp:) seccomp=$value;;
Cap???:) [ "$value" = 0000000000000000 ] || fail "capabilities: $key $value";;
esac; done </proc/self/status
[ "$nnp" = 1 ] || fail "no_new_privs: it is not set"
[ "$seccomp" = 2 ] || fail "seccomp: no filter is in force"
"""

_NETWORK = """\
while read -r name rest; do case $name in
Inter-\\||face|lo:*) ;;
*) fail "network_namespace: interface $name is visible";;
esac; done </proc/net/dev
"""

_MOUNTS = """\
root=
while read -r id parent device inside point options rest; do case $point in
/) root=$options;;
/workspace) workspace=$options;;
/home|/root|/mnt|/.host) fail "bubblewrap: $point of the host is mounted";;
esac; done </proc/self/mountinfo
case $root in ro|ro,*) ;; *) fail "bubblewrap: the root is writable ($root)";; esac
case $workspace in rw,*) ;; *) fail "workspace: it is not writable ($workspace)";; esac
[ -w /workspace ] || fail "workspace: it cannot be written by the agent"
[ -w / ] || [ -w /usr ] || [ -w /etc ] || [ -w /proc/sys/kernel ] && fail "bubblewrap: a system folder is writable"
[ $$ -lt 10 ] || fail "pid_namespace: this is process $$"
"""

_BRIDGES = """\
%(python)s -I -S /run/bridge.py %(bridges)s 3>&- || fail "bridges: the loopback bridge did not start"
"""

_TAIL = """\
command -v -- "$1" >/dev/null || { say "program $1"; exit 127; }
say "passed $$"
exec 3>&-
exec "$@"
"""


def script(bridges: Mapping[int, str], python: str) -> str:
    """Return the shell text: `sh -c TEXT sh PROGRAM ARGUMENTS...` with the report on descriptor 3.

    Args:
        bridges: Loopback port -> socket name in /run/conductor.
        python: Interpreter for the bridge, by its path inside.
    """
    text = _HEAD + _STATUS % {"uid": view.UID} + _NETWORK + _MOUNTS
    if bridges:
        words = " ".join(shlex.quote(f"{port}={name}") for port, name in sorted(bridges.items()))
        text += _BRIDGES % {"python": shlex.quote(python), "bridges": words}
    return text + _TAIL
