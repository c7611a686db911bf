"""What keeps the set running: one thread, asleep until a program ends, a signal comes or something is due."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import time
from collections.abc import Callable, Iterable

from claude_conductor.supervisor import logs, processes, remains
from claude_conductor.supervisor.channel import Channel
from claude_conductor.supervisor.child import Child
from claude_conductor.supervisor.home import Home, remove_state, write_state
from claude_conductor.supervisor.setup import Program, Setup
from claude_conductor.supervisor.shutdown import Shutdown
from claude_conductor.supervisor.state import Phase, State
from claude_conductor.supervisor.tokens import Tokens
from claude_conductor.supervisor.wakeup import Wakeup

_STDERR = 2
_STOPS = (signal.SIGTERM, signal.SIGINT)


class Supervisor:
    """Starts the control plane, then the sidecars, and starts again whatever ends until it is told to stop."""

    def __init__(
        self, setup: Setup, tokens: Tokens, home: Home, *, monotonic: Callable[[], float], now: Callable[[], float]
    ) -> None:
        """Know the set; nothing is started. The caller holds the home's lock."""

        def child(program: Program, extra: dict[str, object]) -> Child:
            settings = {**program.settings, **extra}
            return Child(program, settings, home=home, policy=setup.restart, monotonic=monotonic, now=now)

        self._home = home
        self._grace = setup.grace
        self._monotonic, self._now = monotonic, now
        digests: dict[str, object] = {
            "sidecar_tokens": dict(tokens.sidecar_digests),
            "operator_token_sha256": tokens.operator_digest,
        }
        self._control_plane = child(setup.control_plane, digests) if setup.control_plane is not None else None
        self._sidecars = [child(each, {"token": tokens.sidecars[str(each.agent_id)]}) for each in setup.sidecars]
        self._selector = selectors.DefaultSelector()
        self._channel: Channel | None = None
        self._shutdown: Shutdown | None = None
        self._phase = Phase.STARTING
        self._started_at = now()
        self._next_log_check = monotonic() + logs.CHECK_EVERY
        self._pid = os.getpid()
        self._start_time = processes.start_time(self._pid) or 0
        self._boot_id = processes.boot_id()

    def run(self, ready: Callable[[], None]) -> None:
        """Run the set until SIGTERM or SIGINT ended it in order.

        Args:
            ready: Called once, when every program was started and supervisor.json says `running`.

        Raises:
            OSError: supervisor.json cannot be written at the start.
        """
        with Wakeup() as wakeup, self._selector:
            self._selector.register(wakeup, selectors.EVENT_READ)
            write_state(self._home, self._state())
            self._start(self._everyone())
            self._phase = Phase.RUNNING
            write_state(self._home, self._state())
            ready()
            while self._shutdown is None or not self._shutdown.finished:
                self._selector.select(self._patience())
                self._turn(wakeup.drain())
        if self._channel is not None:
            self._channel.close()
        for child in self._sidecars:
            remains.clear(self._home, str(child.program.agent_id))
        remove_state(self._home)

    def _everyone(self) -> list[Child]:
        return [*self._control_planes(), *self._sidecars]

    def _control_planes(self) -> list[Child]:
        """Return the control plane, if it is here."""
        return [self._control_plane] if self._control_plane is not None else []

    def _turn(self, signals: Iterable[int]) -> None:
        """Do everything that is due now."""
        before = self._state()
        for number in signals:
            if number in _STOPS:
                self._stop(number)
        for child in self._everyone():
            if child.reap():
                self._report_exit(child)
        if self._shutdown is not None:
            self._shutdown.advance(self._monotonic())
        else:
            self._start(child for child in self._everyone() if child.due is not None and child.due <= self._monotonic())
        self._bound_logs()
        self._flush()
        if self._state() != before:
            self._save()

    def _stop(self, number: int) -> None:
        now = self._monotonic()
        if self._shutdown is not None:
            self._shutdown.hurry(now)
            return
        log("stop", signal=number)
        self._phase = Phase.STOPPING
        self._save()
        self._shutdown = Shutdown([self._sidecars, self._control_planes()], self._grace, now)

    def _start(self, children: Iterable[Child]) -> None:
        for child in children:
            if child is self._control_plane:
                self._open_channel()
                started = child.start(self._channel)
                if self._channel is not None:
                    self._channel.theirs.close()
                self._tell_all()
            else:
                started = child.start()
                self._tell(child)
            if started:
                log("started", name=child.program.name, pid=child.pid)
            else:
                self._log_exit(child)

    def _report_exit(self, child: Child) -> None:
        if self._shutdown is not None:
            child.stopped()
        self._log_exit(child)
        if child is self._control_plane:
            self._close_channel()
        else:
            self._tell(child)

    def _log_exit(self, child: Child) -> None:
        last = child.last_exit
        delay = None if child.due is None else round(max(0.0, child.due - self._monotonic()), 3)
        log("ended", name=child.program.name, pid=child.last_pid, cause=last and last.cause, starts_again_in=delay)

    def _open_channel(self) -> None:
        self._close_channel()
        self._channel = Channel()

    def _close_channel(self) -> None:
        if self._channel is None:
            return
        if self._channel.fileno() in self._selector.get_map():
            self._selector.unregister(self._channel)
        if self._channel.dropped:
            log("supervision lines dropped", count=self._channel.dropped)
        self._channel.close()
        self._channel = None

    def _tell_all(self) -> None:
        """Tell a new control plane of every sidecar there is or was; at the first start there is none yet."""
        for child in self._sidecars:
            if child.last_pid is not None:
                self._tell(child)

    def _tell(self, child: Child) -> None:
        if self._channel is None or child.last_pid is None:
            return
        event: dict[str, object] = {
            "event": "sidecar_started" if child.pid is not None else "sidecar_exited",
            "agent_id": child.program.agent_id,
            "incarnation_pid": child.last_pid,
        }
        if child.pid is None and child.last_exit is not None:
            event["cause"] = child.last_exit.cause
        self._channel.put(event)
        self._flush()

    def _flush(self) -> None:
        """Send what can be sent, and wait for room only while something is left."""
        channel = self._channel
        if channel is None:
            return
        watched = channel.fileno() in self._selector.get_map()
        channel.flush()
        if channel.broken:  # the control plane closed its end
            self._close_channel()
        elif channel.pending and not watched:
            self._selector.register(channel, selectors.EVENT_WRITE)
        elif watched and not channel.pending:
            self._selector.unregister(channel)

    def _bound_logs(self) -> None:
        now = self._monotonic()
        if now < self._next_log_check:
            return
        self._next_log_check = now + logs.CHECK_EVERY
        try:
            logs.rotate(self._home.log("supervisor"))
            for child in self._everyone():
                child.bound_log()
        except OSError as error:
            log("a log cannot be cut", cause=str(error))

    def _patience(self) -> float:
        """Return the seconds until something is due; nothing is looked at in between."""
        moments = [self._next_log_check]
        if self._shutdown is not None:
            moments.append(self._shutdown.deadline)
        else:
            moments += [child.due for child in self._everyone() if child.due is not None]
        return max(0.0, min(moments) - self._monotonic())

    def _save(self) -> None:
        try:
            write_state(self._home, self._state())
        except OSError as error:  # a full disk must not end the set
            log("supervisor.json cannot be written", cause=str(error))

    def _state(self) -> State:
        return State(
            pid=self._pid,
            start_time=self._start_time,
            boot_id=self._boot_id,
            state=self._phase,
            children=tuple(child.state() for child in self._everyone()),
            started_at=self._started_at,
        )


def log(event: str, **fields: object) -> None:
    """Write one JSON line to the supervisor's log; never a setting, never a token."""
    line = json.dumps({"time": round(time.time(), 3), "component": "supervisor", "message": event, **fields}) + "\n"
    with contextlib.suppress(OSError):  # a full disk must not end the set
        os.write(_STDERR, line.encode())
