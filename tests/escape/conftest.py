import asyncio
import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

if "tests.contract.isolation_driver" not in sys.modules:
    pytest.register_assert_rewrite("tests.contract.isolation_driver")

from agent_sidecar.isolation.process_driver import make_process_driver
from tests.contract.isolation_driver import LOCKS, Sandbox
from tests.escape.attacks import Attack

APART = ("unshare", "--mount", "--ipc", "--uts", "--propagation", "private")
MARKER = "CONDUCTOR_ESCAPE_MARKER"


@dataclass(frozen=True)
class Target:
    """What there is to attack, and where the attacks stand when they are not in a sandbox."""

    facts: dict[str, object]
    outside: Path
    inheritable: int

    def control(self, attack: Attack) -> str:
        """Run the attack outside any sandbox, in a mount namespace of its own so that it harms nothing, and return its word."""
        folder = self.outside / secrets.token_hex(4)
        folder.mkdir()
        done = subprocess.run(
            [*APART, sys.executable, "-I", "-c", attack.program, self.text],
            cwd=folder, capture_output=True, text=True, timeout=20, check=False, pass_fds=(self.inheritable,),
        )  # fmt: skip
        return done.stdout.split(" ")[0].strip() or f"died: {done.stderr[-300:]}"

    @property
    def text(self) -> str:
        return json.dumps(self.facts)


@contextlib.contextmanager
def answering_datagrams() -> Iterator[int]:
    """Answer `!` to every datagram on a loopback port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def answer() -> None:
            while True:
                data, sender = server.recvfrom(9)
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


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    if os.geteuid() != 0:
        pytest.skip("the controls need root: only root may do outside what an agent may not do inside")
    base = tmp_path_factory.mktemp("target")
    other, outside = base / "other", base / "outside"
    for folder in (other, outside):
        folder.mkdir()
    (other / "secret").write_text("other")
    with contextlib.ExitStack() as stack:
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        abstract = f"conductor-escape-{secrets.token_hex(4)}"
        named = stack.enter_context(socket.socket(socket.AF_UNIX))
        named.bind("\0" + abstract)
        named.listen()
        path = stack.enter_context(tempfile.TemporaryDirectory(prefix="conductor-escape-"))
        pathname = stack.enter_context(socket.socket(socket.AF_UNIX))
        pathname.bind(f"{path}/s")
        pathname.listen()
        Path(f"{path}/s").chmod(0o777)
        Path(path).chmod(0o755)
        held = os.open("/etc/passwd", os.O_RDONLY)
        os.set_inheritable(held, True)
        stack.callback(os.close, held)
        bystander = subprocess.Popen(["sleep", "300"], env={MARKER: MARKER})
        stack.callback(bystander.wait)
        stack.callback(bystander.kill)
        home = Path.home()
        facts: dict[str, object] = {
            "other": str(other), "home": str(home), "shown": [each.name for each in shown_in(home)], "temporary": path,
            "marker": MARKER, "pid": bystander.pid, "port": tcp.getsockname()[1], "abstract": abstract, "path": f"{path}/s",
            "datagram": stack.enter_context(answering_datagrams()),
        }  # fmt: skip
        yield Target(facts, outside, held)


def shown_in(home: Path) -> list[Path]:
    """Return the entries of a home that lead to the interpreter, which is shown as a toolchain."""
    prefixes = [Path(each) for each in (sys.base_prefix, sys.prefix)]
    return [home / each.relative_to(home).parts[0] for each in prefixes if each.is_relative_to(home)]


@pytest.fixture(scope="module")
def inside(target: Target, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.Runner, Sandbox]]:
    base = tmp_path_factory.mktemp("sandbox")
    with asyncio.Runner() as runner:

        async def make() -> Sandbox:
            return Sandbox(make_process_driver(base / "state", LOCKS), base)

        sandbox = runner.run(make())
        yield runner, sandbox
        runner.run(sandbox.driver.close())
