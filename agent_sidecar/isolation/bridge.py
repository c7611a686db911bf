"""The bridge: inside a sandbox without network, loopback ports that lead to the agent's Unix sockets.

Its own program (`python -I -S bridge.py PORT=NAME ...`), standard library only. It returns when every port listens and goes on
in the background; it ends with the sandbox. Nothing outside can reach it: the loopback interface is the sandbox's own.
"""

from __future__ import annotations

import os
import select
import socket
import sys

FOLDER = "/run/conductor"
CHUNK = 65536
CONNECTIONS = 256
"""Connections at a time; more wait in the listening queue."""


class Half:
    """One direction of a connection: what was read from `source` and not yet written to `target`."""

    def __init__(self, source: socket.socket, target: socket.socket) -> None:
        self.source = source
        self.target = target
        self.waiting = b""
        self.ended = False

    def pump(self) -> None:
        """Write what waits, else read once; never hold more than one chunk, so a slow reader slows the writer."""
        if not self.waiting and not self.ended:
            try:
                self.waiting = self.source.recv(CHUNK)
            except BlockingIOError:
                return
            self.ended = not self.waiting
            if self.ended:
                self.target.shutdown(socket.SHUT_WR)
        if self.waiting:
            try:
                self.waiting = self.waiting[self.target.send(self.waiting) :]
            except BlockingIOError:
                return


class Bridge:
    """All listening sockets and connections, in one epoll loop."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._epoll = select.epoll()
        self._listeners: dict[int, tuple[socket.socket, str]] = {}
        self._halves: dict[int, tuple[Half, Half]] = {}
        """By descriptor: the half that reads from it, and the half that writes to it."""
        self._events: dict[int, int] = {}

    def listen(self, port: int, name: str) -> int:
        """Listen on a loopback port; return its number (0 lets the kernel choose)."""
        listener = socket.create_server(("127.0.0.1", port), backlog=64)
        listener.settimeout(0.0)
        self._listeners[listener.fileno()] = (listener, name)
        self._epoll.register(listener, select.EPOLLIN)
        return int(listener.getsockname()[1])

    def serve(self) -> None:
        """Pump until the process is killed."""
        while True:
            self.turn(-1)

    def turn(self, seconds: float) -> None:
        """Handle what is ready, after waiting for at most `seconds` (-1: for ever)."""
        for descriptor, events in self._epoll.poll(seconds):
            if descriptor in self._listeners:
                self._accept(*self._listeners[descriptor])
            elif descriptor in self._halves:
                self._move(descriptor, events)

    def _accept(self, listener: socket.socket, name: str) -> None:
        try:
            client, _address = listener.accept()
        except OSError:
            return
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(f"{self._folder}/{name}")
        except OSError:
            client.close()
            server.close()
            return
        outward, inward = Half(client, server), Half(server, client)
        for one, reads, writes in ((client, outward, inward), (server, inward, outward)):
            one.settimeout(0.0)
            self._halves[one.fileno()] = (reads, writes)
            self._watch(one.fileno(), select.EPOLLIN)
        if len(self._halves) >= 2 * CONNECTIONS:
            self._hear_new(events=0)

    def _move(self, descriptor: int, events: int) -> None:
        reads, writes = self._halves[descriptor]
        try:
            if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                reads.pump()
            if events & select.EPOLLOUT and writes.waiting:
                writes.pump()
        except OSError:
            self._close(reads)
            return
        if reads.ended and writes.ended and not reads.waiting and not writes.waiting:
            self._close(reads)
            return
        for one in (reads.source, reads.target):
            mine, theirs = self._halves[one.fileno()]
            wanted = 0 if mine.ended or mine.waiting else select.EPOLLIN
            self._watch(one.fileno(), wanted | (select.EPOLLOUT if theirs.waiting else 0))

    def _watch(self, descriptor: int, events: int) -> None:
        """Wait for these events only; for none, leave the set, since epoll reports a hang-up whether asked or not."""
        before = self._events.get(descriptor, 0)
        if before == events:
            return
        if not events:
            self._epoll.unregister(descriptor)
        elif before:
            self._epoll.modify(descriptor, events)
        else:
            self._epoll.register(descriptor, events)
        self._events[descriptor] = events

    def _close(self, half: Half) -> None:
        if len(self._halves) >= 2 * CONNECTIONS:
            self._hear_new(events=select.EPOLLIN)
        for one in (half.source, half.target):
            self._watch(one.fileno(), 0)
            del self._halves[one.fileno()], self._events[one.fileno()]
            one.close()

    def _hear_new(self, events: int) -> None:
        for descriptor in self._listeners:
            self._epoll.modify(descriptor, events)


def main(arguments: list[str]) -> int:
    """Listen, then leave a process behind that serves."""
    bridge = Bridge(FOLDER)
    for argument in arguments:
        port, _, name = argument.partition("=")
        bridge.listen(int(port), name)
    if os.fork() != 0:
        return 0
    quiet = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(quiet, descriptor)
    os.setsid()
    bridge.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
