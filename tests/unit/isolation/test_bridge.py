import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_sidecar.isolation.bridge import Bridge


@pytest.fixture
def echo(tmp_path: Path) -> Iterator[str]:
    """A Unix socket that sends everything back and closes when its client does."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "echo"))
        server.listen()
        server.settimeout(5)

        def serve() -> None:
            client, _ = server.accept()
            with client:
                client.settimeout(5)
                while data := client.recv(65536):
                    client.sendall(data)

        thread = threading.Thread(target=serve, name="echo")
        thread.start()
        yield "echo"
        thread.join(5)


class Turning:
    """A bridge that turns in a thread until it is told to stop."""

    def __init__(self, folder: Path) -> None:
        self.bridge = Bridge(str(folder))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._turn, name="bridge")

    def _turn(self) -> None:
        while not self._stop.is_set():
            self.bridge.turn(0.01)

    def __enter__(self) -> Bridge:
        self._thread.start()
        return self.bridge

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(5)


@pytest.mark.parametrize("size", [1, 100_000, 5_000_000])
def test_everything_sent_comes_back_and_the_end_passes_through(tmp_path: Path, echo: str, size: int):
    sent = bytes(range(256)) * (size // 256 + 1)
    turning = Turning(tmp_path)
    port = turning.bridge.listen(0, echo)
    with turning, socket.create_connection(("127.0.0.1", port), 5) as client:
        sender = threading.Thread(target=lambda: (client.sendall(sent), client.shutdown(socket.SHUT_WR)), name="sender")
        sender.start()
        got = bytearray()
        while data := client.recv(65536):
            got += data
        sender.join(5)
    assert bytes(got) == sent
    close(turning.bridge)


def test_a_socket_nobody_listens_on_closes_the_connection(tmp_path: Path):
    turning = Turning(tmp_path)
    port = turning.bridge.listen(0, "none")
    with turning, socket.create_connection(("127.0.0.1", port), 5) as client:
        assert client.recv(1) == b""
    close(turning.bridge)


def test_only_loopback_is_listened_on(tmp_path: Path):
    bridge = Bridge(str(tmp_path))
    bridge.listen(0, "x")
    assert [each.getsockname()[0] for each, _ in bridge._listeners.values()] == ["127.0.0.1"]
    close(bridge)


def close(bridge: Bridge) -> None:
    for listener, _ in bridge._listeners.values():
        listener.close()
    for half, _ in bridge._halves.values():
        half.source.close()
    bridge._epoll.close()
