"""The launcher: a small process of its own that starts sandboxes, because the sidecar's threads must never be forked.

Its own program (`python -I -S launcher.py SOCKET PARENT`), standard library only, single-threaded; it imports as little as it
can, since every sidecar has one. It speaks datagrams of marshalled dictionaries (both ends are the same interpreter) over a
SOCK_SEQPACKET pair: `{"do": "start", ...}` with file descriptors, and `unstage`; it answers `ready`, `started`, `failed` and
`exited`. When the sidecar dies the kernel kills it, and with it every sandbox.

A root launcher takes a mount namespace of its own and a new root (a tmpfs, 0755) that holds the system, and by request the
folders an agent may use, each at its own absolute path and with plain empty folders as parents: an agent's uid then reaches
them although the home around them is private. The host's own tree stays below `/.host/root`, which only root may enter.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # signal and socket would bring enum: 1 MB
import _socket as socket
import ctypes
import marshal
import os
import resource
import select
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing would cost half a megabyte in every sidecar
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS, PR_SET_CHILD_SUBREAPER, PR_SET_SECCOMP = 1, 38, 36, 22
CLONE_NEWNS, CLONE_INTO_CGROUP, SYS_CLONE3 = 0x00020000, 0x200000000, 435
MS_BIND, MS_REC, MS_PRIVATE, MS_NOSUID, MS_NODEV, MNT_DETACH = 0x1000, 0x4000, 0x40000, 0x2, 0x4, 0x2
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
HOST = "/.host/root"
"""Where the host's own tree is; the folder above it is closed to everybody but root."""
SYSTEM = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc")
KERNEL = ("dev", "proc", "sys")
"""Shown without what is mounted below them: bubblewrap reads the whole mount table for each of its mounts."""
ORDER_LIMIT = 4096
DESCRIPTOR_LIMIT = 64
REPORT = 3
"""Descriptor in a new process on which it reports how far it came."""
_HELD = 512
"""Descriptors from here on are copies held while the final ones are put in their places."""

_libc = ctypes.CDLL(None, use_errno=True)


def main(arguments: Sequence[str]) -> int:
    """Serve the socket until the sidecar is gone."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(arguments[1]):
        return 1
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    os.umask(0o022)
    channel = socket.socket(fileno=int(arguments[0]))
    os.set_inheritable(channel.fileno(), False)  # noqa: FBT003 - it takes no keywords
    launcher = Launcher(channel)
    launcher.tell(did="ready", staging=_take_own_root() if os.geteuid() == 0 else "not root")
    launcher.serve()
    return 0


class Launcher:
    """Starts processes on order and tells how each ended."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._runs: dict[int, str] = {}
        self._staged: dict[str, int] = {}

    def tell(self, **message: object) -> None:
        """Send one message to the sidecar."""
        self._channel.send(marshal.dumps(message))

    def serve(self) -> None:
        """Handle orders and deaths, one at a time, until the other end of the socket is closed."""
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        poll.register(wake_read, select.POLLIN)
        while True:
            ready = dict(poll.poll())
            if wake_read in ready:
                _quietly(os.read, wake_read, 4096)
                self._reap()
            if self._channel.fileno() in ready and not self._obey():
                return

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            run = self._runs.pop(pid, None)
            if run is not None:
                self.tell(did="exited", run=run, status=status)

    def _obey(self) -> bool:
        data, descriptors = _receive(self._channel)
        if not data:
            return False
        message = marshal.loads(data)  # noqa: S302 - from the sidecar that started this process
        try:
            if message["do"] == "start":
                self._start(message["run"], descriptors)
            elif message["do"] == "unstage":
                for path in message["paths"]:
                    self._unstage(path)
        except OSError as error:
            self.tell(did="failed", run=message["run"], error=str(error))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def _start(self, run: str, descriptors: list[int]) -> None:
        """Start what the first descriptor (a memory file) describes; it says how many of the rest join groups."""
        size = os.fstat(descriptors[0]).st_size
        order = marshal.loads(os.pread(descriptors[0], size, 0))  # noqa: S302 - from the sidecar that started this process
        for path, source in order["stage"]:
            self._stage(path, source)
        parent = os.getpid()
        group = descriptors.pop() if order["into_group"] else -1
        try:
            pid, joined = _fork(group)
            if pid == 0:
                _become(order, descriptors[1:], parent, -1 if joined else group)
        finally:
            if group >= 0:
                os.close(group)
        self._runs[pid] = run
        self.tell(did="started", run=run, pid=pid)

    def _stage(self, path: str, source: str) -> None:
        """Show the host folder `source`, which has no symbolic links in it, at `path` in this namespace."""
        self._staged[path] = self._staged.get(path, 0) + 1
        if self._staged[path] > 1 or not os.path.isdir(HOST):  # noqa: PTH112  # pathlib would cost memory here
            return
        try:
            _show(path, source)
        except OSError:
            del self._staged[path]
            raise

    def _unstage(self, path: str) -> None:
        self._staged[path] = self._staged.get(path, 1) - 1
        if self._staged[path] > 0:
            return
        del self._staged[path]
        if os.path.isdir(HOST):  # noqa: PTH112
            _call("umount2", path.encode(), MNT_DETACH)
            _quietly(os.removedirs, path)


