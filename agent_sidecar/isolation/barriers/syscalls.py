"""Which system calls an agent may not make, with their numbers for each architecture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

EPERM, ENOSYS, EAFNOSUPPORT = 1, 38, 97

NESTING = ("unshare", "setns", "mount", "umount2", "pivot_root", "chroot")
"""What a sandbox inside the sandbox needs; denied unless a level lets agents nest."""

MISSING = (
    "clone3",  # its flags lie in memory, where no filter can look; C libraries fall back to clone
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
)
"""Answered as if the kernel had none of them, because programs then use what they used before."""

DENIED = (
    # a view of the host's files, by mounting or past the mount table
    *("move_mount", "open_tree", "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr", "name_to_handle_at"),
    "open_by_handle_at",
    # other processes
    *("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "pidfd_getfd", "kcmp"),
    # large kernel surfaces with a history
    *("bpf", "perf_event_open", "userfaultfd", "fanotify_init", "fanotify_mark", "lookup_dcookie", "memfd_secret"),
    # keyrings have no namespace
    *("add_key", "request_key", "keyctl"),
    # the machine itself
    *("init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot", "swapon", "swapoff", "acct"),
    *("settimeofday", "adjtimex", "clock_settime", "clock_adjtime", "sethostname", "setdomainname", "syslog", "vhangup"),
    *("quotactl", "quotactl_fd", "nfsservctl", "migrate_pages", "move_pages"),
    # only old Intel kernels have these
    *("modify_ldt", "iopl", "ioperm", "uselib", "ustat", "_sysctl", "create_module", "get_kernel_syms", "query_module"),
)


@dataclass(frozen=True, slots=True)
class Architecture:
    """A processor architecture as seccomp names it."""

    name: str
    """As uname(2) says it."""
    audit: int
    """AUDIT_ARCH_* of linux/audit.h."""
    numbers: Mapping[str, int] = field(repr=False)
    foreign_bit: int = 0
    """Numbers from here on belong to another ABI (x32); 0: there is none."""


def _numbers(text: str) -> dict[str, int]:
    return {name: int(number) for name, number in (word.split("=") for word in text.split())}


_NEWER = _numbers("""
    io_uring_setup=425 io_uring_enter=426 io_uring_register=427 open_tree=428 move_mount=429 fsopen=430 fsconfig=431
    fsmount=432 fspick=433 clone3=435 pidfd_getfd=438 process_madvise=440 mount_setattr=442 quotactl_fd=443
    memfd_secret=447
""")
"""Since Linux 5.1 a new call has the same number everywhere."""

X86_64 = Architecture(
    "x86_64",
    0xC000003E,
    _numbers("""
    ioctl=16 socket=41 clone=56 ptrace=101 syslog=103 uselib=134 personality=135 ustat=136 vhangup=153 modify_ldt=154
    pivot_root=155 _sysctl=156 adjtimex=159 chroot=161 acct=163 settimeofday=164 mount=165 umount2=166 swapon=167
    swapoff=168 reboot=169 sethostname=170 setdomainname=171 iopl=172 ioperm=173 create_module=174 init_module=175
    delete_module=176 get_kernel_syms=177 query_module=178 quotactl=179 nfsservctl=180 lookup_dcookie=212
    clock_settime=227 kexec_load=246 add_key=248 request_key=249 keyctl=250 migrate_pages=256 unshare=272 move_pages=279
    perf_event_open=298 fanotify_init=300 fanotify_mark=301 name_to_handle_at=303 open_by_handle_at=304 clock_adjtime=305
    setns=308 process_vm_readv=310 process_vm_writev=311 kcmp=312 finit_module=313 kexec_file_load=320 bpf=321
    userfaultfd=323
    """)
    | _NEWER,
    foreign_bit=0x40000000,
)

AARCH64 = Architecture(
    "aarch64",
    0xC00000B7,
    _numbers("""
    lookup_dcookie=18 ioctl=29 umount2=39 mount=40 pivot_root=41 nfsservctl=42 chroot=51 vhangup=58 quotactl=60 acct=89
    personality=92 unshare=97 kexec_load=104 init_module=105 delete_module=106 clock_settime=112 syslog=116 ptrace=117
    reboot=142 sethostname=161 setdomainname=162 settimeofday=170 adjtimex=171 socket=198 add_key=217 request_key=218
    keyctl=219 clone=220 swapon=224 swapoff=225 migrate_pages=238 move_pages=239 perf_event_open=241 fanotify_init=262
    fanotify_mark=263 name_to_handle_at=264 open_by_handle_at=265 clock_adjtime=266 setns=268 process_vm_readv=270
    process_vm_writev=271 kcmp=272 finit_module=273 bpf=280 userfaultfd=282 kexec_file_load=294
    """)
    | _NEWER,
)

KNOWN = {each.name: each for each in (X86_64, AARCH64)}
