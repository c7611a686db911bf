import asyncio
import contextlib
import ctypes
import json
import os
import pwd
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

if "tests.contract.isolation_driver" not in sys.modules:
    pytest.register_assert_rewrite("tests.contract.isolation_driver")

from agent_sidecar.isolation.interface import Cause, Level
from agent_sidecar.isolation.process_driver import make_process_driver
from tests.contract.isolation_driver import FOLDERS, LOCKS, PYTHON, SMALL, UIDS, Sandbox
from tests.escape.attacks import Attack

APART = ("unshare", "--mount", "--uts", "--propagation", "private")
"""The controls run in namespaces of their own where they could harm the host otherwise."""
MARKER = "CONDUCTOR_ESCAPE_MARKER"
NOBODY = 65534


@dataclass(frozen=True)
class Target:
    """What there is to attack, and where the attacks stand when they are not in a sandbox."""

    facts: dict[str, object]
    outside: Path
    inheritable: int
    _controls: dict[str, str] = field(default_factory=dict)

    def control(self, attack: Attack) -> str:
        """Run the attack outside any sandbox and return its word; each once."""
        if attack.name not in self._controls:
            self._controls[attack.name] = self._control(attack)
        return self._controls[attack.name]

    def _control(self, attack: Attack) -> str:
        folder = self.outside / secrets.token_hex(4)
        folder.mkdir()
        if attack.plant is not None:
            attack.plant(folder)
        if attack.as_nobody:
            os.chown(folder, NOBODY, NOBODY)
        text = json.dumps({**self.facts, "become": NOBODY if attack.as_nobody else 0})
        done = subprocess.run(
            [*APART, sys.executable, "-I", "-c", attack.program, text],
            cwd=folder, capture_output=True, text=True, timeout=30, check=False, pass_fds=(self.inheritable,),
        )  # fmt: skip
        return done.stdout.split(" ")[0].strip() or f"died: {done.stderr[-300:]}"

    @property
    def text(self) -> str:
        return json.dumps({**self.facts, "become": 0})


@dataclass(frozen=True)
class Inside:
    """A sandbox, and the event loop it lives on."""

    runner: asyncio.Runner
    sandbox: Sandbox

    def verdict(self, attack: Attack, target: Target, level: Level) -> tuple[str, str]:
        """Run the attack in a fresh sandbox; return its word, and everything it said."""
        workspace = self.sandbox.base / secrets.token_hex(4)
        workspace.mkdir(mode=0o700)
        os.chown(workspace, self.sandbox.driver.agent_uid, self.sandbox.driver.agent_uid)
        if attack.plant is not None:
            attack.plant(workspace)
        argv = (str(PYTHON), "-I", "-c", attack.program, target.text)
        limits = replace(SMALL, **attack.limits)  # type: ignore[arg-type]  # the names are those of Limits
        ended = self.runner.run(self.sandbox.run(*argv, toolchains=FOLDERS, level=level, limits=limits, workspace=workspace))
        if attack.limits and ended.exit.cause is Cause.OUT_OF_MEMORY:
            return "BLOCKED", ended.exit.detail
        assert ended.exit.cause is Cause.EXITED, (ended.exit, ended.stderr)
        return ended.stdout.split(" ")[0].strip(), ended.stdout + ended.stderr


