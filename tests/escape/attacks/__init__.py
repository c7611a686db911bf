"""Ways out of a sandbox, as small programs that print OPEN or BLOCKED: table D4 of the isolation research, first slice.

Each is run twice: outside any sandbox as a control, where it must print OPEN (a probe that cannot succeed proves nothing), and
inside, where the verdict of its level is expected. Kernel-wide settings are only opened, never written.
"""

from __future__ import annotations

from dataclasses import dataclass

PRELUDE = '''
import ctypes, errno, json, mmap, os, signal, socket, stat, struct, sys
facts = json.loads(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
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
def attack():
'''

FINALE = """
try:
    print("OPEN" if attack() else "BLOCKED")
except OSError as error:
    print("BLOCKED", error)
"""


@dataclass(frozen=True)
class Attack:
    """One way out."""

    number: int
    """In table D4."""
    name: str
    body: str
    """Statements of a function that returns whether the way is open."""
    optional: bool = False
    """The control may be shut on some kernels or hosts; then the case is skipped, visibly."""

    @property
    def program(self) -> str:
        lines = "".join(f"    {line}\n" for line in self.body.strip("\n").splitlines())
        return PRELUDE + lines + FINALE


ATTACKS = (
    Attack(1, "list another agent's workspace", "return 'secret' in os.listdir(facts['other'])"),
    Attack(2, "read another agent's file", "return open(facts['other'] + '/secret').read() == 'other'"),
    Attack(3, "write another agent's file", "return opens(facts['other'] + '/secret', os.O_WRONLY)"),
    Attack(4, "leave the workspace by dots", "return opens(os.getcwd() + '/..' * 9 + facts['other'] + '/secret')"),
    Attack(5, "leave it by an absolute link", "os.symlink(facts['other'] + '/secret', 'absolute'); return opens('absolute')"),
    Attack(
        6,
        "leave it by a relative link",
        "os.symlink('../' * 9 + facts['other'] + '/secret', 'relative'); return opens('relative')",
    ),
    Attack(9, "link another agent's file", "os.link(facts['other'] + '/secret', 'hard'); return True"),
    Attack(10, "list a home", "return bool(set(os.listdir(facts['home'])) - set(facts['shown']))"),
    Attack(11, "read the password file", "return ':' in open('/etc/shadow').read()"),
    Attack(12, "see the host's temporary folder", "return os.path.exists(facts['temporary'])"),
    Attack(
        13,
        "write system folders",
        "return any(in_child(lambda: opens(each, os.O_TMPFILE | os.O_RDWR)) for each in ('/usr', '/etc', '/usr/bin'))",
    ),
    Attack(14, "write the root", "return opens('/', os.O_TMPFILE | os.O_RDWR)"),
    Attack(15, "make a device node", "os.mknod('node', 0o600 | stat.S_IFCHR, os.makedev(1, 5)); return opens('node')"),
    Attack(21, "see the sidecar's process", "return facts['marker'] in open('/proc/%d/environ' % facts['pid']).read()"),
    Attack(
        22,
        "find a secret in any environment",
        """
for name in filter(str.isdecimal, os.listdir('/proc')):
    try:
        if name != str(os.getpid()) and facts['marker'] in open('/proc/' + name + '/environ').read(): return True
    except OSError: continue
return False""",
    ),
    Attack(23, "signal the sidecar", "os.kill(facts['pid'], 0); return True"),
    Attack(25, "trace a process", "return in_child(lambda: reached(101, 117, 0, 0, 0, 0))"),
    Attack(26, "read another process's memory", "return reached(310, 270, os.getpid(), 0, 0, 0, 0, 0)"),
    Attack(27, "take another process's descriptor", "return reached(438, 438, os.pidfd_open(os.getpid()), 0, 0)"),
    Attack(
        28,
        "go through the root of any process",
        """
for name in filter(str.isdecimal, os.listdir('/proc')):
    try:
        if opens('/proc/' + name + '/root' + facts['other'] + '/secret'): return True
    except OSError: continue
return False""",
    ),
    Attack(29, "use an inherited descriptor", "return any(os.path.exists('/proc/self/fd/%d' % each) for each in range(3, 64))"),
    Attack(30, "mount", "return reached(165, 40, b'none', b'/tmp', b'tmpfs', 0, b'size=4k')"),
    Attack(31, "remount the system writable", "return reached(165, 40, None, b'/', None, 0x1020, None)"),
    Attack(32, "unmount", "return reached(166, 39, b'/proc', 2)"),
    Attack(33, "unshare a user namespace", "return in_child(lambda: call(272, 97, 0x10000000)[0] == 0)"),
    Attack(
        34,
        "clone into a user namespace",
        """
def clone_user():
    pid = call(56, 220, 0x10000000 | 17, 0, 0, 0, 0)[0]
    if pid == 0: os._exit(0)
    return pid > 0
return in_child(clone_user)""",
    ),
    Attack(
        34,
        "clone3 into a user namespace",
        """
def clone_user():
    pid = call(435, 435, struct.pack('8Q', 0x10000000, 0, 0, 0, 17, 0, 0, 0), 64)[0]
    if pid == 0: os._exit(0)
    return pid > 0
return in_child(clone_user)""",
    ),
    Attack(35, "join a namespace", "return in_child(lambda: reached(308, 268, os.open('/proc/self/ns/uts', os.O_RDONLY), 0))"),
    Attack(36, "change root", "return in_child(lambda: reached(161, 51, os.getcwd().encode()))"),
    Attack(37, "load a BPF program", "return reached(321, 280, 0, ctypes.create_string_buffer(128), 128)"),
    Attack(38, "open performance counters", "return reached(298, 241, ctypes.create_string_buffer(128), 0, -1, -1, 0)"),
    Attack(39, "handle page faults", "return reached(323, 282, 0)"),
    Attack(40, "use io_uring", "return reached(425, 425, 1, 0)"),
    Attack(41, "add a key to a keyring", "return reached(248, 217, b'user', b'conductor-escape', b'x', 1, -2)"),
    Attack(42, "open by handle", "return reached(304, 265, -100, 0, 0)"),
    Attack(43, "load a kernel module", "return reached(313, 273, -1, b'', 0)", optional=True),
    Attack(43, "load another kernel", "return reached(246, 104, 0, 99999, 0, -1)", optional=True),
    Attack(44, "open the core pattern for writing", "return opens('/proc/sys/kernel/core_pattern', os.O_WRONLY)"),
    Attack(44, "open the system request trigger", "return opens('/proc/sysrq-trigger', os.O_WRONLY)", optional=True),
    Attack(
        45,
        "enter by the 32-bit gate",
        """
if os.uname().machine != 'x86_64': return False
def enter():
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(bytes.fromhex('53b814000000cd805bc3'))
    return ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))() == os.getpid()
return in_child(enter)""",
        optional=True,
    ),
    Attack(45, "enter by the x32 gate", "return call(0x40000000 + 39, -1)[0] == os.getpid()", optional=True),
    Attack(48, "become root", "os.setresuid(0, 0, 0); return True"),
    Attack(
        50,
        "get real-time priority",
        "return in_child(lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)) is None)",
    ),
    *(
        Attack(
            51,
            f"type into a terminal{note}",
            f"""
def type_one():
    main, other = os.openpty()
    os.setsid()
    import fcntl
    fcntl.ioctl(other, 0x540E, 0)
    return libc.ioctl(other, ctypes.c_ulong({number}), b'x') == 0
return in_child(type_one)""",
            optional=True,
        )
        for note, number in (("", 0x5412), (" with high bits", 0x5412 | 1 << 32))
    ),
    Attack(52, "connect to a port of the host", "socket.create_connection(('127.0.0.1', facts['port']), 1); return True"),
    Attack(53, "connect to an abstract socket", "socket.socket(socket.AF_UNIX).connect(chr(0) + facts['abstract']); return True"),
    Attack(54, "connect to somebody else's socket", "socket.socket(socket.AF_UNIX).connect(facts['path']); return True"),
    Attack(
        56,
        "send a datagram out",
        """
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.settimeout(1); udp.connect(('127.0.0.1', facts['datagram'])); udp.send(b'?')
return udp.recv(1) == b'!'""",
    ),
    Attack(57, "open a packet socket", "socket.socket(socket.AF_PACKET, socket.SOCK_RAW); return True"),
    Attack(57, "open a raw socket", "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1); return True"),
    Attack(57, "open a socket to the hypervisor", "socket.socket(40, socket.SOCK_STREAM); return True", optional=True),
    Attack(57, "open a kernel crypto socket", "socket.socket(38, socket.SOCK_SEQPACKET); return True", optional=True),
    Attack(68, "see the host's cgroups", "return bool(os.listdir('/sys/fs/cgroup'))"),
    Attack(72, "read the keys of the machine", "open('/proc/keys').read(); return True"),
)
