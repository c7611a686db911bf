"""Runs a program on a host that lacks one thing: `python without.py KIND COMMAND...`, for itself and its children.

System calls answer as those of a kernel that lacks the thing, by a filter; files are hidden in a mount namespace of its own.
Nothing of the host changes.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from agent_sidecar.isolation.barriers import seccomp
from agent_sidecar.isolation.barriers.seccomp import Instruction

# Numbers of x86_64; elsewhere the tests are skipped.
CLONE, PRCTL, MOUNT, UNSHARE, SECCOMP, CLONE3, PIVOT_ROOT = 56, 157, 165, 272, 317, 435, 155
NEW_NS, NEW_USER, NEW_PID, NEW_NET = 0x20000, 0x10000000, 0x20000000, 0x40000000
SET_SECCOMP, SET_NO_NEW_PRIVS = 22, 38
PRIVATE, BIND, DETACH, REMOUNT_READ_ONLY = 0x44000, 0x1000, 2, 0x1021
_libc = ctypes.CDLL(None, use_errno=True)


def answering(number: int, code: int, *, bits: int = 0, value: int | None = None) -> tuple[Instruction, ...]:
    """Return what makes a system call fail, with these bits in its first argument, or this value there, or always."""
    if value is not None:
        test: tuple[Instruction, ...] = (Instruction(seccomp.JUMP_EQUAL, value, if_false=1),)
    elif bits:
        test = (Instruction(seccomp.JUMP_ANY_BIT, bits, if_false=1),)
    else:
        test = ()
    body = (
        *((Instruction(seccomp.LOAD, seccomp.ARGUMENTS), *test) if test else ()),
        Instruction(seccomp.RETURN, seccomp.ERRNO | code),
    )
    return (
        Instruction(seccomp.LOAD, seccomp.NUMBER),
        Instruction(seccomp.JUMP_EQUAL, number, if_false=len(body)),
        *body,
    )


def deny(*rules: tuple[Instruction, ...]) -> None:
    """Put the filter on this process."""
    program = (*(each for rule in rules for each in rule), Instruction(seccomp.RETURN, seccomp.ALLOW))
    packed = seccomp.pack(program)
    code = ctypes.create_string_buffer(packed, len(packed))
    description = struct.pack("HxxxxxxP", len(program), ctypes.addressof(code))
    check(_libc.prctl(SET_SECCOMP, 2, ctypes.c_char_p(description), 0, 0))


def deny_namespace(flag: int, code: int = errno.EPERM) -> None:
    deny(answering(CLONE3, errno.ENOSYS), answering(CLONE, code, bits=flag), answering(UNSHARE, code, bits=flag))


def hide_group(name: str) -> None:
    """Unmount the version 1 tree of a controller, for this process and its children."""
    apart()
    check(_libc.umount2(f"/sys/fs/cgroup/{name}".encode(), DETACH))


def groups_read_only() -> None:
    """Show every cgroup tree read-only, as containers do."""
    apart()
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point, kind = line.split()[4], line.partition(" - ")[2].split()[0]
        if kind in ("cgroup", "cgroup2"):
            check(_libc.mount(None, point.encode(), None, ctypes.c_ulong(REMOUNT_READ_ONLY | 0x20), None))


def hide_shell() -> None:
    """Put something that is no program where the shell is."""
    apart()
    check(_libc.mount(b"/dev/null", os.path.realpath("/bin/sh").encode(), None, ctypes.c_ulong(BIND), None))


def foreign_machine() -> None:
    """Have uname(2) name another machine (personality(2), PER_LINUX32)."""
    check(_libc.personality(ctypes.c_ulong(0x0008)) - max(0, _libc.personality(ctypes.c_ulong(0xFFFFFFFF)) - 8))


def apart() -> None:
    check(_libc.unshare(NEW_NS))
    check(_libc.mount(None, b"/", None, ctypes.c_ulong(PRIVATE), None))


def check(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


KINDS: Mapping[str, Callable[[], None]] = {
    "nothing": lambda: None,
    "user namespaces (refused)": lambda: deny_namespace(NEW_USER),
    "user namespaces (no room)": lambda: deny_namespace(NEW_USER, errno.ENOSPC),
    "process namespaces": lambda: deny_namespace(NEW_PID, errno.EINVAL),
    "network namespaces": lambda: deny_namespace(NEW_NET, errno.EINVAL),
    "mount namespaces": lambda: deny_namespace(NEW_NS),
    "system call filters": lambda: deny(answering(SECCOMP, errno.ENOSYS), answering(PRCTL, errno.EINVAL, value=SET_SECCOMP)),
    "no_new_privs": lambda: deny(answering(PRCTL, errno.EINVAL, value=SET_NO_NEW_PRIVS)),
    "mounts": lambda: deny(answering(MOUNT, errno.EPERM)),
    "a root of its own": lambda: deny(answering(PIVOT_ROOT, errno.EPERM)),
    "memory groups": lambda: hide_group("memory"),
    "processor groups": lambda: hide_group("cpu"),
    "process groups": lambda: hide_group("pids"),
    "writable groups": groups_read_only,
    "a shell": hide_shell,
    "a known machine": foreign_machine,
}

if __name__ == "__main__":
    KINDS[sys.argv[1]]()
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606  # a test names it