@contextlib.contextmanager
def answering_datagrams() -> Iterator[int]:
    """Answer `!` to every datagram on a loopback port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def answer() -> None:
            while True:
                data, sender = server.recvfrom(512)
                if data == b"stop":
                    return
                server.sendto(b"!", sender)

        thread = threading.Thread(target=answer, name="datagram server")
        thread.start()
        port = server.getsockname()[1]
        yield port
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"stop", ("127.0.0.1", port))
        thread.join(5)


@contextlib.contextmanager
def shared_segment() -> Iterator[int]:
    """Make a System V segment that everybody may attach; yield its key (shmget(2))."""
    libc, key = ctypes.CDLL(None, use_errno=True), secrets.randbelow(1 << 30) + 1
    segment = libc.shmget(key, 4096, 0o1666)
    assert segment >= 0, os.strerror(ctypes.get_errno())
    try:
        yield key
    finally:
        libc.shmctl(segment, 0, None)


def listening_at(path: Path, stack: contextlib.ExitStack) -> str:
    """Listen on a socket everybody may write to."""
    server = stack.enter_context(socket.socket(socket.AF_UNIX))
    server.bind(str(path))
    server.listen()
    path.chmod(0o777)
    return str(path)


def tcp_ports(stack: contextlib.ExitStack) -> tuple[int, int]:
    """Listen on every loopback address; return the port by IPv4 and by IPv6 (0: the host has none)."""
    four = stack.enter_context(socket.create_server(("0.0.0.0", 0)))  # noqa: S104  # so that all of 127/8 leads there
    try:
        six = stack.enter_context(socket.create_server(("::1", 0), family=socket.AF_INET6)).getsockname()[1]
    except OSError:
        six = 0
    return four.getsockname()[1], six


def a_user_of_the_host() -> str:
    """Return a user the sandbox's own /etc does not have."""
    return next(each.pw_name for each in pwd.getpwall() if each.pw_name not in ("root", "agent", "nobody"))


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    if os.geteuid() != 0:
        pytest.skip("the controls need root: only root may do outside what an agent may not do inside")
    base = tmp_path_factory.mktemp("target")
    other, outside, state, repository = (base / each for each in ("other", "outside", "state", "main.git"))
    for folder in (other, outside, state, repository, repository / "hooks"):
        folder.mkdir()
    (repository / "config").touch()
    outside.chmod(0o711)
    (other / "secret").write_text("other")
    (other / "victim").write_text("victim")
    (state / "journal").write_text("state")
    with contextlib.ExitStack() as stack:
        port, port6 = tcp_ports(stack)
        abstract = f"conductor-escape-{secrets.token_hex(4)}"
        named = stack.enter_context(socket.socket(socket.AF_UNIX))
        named.bind("\0" + abstract)
        named.listen()
        path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="conductor-escape-")))
        shared = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="conductor-escape-", dir="/dev/shm")))
        path.chmod(0o755)
        held = os.open("/etc/passwd", os.O_RDONLY)
        os.set_inheritable(held, True)
        stack.callback(os.close, held)
        bystander = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)", MARKER], env={MARKER: MARKER},
            start_new_session=True,
        )  # fmt: skip
        stack.callback(bystander.wait)
        stack.callback(bystander.kill)
        home = Path.home()
        disks = [each for each in map(Path, ("/dev/vda", "/dev/sda", "/dev/nvme0n1", "/dev/loop0")) if each.exists()]
        litter = f"conductor-escape-{secrets.token_hex(4)}"
        stack.callback(remove_litter, Path("/dev/shm") / litter)
        facts: dict[str, object] = {
            "other": str(other), "home": str(home), "shown": [each.name for each in shown_in(home)], "temporary": str(path),
            "marker": MARKER[::-1], "pid": bystander.pid, "port": port, "port6": port6, "abstract": abstract,
            "path": listening_at(path / "s", stack), "neighbour": listening_at(path / "agent.sock", stack),
            "engine": listening_at(path / "docker.sock", stack), "datagram": stack.enter_context(answering_datagrams()),
            "user": a_user_of_the_host(), "shared": str(shared), "state": str(state), "repository": str(repository),
            "hostname": os.uname().nodename,
            "segment": stack.enter_context(shared_segment()), "disk": Path("/").stat().st_dev,
            "disk_path": str(disks[0] if disks else "/dev/none"), "litter": litter,
        }  # fmt: skip
        yield Target(facts, outside, held)


def remove_litter(folder: Path) -> None:
    """Remove what the flood of files left where a level has no /dev/shm of its own."""
    if folder.exists():
        for name in os.listdir(folder):  # noqa: PTH208  # tens of thousands
            (folder / name).unlink()
        folder.rmdir()


def shown_in(home: Path) -> list[Path]:
    """Return the entries of a home that lead to the interpreter, which is shown as a toolchain."""
    prefixes = [Path(each) for each in (sys.base_prefix, sys.prefix)]
    return [home / each.relative_to(home).parts[0] for each in prefixes if each.is_relative_to(home)]


@pytest.fixture(scope="module")
def inside(target: Target, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    base = tmp_path_factory.mktemp("sandbox")
    with asyncio.Runner() as runner:

        async def make() -> Sandbox:
            return Sandbox(make_process_driver(base / "state", LOCKS, uid_range=UIDS), base)

        sandbox = runner.run(make())
        yield Inside(runner, sandbox)
        runner.run(sandbox.driver.close())
