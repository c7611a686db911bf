import re
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_sidecar.isolation.barriers import seccomp, syscalls
from agent_sidecar.isolation.barriers.seccomp import ALLOW, ERRNO, KILL, Program
from agent_sidecar.isolation.barriers.syscalls import AARCH64, EAFNOSUPPORT, ENOSYS, EPERM, X86_64, Architecture

HEADERS = {"x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), "aarch64": Path("/usr/include/asm-generic/unistd.h")}
BOTH = pytest.mark.parametrize("architecture", [X86_64, AARCH64], ids=lambda each: each.name)


def execute(program: Program, number: int, *arguments: int, arch: int = X86_64.audit) -> tuple[int, int]:
    """Run the filter as the kernel would (net/core/filter.c); return its verdict and how many instructions it took."""
    padded = (*arguments, *[0] * (6 - len(arguments)))
    data = struct.pack("<IIQ6Q", number, arch, 0, *(each % (1 << 64) for each in padded))
    value = position = steps = 0
    while True:
        each, steps = program[position], steps + 1
        position += 1
        if each.code == seccomp.LOAD:
            (value,) = struct.unpack_from("<I", data, each.value)
        elif each.code == seccomp.RETURN:
            return each.value, steps
        else:
            tests = {
                seccomp.JUMP_EQUAL: value == each.value,
                seccomp.JUMP_AT_LEAST: value >= each.value,
                seccomp.JUMP_ANY_BIT: bool(value & each.value),
            }
            position += each.if_true if tests[each.code] else each.if_false


def verdict(architecture: Architecture, name: str, *arguments: int) -> int:
    program = seccomp.program(architecture)
    return execute(program, architecture.numbers[name], *arguments, arch=architecture.audit)[0]


@BOTH
def test_every_denied_call_is_refused_whatever_its_arguments(architecture):
    for name in (*syscalls.DENIED, *syscalls.NESTING):
        if name in architecture.numbers:
            assert verdict(architecture, name, 1, 2, 3) == ERRNO | EPERM, name


@BOTH
def test_calls_with_a_fallback_look_as_if_the_kernel_had_none(architecture):
    for name in syscalls.MISSING:
        assert verdict(architecture, name) == ERRNO | ENOSYS, name


@BOTH
def test_a_call_that_is_not_on_the_list_is_allowed(architecture):
    special = set(architecture.numbers.values())
    program = seccomp.program(architecture)
    for number in range(600):
        if number not in special:
            assert execute(program, number, arch=architecture.audit)[0] == ALLOW, number


@BOTH
def test_new_threads_are_allowed_and_new_namespaces_are_not(architecture):
    assert verdict(architecture, "clone", 0x3D0F00) == ALLOW
    for flag in (0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert verdict(architecture, "clone", flag | 17) == ERRNO | EPERM, hex(flag)


@BOTH
@pytest.mark.parametrize("request_number", [0x5412, 0x541C, 0x541D, 0x5423, 0x5412 | 1 << 32, 0x541C | 0xFFFF << 48])
def test_typing_into_a_terminal_is_refused_with_any_high_bits(architecture, request_number):
    assert verdict(architecture, "ioctl", 0, request_number) == ERRNO | EPERM


@BOTH
def test_other_terminal_calls_are_allowed(architecture):
    assert verdict(architecture, "ioctl", 0, 0x5413) == ALLOW


@BOTH
@pytest.mark.parametrize(
    ("family", "protocol", "expected"),
    [(1, 0, ALLOW), (2, 6, ALLOW), (10, 17, ALLOW), (16, 0, ALLOW), (16, 15, None), (17, 3, None), (38, 0, None), (40, 0, None),
     (44, 0, None), (40 | 1 << 32, 0, None)],
)  # fmt: skip
def test_only_local_internet_and_routing_sockets_exist(architecture, family, protocol, expected):
    refused = ERRNO | EAFNOSUPPORT
    assert verdict(architecture, "socket", family, 1, protocol) == (refused if expected is None else expected)


@BOTH
def test_a_personality_can_be_asked_for_but_not_changed(architecture):
    assert verdict(architecture, "personality", 0xFFFFFFFF) == ALLOW
    assert verdict(architecture, "personality", 0x0040000) == ERRNO | EPERM


def test_the_thirty_two_bit_entry_kills_and_the_x32_one_finds_nothing():
    program = seccomp.program(X86_64)
    assert execute(program, 11, arch=0x40000003)[0] == KILL
    assert execute(program, 0x40000000 | 165)[0] == ERRNO | ENOSYS


def test_a_filter_for_nesting_leaves_mounts_in_a_namespace_of_its_own_to_the_agent():
    program = seccomp.program(X86_64, nesting=True)
    assert execute(program, X86_64.numbers["mount"])[0] == ALLOW
    assert execute(program, X86_64.numbers["clone"], 0x10000000)[0] == ALLOW
    assert execute(program, X86_64.numbers["bpf"])[0] == ERRNO | EPERM


@BOTH
def test_an_ordinary_call_costs_at_most_a_dozen_instructions(architecture):
    program = seccomp.program(architecture)
    assert max(execute(program, number, arch=architecture.audit)[1] for number in range(500)) <= 16
    assert execute(program, 0, arch=architecture.audit)[1] <= 12
    assert len(program) < 256


@given(
    number=st.integers(0, (1 << 32) - 1),
    arguments=st.lists(st.integers(0, (1 << 64) - 1), max_size=6),
    arch=st.integers(0, (1 << 32) - 1),
)
def test_every_input_ends_in_a_verdict(number, arguments, arch):
    assert execute(seccomp.program(X86_64), number, *arguments, arch=arch)[0] in {
        ALLOW, KILL, ERRNO | EPERM, ERRNO | ENOSYS, ERRNO | EAFNOSUPPORT,
    }  # fmt: skip


def test_the_packed_program_is_eight_bytes_an_instruction():
    packed = seccomp.for_machine("x86_64")
    assert packed is not None
    assert len(packed) == 8 * len(seccomp.program(X86_64))
    assert struct.unpack("=HBBI", packed[:8]) == (0x20, 0, 0, 4)


def test_an_unknown_machine_has_no_filter():
    assert seccomp.for_machine("sparc64") is None


@BOTH
def test_numbers_are_those_of_the_kernels_headers(architecture):
    header = HEADERS[architecture.name]
    if not header.exists():
        pytest.skip(f"no kernel headers at {header} (Debian package linux-libc-dev)")
    known = {name: int(number) for name, number in re.findall(r"#define __NR3?2?6?4?_?(\w+)\s+(\d+)", header.read_text())}
    for name, number in architecture.numbers.items():
        if name in known:
            assert known[name] == number, name
    assert set(architecture.numbers) - set(known) <= {"_sysctl", "memfd_secret", "quotactl_fd", "uselib"}
