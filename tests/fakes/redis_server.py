"""A real redis-server in a folder of its own, on a Unix socket, with an append-only file; and one or several in a test run."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 20.0
BINARY = shutil.which("redis-server")
needs_redis = pytest.mark.skipif(BINARY is None, reason="redis-server is not installed (Debian: apt install redis-server)")


class RedisServer:
    """Options are those of redis.conf, as on its command line."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.socket = folder / "redis.sock"
        self.user = ""
        """Who uses it, with an @ behind."""
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._prefixes = itertools.count()

    @property
    def url(self) -> str:
        return f"unix://{self.user}{self.socket}"

    def fresh(self) -> str:
        """Return an address under which nothing is stored yet."""
        return f"{self.url}?prefix=test-{next(self._prefixes)}"

    def start(self) -> RedisServer:
        self.folder.mkdir(parents=True, exist_ok=True)
        durable = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
        here = ("--dir", str(self.folder), "--unixsocket", str(self.socket), "--unixsocketperm", "700", "--port", "0")
        assert BINARY is not None
        log = (self.folder / "redis.log").open("ab")
        self._process = subprocess.Popen([BINARY, *here, *durable, *self._options], stdout=log, stderr=log)
        log.close()
        deadline = time.monotonic() + SECONDS
        while self.ask("PING") != b"+PONG\r\n":
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError((self.folder / "redis.log").read_text())
            time.sleep(0.01)
        return self

    def ask(self, *words: str) -> bytes:
        """Return the first bytes of the answer to a command; those of an error if it cannot be asked."""
        with socket.socket(socket.AF_UNIX) as link, contextlib.suppress(OSError):
            link.settimeout(SECONDS)
            link.connect(str(self.socket))
            link.sendall(_packed(words))
            return link.recv(65_536)
        return b""

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it and wait until it is gone."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(SECONDS)
            self._process = None


@contextlib.contextmanager
def running(*options: str) -> Iterator[RedisServer]:
    """Run a server in a short folder: paths of sockets must not be long."""
    folder = Path(tempfile.mkdtemp(prefix="redis-"))
    server = RedisServer(folder, *options)
    try:
        yield server.start()
    finally:
        server.stop(signal.SIGKILL)
        shutil.rmtree(folder)


def _packed(words: Sequence[str]) -> bytes:
    parts = [b"*%d\r\n" % len(words)]
    parts += [b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in words]
    return b"".join(parts)
