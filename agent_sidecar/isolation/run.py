"""One running sandbox: its start, its streams, its signals, its end, and that nothing of it is left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from agent_sidecar.isolation import commands, output
from agent_sidecar.isolation.barriers import etc, selftest
from agent_sidecar.isolation.commands import Setting
from agent_sidecar.isolation.ending import Ending, explain
from agent_sidecar.isolation.interface import Exit, Level, Plan, Stats
from agent_sidecar.isolation.kernel.cgroups import RunGroups
from agent_sidecar.isolation.launcher_client import LauncherClient
from agent_sidecar.isolation.launcher_client import write_all as fill
from claude_conductor.clock import Clock
from claude_conductor.errors import IsolationRefusedError, StartFailedError

START_SECONDS = 15.0
KILL_SECONDS = 10.0
_REPORT_BYTES = 4096
_CREDENTIALS = struct.Struct("3i")
"""struct ucred: pid, uid, gid (unix(7))."""
_STDERR_SHOWN = 2000


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a run shares with the other runs of its sidecar."""

    setting: Setting
    launcher: LauncherClient
    clock: Clock
    bridge_text: bytes
    stragglers: Callable[[int], frozenset[int]]
    """Returns what is left of the run with this process id where there are no groups that tell."""


class Run:
    """A handle (see `interface.Handle`)."""

    def __init__(self, surroundings: Surroundings, plan: Plan, groups: RunGroups) -> None:
        self._around = surroundings
        self._plan = plan
        self._spec = commands.shown(surroundings.setting, plan.spec)
        self._groups = groups
        self._pid = 0
        self._agent = -1
        self._stdin = -1
        self._report: socket.socket | None = None
        self._stream: output.OutputStream | None = None
        self._ended = asyncio.Event()
        self._began = asyncio.Event()
        self._status = 0
        self._exit: Exit | None = None
        self._start_error = ""
        self._stop_asked = False
        self._ordered = False
        self._clean = False
        self._ending = asyncio.Lock()

    @property
    def pid(self) -> int:
        """Process id of the sandbox's outermost process on the host."""
        return self._pid

    @property
    def clean(self) -> bool:
        """Nothing is left of it."""
        return self._clean

    @property
    def group(self) -> str:
        """Name of its groups."""
        return self._groups.name

    async def begin(self) -> None:
        """Start it and wait until its self-test has passed.

        Raises:
            IsolationRefusedError: The self-test found a mechanism not in force; nothing is left of the run.
            StartFailedError: The launcher or the kernel refused; nothing is left of the run.
        """
        try:
            self._launch()
            async with asyncio.timeout(START_SECONDS):
                await self._began.wait()
                await self._hear_report()
        except TimeoutError as error:
            await self._destroy()
            raise StartFailedError("The sandbox did not report within its time.", seconds=START_SECONDS) from error
        except OSError as error:
            await self._destroy()
            raise StartFailedError("The sandbox could not be set up.", cause=error) from error
        except BaseException:
            await self._destroy()
            raise

    def output(self) -> AsyncIterator[tuple[str, bytes]]:
        """Yield (`stdout` | `stderr`, chunk) until both are closed. May be iterated once."""
        if self._stream is None or self._stream.taken:
            raise StartFailedError("The output of a run can be read once.", run=self._spec.run_id)
        return self._stream.chunks()

    async def write_stdin(self, data: bytes) -> None:
        """Write to standard input and close it. At most once."""
        descriptor, self._stdin = self._stdin, -1
        if descriptor >= 0:
            await output.write_all(descriptor, data)

    async def wait(self) -> Exit:
        """Return when the process tree has ended."""
        await self._ended.wait()
        return self._explained()

    async def stats(self) -> Stats:
        """Return the use so far; after the end, the last known."""
        return self._groups.stats()

    def signal(self, number: int) -> None:
        """Send a signal to the agent's process; nothing happens if it has ended."""
        if self._agent >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._agent, number)

    async def stop(self, grace: float) -> Exit:
        """End it: TERM, `grace` seconds, kill, reap, verify that nothing is left, remove the groups.

        Raises:
            StartFailedError: Something survived every attempt for 10 s.
        """
        async with self._ending:
            if not self._ended.is_set():
                self._stop_asked = True
                self.signal(signal.SIGTERM)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(grace):
                        await self._ended.wait()
            await self._clean_up()
            return self._explained()

    def _launch(self) -> None:
        setting, spec = self._around.setting, self._spec
        capped = commands.capped_folder(setting, spec)
        if not (capped / "meminfo").exists():
            etc.build_capped(capped, spec.limits)
        self._groups.create(spec.limits)
        given: list[int] = []
        try:
            given += self._streams()
            given += [self._reporting(), *self._memories()]
            joins = [os.open(path, os.O_WRONLY | os.O_CLOEXEC) for path in self._groups.join_files()]
            given += joins
            group = self._groups.birth_group()
            if group is not None:
                given.append(os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            order = commands.order(setting, self._plan, spec, len(joins), into_group=group is not None)
            self._around.launcher.listen(spec.run_id, self._told)
            self._around.launcher.start(spec.run_id, order, given)
            self._ordered = True
        finally:
            for descriptor in given:
                os.close(descriptor)

    def _streams(self) -> list[int]:
        """Make the three pipes; the agent's uid owns its ends, so that it can open /dev/stdout by name."""
        stdin, self._stdin = os.pipe2(os.O_CLOEXEC)
        out, stdout = os.pipe2(os.O_CLOEXEC)
        err, stderr = os.pipe2(os.O_CLOEXEC)
        self._stream = output.OutputStream(out, err)
        theirs = [stdin, stdout, stderr]
        if self._around.setting.uid != os.geteuid():
            for descriptor in theirs:
                os.fchown(descriptor, self._around.setting.uid, self._around.setting.gid)
        return theirs

    def _reporting(self) -> int:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        ours.settimeout(0.0)
        self._report = ours
        return theirs.detach()

    def _memories(self) -> list[int]:
        setting, spec = self._around.setting, self._spec
        texts = [commands.sandbox_arguments(setting, spec), setting.seccomp]
        if self._plan.effective_level is Level.MINIMAL:
            texts = []
        elif spec.bridges:
            texts.append(self._around.bridge_text)
        made: list[int] = []
        for text in texts:
            made.append(os.memfd_create("conductor", os.MFD_CLOEXEC))
            fill(made[-1], text)
        return made

    def _told(self, message: dict[str, Any]) -> None:
        """Take a message of the launcher."""
        if message["did"] == "started":
            self._pid = message["pid"]
            self._began.set()
            return
        self._status = message.get("status", 0)
        if message["did"] == "failed":
            self._start_error = message["error"]
        self._began.set()
        self._groups.stats()
        self._ended.set()

    async def _hear_report(self) -> None:
        """Wait for the first word of the new process and draw the consequence.

        The kernel says who sent it (SCM_CREDENTIALS): that is the agent's process id on the host.
        """
        if self._report is None or self._start_error:
            return
        text, pid = await self._receive(self._report)
        word, _, rest = text.partition(" ")
        if word == selftest.READY:
            self._let_go(self._report, pid)
        elif not text and self._plan.effective_level is Level.MINIMAL:
            self._agent = _descriptor_of(self._pid)
        elif word == selftest.FAILED:
            raise IsolationRefusedError("The sandbox found that a mechanism is not in force.", found=rest)
        elif word == selftest.NO_PROGRAM:
            self._start_error = f"the program {rest} is not visible in the sandbox; name its folder as a toolchain"
        else:
            await self._ended.wait()
            said = self._stream.read_now(_STDERR_SHOWN).decode(errors="replace").strip() if self._stream else ""
            self._start_error = text or said or "the sandbox ended before it was entered"
        self._report.close()
        self._report = None

    def _let_go(self, report: socket.socket, pid: int) -> None:
        """Inspect the waiting process from outside; only one that is as planned may become the agent."""
        self._agent = _descriptor_of(pid)
        found = selftest.inspect(pid, self._around.setting.uid)
        if found:
            raise IsolationRefusedError("The sandbox is not as planned.", found="; ".join(found))
        report.send(selftest.GO)

    async def _receive(self, report: socket.socket) -> tuple[str, int]:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(report.fileno(), ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(report.fileno())
        data, extra, _flags, _address = report.recvmsg(_REPORT_BYTES, socket.CMSG_SPACE(_CREDENTIALS.size))
        pids = [_CREDENTIALS.unpack(content)[0] for _level, kind, content in extra if kind == socket.SCM_CREDENTIALS]
        return data.decode(errors="replace").strip(), pids[0] if pids else 0

    def _explained(self) -> Exit:
        if self._exit is None:
            ending = Ending(self._status, self._groups.stats(), self._spec.limits, self._stop_asked, self._start_error)
            self._exit = explain(ending)
        return self._exit

    async def _destroy(self) -> None:
        """Leave nothing of a start that failed."""
        self._stop_asked = True
        if self._ordered:
            async with asyncio.timeout(KILL_SECONDS):
                await self._began.wait()
        if self._pid == 0:
            self._ended.set()
        await self._clean_up()

    async def _clean_up(self) -> None:
        if self._clean:
            return
        deadline = self._around.clock.monotonic() + KILL_SECONDS
        pause = 0.001
        while not self._kill():
            if self._around.clock.monotonic() > deadline:
                raise StartFailedError("Processes of a run survived being killed.", run=self._spec.run_id)
            await asyncio.sleep(pause)
            pause = min(2 * pause, 0.05)
        self._clean = True
        self._around.launcher.forget(self._spec.run_id)
        with contextlib.suppress(StartFailedError):
            folders = (self._spec.workspace, self._spec.socket_directory)
            self._around.launcher.unstage(self._spec.run_id, [str(each) for each in folders])
        self._close()

    def _kill(self) -> bool:
        """Kill what is left; return whether nothing is."""
        left = self._groups.processes()
        if left or not self._ended.is_set():
            self._groups.kill()
        if self._pid and not self._groups.places.distinct():
            left |= self._around.stragglers(self._pid)
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if not self._ended.is_set() and self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
        if left or not self._ended.is_set():
            return False
        self._groups.stats()
        return self._groups.remove()

    def _close(self) -> None:
        for descriptor in (self._stdin, self._agent):
            if descriptor >= 0:
                os.close(descriptor)
        self._stdin = self._agent = -1
        if self._report is not None:
            self._report.close()
        if self._stream is not None and not self._stream.taken:
            self._stream.close()


def _descriptor_of(pid: int) -> int:
    """Return a descriptor of the process, which stays its own when the number is used again; -1 if it is gone."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return -1
