"""What an attack is: a small program that prints OPEN or BLOCKED, and where it is expected to be open.

Each is run outside any sandbox as a control, where it must print OPEN (a probe that cannot succeed proves nothing), and inside at
each level. Kernel-wide settings are only opened, never written.
"""

from __future__ import annotations

import os
import shutil
import stat
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent_sidecar.isolation.interface import Level

PRELUDE = '''
import ctypes, errno, json, mmap, os, resource, signal, socket, stat, struct, subprocess, sys, tempfile, threading, time
facts = json.loads(sys.argv[1])
facts['marker'] = facts['marker'][::-1]  # so that it stands in no command line of ours
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
if facts['become']:
    os.setgroups([]); os.setresgid(*3 * [facts['become']]); os.setresuid(*3 * [facts['become']])
def call(x86, arm, *arguments):
    """Make a system call; return (result, errno)."""
    ctypes.set_errno(0)
    words = [each if isinstance(each, (bytes, ctypes.Array, type(None))) else ctypes.c_long(each) for each in arguments]
    result = libc.syscall(ctypes.c_long(x86 if os.uname().machine == "x86_64" else arm), *words)
    return result, ctypes.get_errno()
def reached(x86, arm, *arguments):
    """Tell whether a call got past every guard: it worked, or failed only for its senseless arguments."""
    result, number = call(x86, arm, *arguments)
    return result >= 0 or number not in (errno.EPERM, errno.EACCES, errno.ENOSYS)
def in_child(action):
    """Run in a child; return whether it says yes. Death by a signal is a no."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if action() else 1)
        except OSError:
            os._exit(1)
        finally:
            os._exit(2)
    return os.waitpid(pid, 0)[1] == 0
def opens(path, flags=os.O_RDONLY):
    os.close(os.open(path, flags))
    return True
def any_process(action):
    """Tell whether the action says yes to any other process that can be seen."""
    for name in filter(str.isdecimal, os.listdir('/proc')):
        try:
            if int(name) != os.getpid() and action('/proc/' + name): return True
        except OSError: continue
    return False
def fill(folder, size):
    """Write so much to a file that has no name."""
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(size >> 20): file.write(bytes(1 << 20))
    return True
def attack():
'''

FINALE = """
try:
    print("OPEN" if attack() else "BLOCKED")
except (OSError, MemoryError) as error:
    print("BLOCKED", error)
"""

STRICT, MODERATE, MINIMAL = Level.STRICT, Level.MODERATE, Level.MINIMAL


@dataclass(frozen=True)
class Attack:
    """One way out."""

    number: int
    """In table D4; 0: found beside it."""
    name: str
    body: str
    """Statements of a function that returns whether the way is open."""
    optional: bool = False
    """The control may be shut on some kernels or hosts; then the case is skipped, visibly."""
    open_at: tuple[Level, ...] = ()
    """Levels that do not stop it. Whatever is here stands in the README's table of what levels do not stop."""
    plant: Callable[[Path], None] | None = None
    """Puts into the working folder, as root, what the attack begins with."""
    as_nobody: bool = False
    """The control runs as a uid without rights, since root has no need of the attack."""
    limits: Mapping[str, float] = field(default_factory=dict)
    """Limits the attack is measured against; being ended by one of them is being blocked."""

    @property
    def program(self) -> str:
        lines = "".join(f"    {line}\n" for line in self.body.strip("\n").splitlines())
        return PRELUDE + lines + FINALE

    def expected(self, level: Level) -> str:
        return "OPEN" if level in self.open_at else "BLOCKED"


def plant_setuid(folder: Path) -> None:
    """A program that is root for whoever starts it."""
    shutil.copy("/bin/cat", folder / "setuid")
    os.chown(folder / "setuid", 0, 0)
    (folder / "setuid").chmod(0o4755 | stat.S_ISGID)


def plant_capable(folder: Path) -> None:
    """A program with the file capability CAP_NET_RAW, permitted and effective (capabilities(7), struct vfs_cap_data)."""
    shutil.copy("/bin/cat", folder / "capable")
    (folder / "capable").chmod(0o755)
    os.setxattr(folder / "capable", "security.capability", struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0))
