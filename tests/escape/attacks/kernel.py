"""Ways into the kernel and into its namespaces (cases 30-45 and 68)."""

from __future__ import annotations

from tests.escape.attacks.attack import MINIMAL, Attack

_NAMESPACES = {
    "a mount": 0x20000, "a cgroup": 0x2000000, "a name": 0x4000000, "an IPC": 0x8000000, "a process": 0x20000000,
    "a network": 0x40000000, "a time": 0x80,
}  # fmt: skip

_CLONE = """
def clone_user():
    pid = {call}
    if pid == 0: os._exit(0)
    return pid > 0
return in_child(clone_user)"""

_WRITABLE = {
    "the core pattern": "/proc/sys/kernel/core_pattern",
    "the module loader": "/proc/sys/kernel/modprobe",
    "the overcommit policy": "/proc/sys/vm/overcommit_memory",
    "the limit of user namespaces": "/proc/sys/user/max_user_namespaces",
    "the host's name": "/proc/sys/kernel/hostname",
    "the forwarding of packets": "/proc/sys/net/ipv4/ip_forward",
    "the system request trigger": "/proc/sysrq-trigger",
    "the device event helper": "/sys/kernel/uevent_helper",
    "the sleep state": "/sys/power/state",
    "interrupts": "/proc/irq/default_smp_affinity",
}

