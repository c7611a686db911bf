"""A sandbox that may reach one host by its list reaches that one and no other, however the other is written (cases 58-60)."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from agent_sidecar.egress.door import PORT, SOCKET, Decision, EgressDoor, open_proxy
from agent_sidecar.untrusted.doorway import Owner
from tests.contract.isolation_driver import FOLDERS, PYTHON
from tests.escape.conftest import Inside

pytestmark = pytest.mark.root

ASK = """
import socket, sys
def ask(written):
    with socket.create_connection(('127.0.0.1', {proxy}), 5) as wire:
        wire.sendall(b'CONNECT ' + written + b' HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')
        wire.settimeout(5)
        return wire.recv(64).split(b' ')[1:2] == [b'200']
written = eval(sys.argv[1])
try: print('OPEN' if ask(written) else 'BLOCKED')
except OSError as error: print('BLOCKED', error)
"""
ALLOWED = "localhost"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A host that is there, on a loopback port: outside the sandbox all of the ways below lead to it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
        stop = threading.Event()

        def serve() -> None:
            while not stop.is_set():
                server.accept()[0].close()

        thread = threading.Thread(target=serve, name="host")
        thread.start()
        yield number
        stop.set()
        socket.create_connection(("127.0.0.1", number), 5).close()
        thread.join(5)


WAYS = {
    "null byte": (58, b"evil.example\0.localhost:%d"),
    "null byte behind": (58, b"localhost\0.evil.example:%d"),
    "escaped null byte": (58, b"localhost%%00.evil.example:%d"),
    "suffix": (58, b"localhost.evil.example:%d"),
    "prefix": (58, b"evil-localhost:%d"),
    "address": (58, b"127.0.0.1:%d"),
    "short address": (58, b"127.1:%d"),
    "decimal address": (58, b"2130706433:%d"),
    "hexadecimal address": (58, b"0x7f.1:%d"),
    "octal address": (58, b"0177.0.0.1:%d"),
    "IPv6": (58, b"[::1]:%d"),
    "mapped IPv6": (58, b"[::ffff:127.0.0.1]:%d"),
    "any address": (58, b"0.0.0.0:%d"),
    "metadata service": (58, b"169.254.169.254:80"),
    "name and password": (58, b"localhost@127.0.0.1:%d"),
    "another port": (58, b"localhost:1"),
    "other alphabet": (58, "l\u03bfcalhost:%d".encode()),
    "data in a name": (59, b"c2VjcmV0.evil.example:%d"),
}
SAME = {"as listed": b"localhost:%d", "capitals": b"LOCALHOST:%d", "final dot": b"localhost.:%d"}


def ask(inside: Inside, port: int, written: bytes) -> tuple[str, list[Decision]]:
    """Ask the proxy from inside; return the verdict, and what was decided."""
    decisions: list[Decision] = []
    sandbox = inside.sandbox
    uid = sandbox.driver.agent_uid

    async def go() -> str:
        door = EgressDoor(sandbox.sockets / SOCKET, (f"internal:{ALLOWED}:{port}",), decisions.append, owner=Owner(uid, uid))
        proxy = await open_proxy(door)
        try:
            text = ASK.format(proxy=PORT)
            target = written % port if b"%d" in written else written
            ended = await sandbox.run(str(PYTHON), "-I", "-c", text, repr(target), toolchains=FOLDERS, bridges={PORT: SOCKET})
        finally:
            await proxy.close()
        return ended.stdout.split(" ")[0].strip() or ended.stderr

    return inside.runner.run(go()), decisions


@pytest.mark.parametrize("way", SAME)
def test_the_host_on_the_list_is_reached_however_it_is_written(inside: Inside, port: int, way: str):
    verdict, decisions = ask(inside, port, SAME[way])
    assert verdict == "OPEN", decisions


@pytest.mark.parametrize("way", WAYS)
def test_no_other_way_of_writing_leads_past_the_list(inside: Inside, port: int, way: str):
    verdict, decisions = ask(inside, port, WAYS[way][1])
    assert verdict == "BLOCKED"
    assert [each.rule for each in decisions] in ([], [""]), "refused before any name was looked up"
