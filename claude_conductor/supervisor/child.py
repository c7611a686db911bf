"""What does the supervisor know of one program, and what happens when it starts and ends?"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping

from claude_conductor.supervisor import backoff, logs, processes, remains
from claude_conductor.supervisor.channel import Channel
from claude_conductor.supervisor.home import Home
from claude_conductor.supervisor.setup import Program
from claude_conductor.supervisor.spawn import spawn
from claude_conductor.supervisor.state import ChildState, Condition, LastExit


class Child:
    """One supervised program over all its lives."""

    def __init__(
        self,
        program: Program,
        settings: Mapping[str, object],
        *,
        home: Home,
        policy: backoff.RestartPolicy,
        monotonic: Callable[[], float],
        now: Callable[[], float],
    ) -> None:
        """Know the program; nothing is started."""
        self.program = program
        self.last_pid: int | None = None
        self.last_exit: LastExit | None = None
        self.due: float | None = None
        """When to start it again, in monotonic seconds."""
        self._settings = settings
        self._home = home
        self._log = home.log(program.name)
        self._policy = policy
        self._monotonic, self._now = monotonic, now
        self._process: subprocess.Popen[bytes] | None = None
        self._start_time: int | None = None
        self._started = 0.0
        self._log_offset = 0
        self._starts = 0
        self._failures = 0
        self._condition = Condition.STOPPED

    @property
    def pid(self) -> int | None:
        """The process, None while there is none."""
        return self._process.pid if self._process else None

    def start(self, channel: Channel | None = None) -> bool:
        """Start the program; False if that failed, which counts as an exit."""
        self.due = None
        self._starts += 1
        self._started = self._monotonic()
        try:
            logs.rotate(self._log)
            self._log_offset = logs.size(self._log)
            log = logs.open_log(self._log)
            try:
                self._process = spawn(self.program, self._settings, log, self._home.path, channel.theirs if channel else None)
            finally:
                os.close(log)
        except (OSError, subprocess.SubprocessError, ValueError) as error:  # ValueError: a null byte in argv or environment
            self._ended(None, f"cannot be started: {error}")
            return False
        self.last_pid = self._process.pid
        self._start_time = processes.start_time(self._process.pid)
        self._condition = Condition.RUNNING
        return True

    def reap(self) -> bool:
        """Take note if the program ended: kill what it left, and decide about the next start; True if it did."""
        if self._process is None or not _ended_but_unreaped(self._process.pid):
            return False
        processes.kill_group(self._process.pid)  # before reaping: until then nobody else can have this number
        returncode = self._process.wait()
        self._process, self._start_time = None, None
        if self.program.agent_id is not None:
            remains.kill_cgroups(self._home, self.program.agent_id)
        self._ended(returncode, backoff.cause(returncode))
        return True

    def terminate(self) -> None:
        """Ask the program to end in order; it is not started again."""
        self.due = None
        if self._process is None:
            self._condition = Condition.STOPPED if self._condition is not Condition.FAILED else self._condition
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Kill the program's whole process group."""
        if self._process is not None:
            processes.kill_group(self._process.pid)

    def stopped(self) -> None:
        """Take note that it ended because it was asked to."""
        self.due = None
        self._condition = Condition.STOPPED

    def bound_log(self) -> None:
        """Rotate its log if it is too large."""
        logs.rotate(self._log)

    def state(self) -> ChildState:
        """Return what supervisor.json says of it."""
        return ChildState(
            name=self.program.name,
            agent_id=self.program.agent_id,
            pid=self.pid,
            start_time=self._start_time,
            restarts=max(0, self._starts - 1),
            state=self._condition,
            last_exit=self.last_exit,
        )

    def _ended(self, returncode: int | None, cause: str) -> None:
        ran_for = self._monotonic() - self._started
        verdict = backoff.decide(1 if returncode is None else returncode, ran_for, self._failures, self._policy)
        self._failures = verdict.failures
        self.last_exit = LastExit(
            cause=cause,
            returncode=returncode,
            at=self._now(),
            ran_for=ran_for,
            log=logs.tail(self._log, self._log_offset),
        )
        self.due = None if verdict.delay is None else self._monotonic() + verdict.delay
        self._condition = Condition.FAILED if verdict.delay is None else Condition.WAITING


def _ended_but_unreaped(pid: int) -> bool:
    """Look without reaping (waitid(2), WNOWAIT)."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
