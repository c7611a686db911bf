"""The system call filter: a deny list compiled to the classic BPF program that seccomp(2) takes, searched by halves."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from agent_sidecar.isolation.barriers import syscalls
from agent_sidecar.isolation.barriers.syscalls import EAFNOSUPPORT, ENOSYS, EPERM, Architecture

# linux/bpf_common.h and linux/seccomp.h
LOAD, JUMP_EQUAL, JUMP_AT_LEAST, JUMP_ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
NUMBER, ARCH, ARGUMENTS = 0, 4, 16
"""Offsets in struct seccomp_data; each argument is 8 bytes, its low half first on both architectures."""

NEW_NAMESPACES = 0x7E020000
"""CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET."""
TERMINAL_INJECTION = (0x5412, 0x541C, 0x541D, 0x5423)
"""TIOCSTI, TIOCLINUX, TIOCCONS, TIOCSETD: typing into, or changing the nature of, a terminal shared with somebody else."""
UNIX, INET, INET6, NETLINK = 1, 2, 10, 16
PERSONALITIES = (0, 0xFFFFFFFF)
"""The usual one, and the question which one it is."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One struct sock_filter (linux/filter.h)."""

    code: int
    value: int
    if_true: int = 0
    if_false: int = 0

    def pack(self) -> bytes:
        """Return the 8 bytes of the instruction."""
        return struct.pack("=HBBI", self.code, self.if_true, self.if_false, self.value)


Program = tuple[Instruction, ...]


def program(architecture: Architecture, *, nesting: bool = False) -> Program:
    """Return the filter.

    A foreign architecture (32-bit entry) kills the process, because its numbers mean something else; a foreign ABI of the same
    architecture (x32) answers ENOSYS. All other numbers are found in about six comparisons.

    Args:
        architecture: Of the machine.
        nesting: Allow what a sandbox inside the sandbox needs.
    """
    head: list[Instruction] = [
        Instruction(LOAD, ARCH),
        Instruction(JUMP_EQUAL, architecture.audit, if_true=1),
        Instruction(RETURN, KILL),
        Instruction(LOAD, NUMBER),
    ]
    if architecture.foreign_bit:
        head += [Instruction(JUMP_AT_LEAST, architecture.foreign_bit, if_false=1), Instruction(RETURN, ERRNO | ENOSYS)]
    return (*head, *_search(_intervals(_verdicts(architecture, nesting=nesting))))


def pack(instructions: Program) -> bytes:
    """Return the program as bytes, as bubblewrap's --seccomp reads them."""
    return b"".join(each.pack() for each in instructions)


def for_machine(machine: str, *, nesting: bool = False) -> bytes | None:
    """Return the packed filter for a machine as uname(2) names it, or None where no numbers are known."""
    architecture = syscalls.KNOWN.get(machine)
    return None if architecture is None else pack(program(architecture, nesting=nesting))


def _verdicts(architecture: Architecture, *, nesting: bool) -> dict[int, Program]:
    numbers = architecture.numbers
    verdicts = {numbers[name]: _refuse(EPERM) for name in syscalls.DENIED if name in numbers}
    verdicts |= {numbers[name]: _refuse(ENOSYS) for name in syscalls.MISSING}
    if not nesting:
        verdicts |= {numbers[name]: _refuse(EPERM) for name in syscalls.NESTING}
        verdicts[numbers["clone"]] = (
            Instruction(LOAD, ARGUMENTS),
            Instruction(JUMP_ANY_BIT, NEW_NAMESPACES, if_false=1),
            *_refuse(EPERM),
            *_allow(),
        )
    verdicts[numbers["ioctl"]] = _refused_if_one_of(1, TERMINAL_INJECTION)
    verdicts[numbers["personality"]] = _allowed_if_one_of(0, PERSONALITIES)
    verdicts[numbers["socket"]] = _socket()
    return verdicts


def _refuse(number: int) -> Program:
    return (Instruction(RETURN, ERRNO | number),)


def _allow() -> Program:
    return (Instruction(RETURN, ALLOW),)


def _refused_if_one_of(argument: int, values: tuple[int, ...]) -> Program:
    """Compare the low half only: the kernel ignores the high one, so a filter that looked at it could be fooled."""
    jumps = [Instruction(JUMP_EQUAL, value, if_true=len(values) - index) for index, value in enumerate(values)]
    return (Instruction(LOAD, ARGUMENTS + 8 * argument), *jumps, *_allow(), *_refuse(EPERM))


def _allowed_if_one_of(argument: int, values: tuple[int, ...]) -> Program:
    jumps = [Instruction(JUMP_EQUAL, value, if_true=len(values) - index) for index, value in enumerate(values)]
    return (Instruction(LOAD, ARGUMENTS + 8 * argument), *jumps, *_refuse(EPERM), *_allow())


def _socket() -> Program:
    """Allow local, internet and routing sockets; vsock, alg, packet and whatever comes next are unknown families."""
    return (
        Instruction(LOAD, ARGUMENTS),
        Instruction(JUMP_EQUAL, UNIX, if_true=6),
        Instruction(JUMP_EQUAL, INET, if_true=5),
        Instruction(JUMP_EQUAL, INET6, if_true=4),
        Instruction(JUMP_EQUAL, NETLINK, if_false=2),
        Instruction(LOAD, ARGUMENTS + 16),
        Instruction(JUMP_EQUAL, 0, if_true=1),
        *_refuse(EAFNOSUPPORT),
        *_allow(),
    )


def _intervals(verdicts: dict[int, Program]) -> list[tuple[int, Program]]:
    """Return (first number, what to do from there on), in order, neighbours with the same verdict merged."""
    edges: dict[int, Program] = {0: _allow()}
    for number in sorted(verdicts):
        edges[number] = verdicts[number]
        edges.setdefault(number + 1, _allow())
    merged: list[tuple[int, Program]] = []
    for start, verdict in sorted(edges.items()):
        if not merged or merged[-1][1] != verdict:
            merged.append((start, verdict))
    return merged


def _search(intervals: list[tuple[int, Program]]) -> Program:
    """Return a search tree laid out depth first: below the middle is the next instruction, from it on a jump away."""
    if len(intervals) == 1:
        return intervals[0][1]
    middle = len(intervals) // 2
    below, above = _search(intervals[:middle]), _search(intervals[middle:])
    return (Instruction(JUMP_AT_LEAST, intervals[middle][0], if_true=len(below)), *below, *above)