ATTACKS = (
    Attack(30, "mount", "return reached(165, 40, b'none', b'/tmp', b'tmpfs', 0, b'size=4k')"),
    Attack(30, "mount by the new calls", "return reached(430, 430, b'tmpfs', 0)"),
    Attack(30, "clone a mount", "return reached(428, 428, -100, b'/', 0)"),
    Attack(30, "move a mount", "return reached(429, 429, -1, b'', -1, b'', 0)"),
    Attack(31, "remount the system writable", "return reached(165, 40, None, b'/', None, 0x1020, None)"),
    Attack(31, "change a mount's attributes", "return reached(442, 442, -1, b'', 0, ctypes.create_string_buffer(32), 32)"),
    Attack(32, "unmount", "return reached(166, 39, b'/proc', 2)"),
    Attack(33, "unshare a user namespace", "return in_child(lambda: call(272, 97, 0x10000000)[0] == 0)", open_at=(MINIMAL,)),
    *(
        Attack(
            33, f"unshare {name} namespace", f"return in_child(lambda: call(272, 97, {flag})[0] == 0)", optional=name == "a time"
        )
        for name, flag in _NAMESPACES.items()
    ),
    Attack(
        34, "clone into a user namespace", _CLONE.format(call="call(56, 220, 0x10000000 | 17, 0, 0, 0, 0)[0]"), open_at=(MINIMAL,)
    ),
    Attack(34, "clone into a mount namespace", _CLONE.format(call="call(56, 220, 0x20000 | 17, 0, 0, 0, 0)[0]")),
    Attack(
        34,
        "clone3 into a user namespace",
        _CLONE.format(call="call(435, 435, struct.pack('8Q', 0x10000000, 0, 0, 0, 17, 0, 0, 0), 64)[0]"),
    ),
    Attack(35, "join a namespace", "return in_child(lambda: reached(308, 268, os.open('/proc/self/ns/uts', os.O_RDONLY), 0))"),
    Attack(
        35,
        "join the sidecar's namespaces",
        "return in_child(lambda: reached(308, 268, os.pidfd_open(facts['pid']), 0x4000000))",
    ),
    Attack(36, "change root", "return in_child(lambda: reached(161, 51, os.getcwd().encode()))"),
    Attack(36, "pivot the root", "return in_child(lambda: reached(155, 41, os.getcwd().encode(), os.getcwd().encode()))"),
    Attack(37, "load a BPF program", "return reached(321, 280, 0, ctypes.create_string_buffer(128), 128)"),
    Attack(38, "open performance counters", "return reached(298, 241, ctypes.create_string_buffer(128), 0, -1, -1, 0)"),
    Attack(39, "handle page faults", "return reached(323, 282, 0)"),
    Attack(40, "use io_uring", "return reached(425, 425, 1, 0)"),
    Attack(40, "enter io_uring", "return reached(426, 426, -1, 0, 0, 0, None, 0)"),
    Attack(40, "register with io_uring", "return reached(427, 427, -1, 0, None, 0)"),
    Attack(41, "add a key to a keyring", "return reached(248, 217, b'user', b'conductor-escape', b'x', 1, -2)"),
    Attack(41, "ask for a key", "return reached(249, 218, b'user', b'conductor-escape-none', None, 0)"),
    Attack(41, "look at a keyring", "return reached(250, 219, 0, -3, 0)"),
    Attack(42, "open by handle", "return reached(304, 265, -100, 0, 0)"),
    Attack(42, "make a handle", "return reached(303, 264, -100, b'/', None, None, 0)"),
    Attack(43, "load a kernel module", "return reached(313, 273, -1, b'', 0)", optional=True),
    Attack(43, "load a module from memory", "return reached(175, 105, None, 0, b'')", optional=True),
    Attack(43, "load another kernel", "return reached(246, 104, 0, 99999, 0, -1)", optional=True),
    Attack(43, "load another kernel from a file", "return reached(320, 294, -1, -1, 0, None, 0x80)", optional=True),
    *(
        Attack(44, f"open {name} for writing", f"return opens({path!r}, os.O_WRONLY)", optional=True)
        for name, path in _WRITABLE.items()
    ),
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
    Attack(45, "take on another personality", "return call(135, 92, 0x0040000)[0] >= 0"),
    Attack(45, "change the segment table", "return reached(154, -1, 0, None, 0)", optional=True),
    Attack(0, "restart the machine", "return reached(169, 142, 0, 0, 0, None)"),
    Attack(0, "set the clock", "return reached(227, 112, 0, 1)"),
    Attack(0, "swap to a file", "return reached(167, 224, b'/nonexistent', 0)", optional=True),
    Attack(0, "account processes", "return reached(163, 89, b'/nonexistent')", optional=True),
    Attack(0, "read the kernel's messages", "return reached(103, 116, 10, None, 0)"),
    Attack(0, "rename the host", "return in_child(lambda: call(170, 161, b'escape', 6)[0] == 0)"),
    Attack(0, "learn the host's name", "return os.uname().nodename == facts['hostname']", open_at=(MINIMAL,)),
    Attack(0, "watch a file system", "return reached(300, 262, 0, 0)", optional=True),
    Attack(0, "take secret memory", "return reached(447, 447, 0)", optional=True),
    Attack(0, "look into quotas", "return reached(443, 443, -1, 0, 0, None)", optional=True),
    Attack(0, "use hardware ports", "return in_child(lambda: reached(173, -1, 0x80, 1, 1))", optional=True),
    Attack(
        0, "read where the kernel lies", "return any(int(line.split()[0], 16) for line in open('/proc/kallsyms'))", optional=True
    ),
    Attack(0, "read the kernel's memory", "return opens('/proc/kcore')", optional=True),
    Attack(
        0,
        "attach a shared memory segment of the host",
        "return call(29, 194, facts['segment'], 0, 0)[0] >= 0",
        open_at=(MINIMAL,),
    ),
    Attack(68, "see the host's cgroups", "return bool(os.listdir('/sys/fs/cgroup'))"),
    Attack(
        68,
        "leave its cgroup",
        """
for folder, _, files in os.walk('/sys/fs/cgroup'):
    for name in {'cgroup.procs', 'tasks'} & set(files):
        try:
            if opens(folder + '/' + name, os.O_WRONLY): return True
        except OSError: continue
return False""",
    ),
    Attack(
        68,
        "have the kernel run a program at its end",
        "folders = [each for each, _, _ in os.walk('/sys/fs/cgroup')]\n"
        "return any(in_child(lambda: opens(each + '/release_agent', os.O_WRONLY)) for each in folders)",
        optional=True,
    ),
    Attack(
        68,
        "raise its own limit",
        """
for folder, _, files in os.walk('/sys/fs/cgroup'):
    for name in {'memory.limit_in_bytes', 'memory.max', 'pids.max', 'cpu.max', 'cpu.cfs_quota_us'} & set(files):
        try:
            if opens(folder + '/' + name, os.O_WRONLY): return True
        except OSError: continue
return False""",
    ),
)