def _receive(channel: socket.socket) -> tuple[bytes, list[int]]:
    """Receive a message with its descriptors, closed on exec from the first moment (socket.recv_fds ignores its flags)."""
    space = socket.CMSG_SPACE(4 * DESCRIPTOR_LIMIT)
    data, extra, _flags, _address = channel.recvmsg(ORDER_LIMIT, space, socket.MSG_CMSG_CLOEXEC)
    content = b"".join(each for level, kind, each in extra if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS))
    return data, list(struct.unpack(f"{len(content) // 4}i", content[: len(content) // 4 * 4]))


def _take_own_root() -> str:
    """Move into a new mount namespace and root; return `ok` or why it is not possible."""
    number = SYS_PIVOT_ROOT.get(os.uname().machine)
    if number is None:
        return "pivot_root has no known number on this architecture"
    try:
        _call("unshare", CLONE_NEWNS)
        _mount(None, "/", None, MS_REC | MS_PRIVATE)
        _mount("conductor", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=16m")  # noqa: S108  # moved away by pivot_root
        os.mkdir("/tmp/.host", 0o700)  # noqa: S108, PTH102
        os.mkdir("/tmp/.host/root", 0o700)  # noqa: S108, PTH102
        _call("syscall", ctypes.c_long(number), b"/tmp", b"/tmp/.host/root")
        os.chdir("/")
        for name in SYSTEM:
            _show_system(name)
        for name in KERNEL:
            _mount(f"{HOST}/{name}", _made("/" + name), None, MS_BIND)
        for name in ("dev/pts", "dev/shm"):
            if os.path.isdir(f"{HOST}/{name}"):  # noqa: PTH112
                _mount(f"{HOST}/{name}", "/" + name, None, MS_BIND)
        for name in KERNEL:
            _call("umount2", f"{HOST}/{name}".encode(), MNT_DETACH)
        for name in ("tmp", "run", "workspace"):
            os.mkdir("/" + name, 0o755)  # noqa: PTH102
        _mount("conductor", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777,size=256m")  # noqa: S108
    except OSError as error:
        return str(error)
    return "ok"


def _show_system(name: str) -> None:
    source = f"{HOST}/{name}"
    if os.path.islink(source):  # noqa: PTH114
        os.symlink(os.readlink(source), "/" + name)  # noqa: PTH115, PTH211
    elif os.path.isdir(source):  # noqa: PTH112
        _show("/" + name, "/" + name)


def _made(path: str) -> str:
    os.mkdir(path, 0o755)  # noqa: PTH102
    return path


def _show(path: str, source: str) -> None:
    source = HOST + source
    if os.path.isdir(source):  # noqa: PTH112
        os.makedirs(path, 0o755, exist_ok=True)  # noqa: PTH103
    elif not os.path.lexists(path):
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)  # noqa: PTH103, PTH120
        os.close(os.open(path, os.O_CREAT | os.O_CLOEXEC, 0o644))
    _mount(source, path, None, MS_BIND | MS_REC)


def _fork(group: int) -> tuple[int, bool]:
    """Fork, straight into a version 2 group if there is one and the kernel can (Linux 5.7); return the pid and whether it could.

    Moving a process afterwards makes the kernel wait for every processor, which costs 10 ms (clone(2), CLONE_INTO_CGROUP).
    The raw call skips what the C library does for threads and locks around a fork: here is one thread, and it soon calls execve.
    """
    if group >= 0:
        words = (CLONE_INTO_CGROUP, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, group)
        arguments = struct.pack("11Q", *words)
        pid = _libc.syscall(ctypes.c_long(SYS_CLONE3), ctypes.c_char_p(arguments), ctypes.c_size_t(len(arguments)))
        if pid >= 0:
            return pid, True
    return os.fork(), False


def _become(order: Mapping[str, Any], descriptors: list[int], parent: int, group: int) -> None:
    """Turn this freshly forked process into what was ordered. Never returns."""
    report = -1
    step = "descriptors"
    try:
        joins = descriptors[len(descriptors) - order["joins"] :]
        given = descriptors[: len(descriptors) - order["joins"]]
        held = [os.dup2(each, _HELD + index, inheritable=False) for index, each in enumerate(given)]
        report = held[REPORT]
        step = "cgroup"
        _join(joins, group)
        step = "limits"
        _limit(order)
        step = "descriptors"
        for target, source in enumerate(held):
            os.dup2(source, target, inheritable=target != REPORT or order["reports"])
        os.closerange(len(held), _HELD)
        step = "identity"
        _switch(order["uid"], order["gid"])
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(125)
        step = "folder"
        os.chdir(order["folder"])
        step = "privileges"
        _give_up(order["seccomp"])
        step = "program"
        os.execve(order["program"], [os.fsencode(each) for each in order["argv"]], order["environment"])  # noqa: S606
    except (OSError, ValueError) as error:
        _quietly(os.write, report, f"launch {step}: {error}\n".encode())
    finally:
        os._exit(125)


def _join(files: Sequence[int], group: int) -> None:
    """Enter version 1 groups, and the version 2 group if this process was not born in it."""
    for descriptor in files:
        os.write(descriptor, b"0")
    if group >= 0:
        descriptor = os.open("cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=group)
        os.write(descriptor, b"0")
        os.close(descriptor)


def _give_up(seccomp: str) -> None:
    """Leave the launcher's session, signals and right to gain privileges behind; put on the filter if there is one."""
    os.setsid()
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    if seccomp:
        _filter(bytes.fromhex(seccomp))


def _limit(order: Mapping[str, Any]) -> None:
    for number, value in order["rlimits"]:
        _soft, hard = resource.getrlimit(number)
        allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (allowed, allowed))
    os.sched_setaffinity(0, order["processors"])
    os.nice(order["nice"])
    _quietly(_raise_oom_score)


def _raise_oom_score() -> None:
    """Have the kernel choose agents first when the whole machine runs out of memory (proc_pid_oom_score_adj(5))."""
    descriptor = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    os.write(descriptor, b"500")
    os.close(descriptor)


def _switch(uid: int, gid: int) -> None:
    """Give up root for good. uid 0 never gets past here (design: host uid 0 never runs an agent)."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    if 0 in os.getresuid():
        raise PermissionError("an agent may not run as host uid 0")


def _filter(program: bytes) -> None:
    """Put a system call filter on this process (seccomp(2), struct sock_fprog)."""
    code = ctypes.create_string_buffer(program, len(program))
    description = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    _call("prctl", PR_SET_SECCOMP, ctypes.c_ulong(2), ctypes.c_char_p(description), 0, 0)


def _quietly(action: Callable[..., object], *arguments: object) -> None:
    """Do what may fail without harm."""
    try:
        action(*arguments)
    except OSError:
        return


def _prctl(option: int, value: int) -> None:
    _call("prctl", option, ctypes.c_ulong(value), 0, 0, 0)


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    texts = [None if each is None else os.fsencode(each) for each in (source, target, kind, data)]
    _call("mount", texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3])


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
