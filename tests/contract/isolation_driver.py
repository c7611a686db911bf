"""What every isolation driver keeps at strict: each method is one behaviour, for any driver that can run it.

The suite asks nothing of pytest, so that it can also be run as another user in a process of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent_sidecar.isolation.interface import Cause, Exit, Handle, IsolationDriver, Level, Limits, Plan, Refusal, Spec
from claude_conductor.errors import StartFailedError

DEADLINE = 20.0
LOCKS = Path(tempfile.gettempdir()) / f"conductor-test-locks-{os.geteuid()}"
"""Shared by all test processes of this host, so that no two of them use one uid for agents."""
UIDS = (61900, 61999)
"""For tests that count processes by uid: sets that people run on this host take theirs from the other end of the range."""
PYTHON = Path(sys.executable)
FOLDERS = tuple(dict.fromkeys(Path(each) for each in (sys.base_prefix, sys.prefix) if not each.startswith("/usr")))
"""What the interpreter of these tests needs in the sandbox."""
SMALL = Limits(memory_bytes=128 << 20, cpus=1.0, pids=32, workspace_bytes=0, tmp_bytes=16 << 20, open_files=256)


@dataclass
class Ended:
    """A run that is over."""

    exit: Exit
    stdout: str = ""
    stderr: str = ""


@dataclass
class Sandbox:
    """A driver, folders for one agent, and short ways to run something."""

    driver: IsolationDriver
    base: Path
    limits: Limits = SMALL
    level: Level = Level.STRICT
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    @property
    def workspace(self) -> Path:
        return self._folder("workspace")

    @property
    def sockets(self) -> Path:
        return self._folder("sockets")

    def spec(self, *argv: str, **changes: object) -> Spec:
        made = Spec(
            "coder", f"run-{os.getpid()}-{next(self._numbers)}", argv, {}, self.workspace, self.sockets, self.level, self.limits
        )
        return replace(made, **changes)  # type: ignore[arg-type]  # the names are those of Spec

    def plan(self, spec: Spec) -> Plan:
        decided = self.driver.plan(spec)
        assert isinstance(decided, Plan), str(decided)
        return decided

    @contextlib.asynccontextmanager
    async def started(self, *argv: str, **changes: object) -> AsyncIterator[Handle]:
        async with asyncio.timeout(DEADLINE):
            handle = await self.driver.start(self.plan(self.spec(*argv, **changes)))
            try:
                yield handle
            finally:
                await handle.stop(0.0)

    async def run(self, *argv: str, **changes: object) -> Ended:
        async with self.started(*argv, **changes) as handle:
            parts: dict[str, bytes] = {"stdout": b"", "stderr": b""}
            async for name, chunk in handle.output():
                parts[name] += chunk
            ended = await handle.wait()
        return Ended(ended, parts["stdout"].decode(errors="replace"), parts["stderr"].decode(errors="replace"))

    async def shell(self, text: str, **changes: object) -> Ended:
        return await self.run("/bin/sh", "-c", text, **changes)

    async def python(self, text: str, **changes: object) -> Ended:
        return await self.run(str(PYTHON), "-I", "-c", text, toolchains=FOLDERS, **changes)

    def _folder(self, name: str) -> Path:
        path = self.base / name
        if not path.exists():
            path.mkdir(parents=True, mode=0o700)
            if os.geteuid() != self.driver.agent_uid:
                os.chown(path, self.driver.agent_uid, self.driver.agent_uid)
        return path


async def line_of(handle: Handle) -> bytes:
    """Return the first line that comes out."""
    data = b""
    async for _, chunk in handle.output():
        data += chunk
        if b"\n" in data:
            return data
    return data


async def until(condition: object, *, seconds: float = 5.0) -> None:
    """Wait until the condition holds."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


def status_of(pid: int) -> Mapping[str, list[str]]:
    """Return the status file of a process of this host."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.split() for name, _, value in (line.partition(":") for line in lines)}


class IsolationDriverContract:
    """The behaviours. A subclass gives the fixture `sandbox`."""

    async def test_output_and_exit_code_arrive(self, sandbox: Sandbox) -> None:
        ended = await sandbox.shell("echo out; echo err >&2; exit 7")
        assert (ended.stdout, ended.stderr) == ("out\n", "err\n")
        assert (ended.exit.cause, ended.exit.code, ended.exit.signal) == (Cause.EXITED, 7, None)

    async def test_arguments_and_environment_arrive_unchanged(self, sandbox: Sandbox) -> None:
        odd = "a 'b' \"c\" $HOME \n ünï `x`"
        ended = await sandbox.run("/bin/sh", "-c", 'printf "%s|%s" "$1" "$NAME"', "sh", odd, environment={"NAME": odd + "\n"})
        assert ended.stdout == f"{odd}|{odd}\n"

    async def test_the_environment_is_only_what_was_given(self, sandbox: Sandbox) -> None:
        os.environ["CONDUCTOR_TEST_SECRET"] = "leaked"
        try:
            ended = await sandbox.run("/usr/bin/env", environment={"GIVEN": "1"})
        finally:
            del os.environ["CONDUCTOR_TEST_SECRET"]
        names = {line.partition("=")[0] for line in ended.stdout.splitlines()}
        assert "GIVEN" in names
        assert names <= {"GIVEN", "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TMPDIR", "PWD", "SHLVL", "_", "OLDPWD"}

    async def test_input_is_given_and_closed(self, sandbox: Sandbox) -> None:
        async with sandbox.started("/bin/cat") as handle:
            await handle.write_stdin(b"x" * 200)
            assert await line_of(handle) == b"x" * 200
            assert (await handle.wait()).code == 0

    async def test_the_agent_is_never_uid_0_on_the_host(self, sandbox: Sandbox) -> None:
        async with sandbox.started("/bin/sleep", "30") as handle:
            status = status_of(handle.pid)
            assert set(status["Uid"]) == {str(sandbox.driver.agent_uid)}
            assert "0" not in status["Uid"]
            assert status["NoNewPrivs"] == ["1"]

    async def test_the_workspace_is_the_working_folder_and_is_kept(self, sandbox: Sandbox) -> None:
        (sandbox.workspace / "in.txt").write_text("hello")
        ended = await sandbox.shell("pwd; cat in.txt; echo done > out.txt")
        assert ended.stdout == "/workspace\nhello"
        assert (sandbox.workspace / "out.txt").read_text() == "done\n"
        assert (sandbox.workspace / "out.txt").stat().st_uid == sandbox.driver.agent_uid

    async def test_folders_of_the_host_cannot_be_seen(self, sandbox: Sandbox) -> None:
        secret = sandbox.base / "secret"
        secret.write_text("secret")
        secret.chmod(0o644)
        ended = await sandbox.shell(f"cat {secret}; ls -A /root /home/*/.ssh /var /mnt /srv; ls -A /home; ls -A /tmp")
        assert "secret" not in ended.stdout.replace(str(secret), "")
        assert set(ended.stdout.split()) <= {"agent", "claude_workspace_coder"}

    async def test_the_system_cannot_be_written(self, sandbox: Sandbox) -> None:
        folders = "/ /usr /etc /dev /proc/sys/kernel /run /run/conductor /home"
        ended = await sandbox.shell(f"for each in {folders}; do touch $each/x && echo $each; done")
        assert ended.stdout == ""

    async def test_home_and_temporary_folder_are_private_and_sized(self, sandbox: Sandbox) -> None:
        ended = await sandbox.shell(
            'echo x > "$HOME/x" && echo x > "$TMPDIR/x" && echo $TMPDIR; head -c 64M /dev/zero > /tmp/big || echo full'
        )
        assert ended.stdout == "/tmp/claude_workspace_coder\nfull\n"
        assert not Path("/tmp/claude_workspace_coder").exists()

    async def test_there_is_no_way_to_the_hosts_network(self, sandbox: Sandbox) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            with socket.create_connection(("127.0.0.1", port), 1):
                pass
            attempt = f"socket.create_connection(('127.0.0.1', {port}), 1)"
            text = f"import socket\ntry:\n {attempt}; print('open')\nexcept OSError: print('closed')"
            assert (await sandbox.python(text)).stdout == "closed\n"
        assert (await sandbox.shell("cut -d: -f1 -s /proc/net/dev")).stdout.split() == ["lo"]

    async def test_only_the_three_standard_descriptors_are_open(self, sandbox: Sandbox) -> None:
        extra = os.open("/dev/null", os.O_RDONLY)
        os.set_inheritable(extra, True)
        try:
            ended = await sandbox.shell("n=0; while [ $n -lt 256 ]; do [ -e /proc/$$/fd/$n ] && echo $n; n=$((n+1)); done")
        finally:
            os.close(extra)
        assert ended.stdout.split() == ["0", "1", "2"]

    async def test_memory_is_bounded_and_the_kill_is_named(self, sandbox: Sandbox) -> None:
        ended = await sandbox.python("x = [bytearray(1 << 20) for _ in range(1000)]; print('kept')")
        assert "kept" not in ended.stdout
        assert ended.exit.cause is Cause.OUT_OF_MEMORY
        assert "128 MiB" in ended.exit.detail
        assert "--memory" in ended.exit.detail

    async def test_processes_are_bounded(self, sandbox: Sandbox) -> None:
        loop = " while n < 200:\n  if os.fork()==0: os.read(0, 1); os._exit(0)\n  n+=1\n"
        text = f"import os\nn=0\ntry:\n{loop}except OSError: pass\nprint(n)"
        async with sandbox.started(str(PYTHON), "-I", "-c", text, toolchains=FOLDERS) as handle:
            assert int(await line_of(handle)) < 32
            stats = await handle.stats()
        assert stats.pids_refused >= 1

    async def test_processors_are_shared_as_asked(self, sandbox: Sandbox) -> None:
        limits = replace(SMALL, cpus=0.05)
        async with sandbox.started("/bin/sh", "-c", "while :; do :; done", limits=limits) as handle:
            before, began = await handle.stats(), time.monotonic()
            after = before
            while time.monotonic() - began < 1.5 or after.throttled_seconds == before.throttled_seconds:
                await asyncio.sleep(0.05)
                after = await handle.stats()
            seconds = time.monotonic() - began
        assert (after.cpu_seconds - before.cpu_seconds) / seconds < 0.10

    async def test_open_files_are_bounded_and_no_core_is_dumped(self, sandbox: Sandbox) -> None:
        assert (await sandbox.shell("ulimit -n; ulimit -c")).stdout.split() == ["256", "0"]

    async def test_the_agent_sees_its_limits_as_its_machine(self, sandbox: Sandbox) -> None:
        ended = await sandbox.shell("nproc; grep MemTotal /proc/meminfo; cat /sys/devices/system/cpu/online")
        assert ended.stdout.split() == ["1", "MemTotal:", str((128 << 20) // 1024), "kB", "0"]

    async def test_term_is_passed_to_the_agent_at_stop(self, sandbox: Sandbox) -> None:
        async with sandbox.started(
            "/bin/sh", "-c", "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done"
        ) as handle:
            output = handle.output()
            assert (await anext(output))[1] == b"up\n"
            ended = await handle.stop(5.0)
            assert (ended.cause, ended.code) == (Cause.STOPPED, 3)
            assert [chunk async for chunk in output] == [("stdout", b"bye\n")]

    async def test_nothing_survives_a_stop(self, sandbox: Sandbox) -> None:
        text = "trap '' TERM HUP; for i in 1 2 3 4 5; do setsid sh -c 'trap \"\" TERM; sleep 987' & done; echo up; sleep 987"
        async with sandbox.started("/bin/sh", "-c", text) as handle:
            assert await line_of(handle) == b"up\n"
            began = time.monotonic()
            ended = await handle.stop(0.2)
            assert time.monotonic() - began < 2
        assert ended.cause is Cause.STOPPED
        assert not processes_with("sleep\0987", sandbox.driver.agent_uid)

    async def test_daemons_end_with_the_agent(self, sandbox: Sandbox) -> None:
        ended = await sandbox.shell("setsid sh -c 'sleep 986' >/dev/null 2>&1 & exit 0")
        assert ended.exit.code == 0
        assert not processes_with("sleep\0986", sandbox.driver.agent_uid)

    async def test_stop_can_be_repeated_and_keeps_the_first_answer(self, sandbox: Sandbox) -> None:
        async with sandbox.started("/bin/sh", "-c", "exit 4") as handle:
            assert (await handle.wait()).code == 4
            answers = await asyncio.gather(handle.stop(1.0), handle.stop(1.0), handle.wait())
            assert {each.code for each in answers} == {4}
            assert (await handle.stats()).memory_peak_bytes > 0

    async def test_a_cancelled_wait_leaves_the_run_alone(self, sandbox: Sandbox) -> None:
        async with sandbox.started("/bin/cat") as handle:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await handle.wait()
            await handle.write_stdin(b"still here\n")
            assert await line_of(handle) == b"still here\n"

    async def test_a_signal_reaches_the_agent_itself(self, sandbox: Sandbox) -> None:
        async with sandbox.started(
            "/bin/sh", "-c", "trap 'echo got; exit 0' USR1; echo up; while :; do sleep 0.05; done"
        ) as handle:
            output = handle.output()
            assert (await anext(output))[1] == b"up\n"
            handle.signal(signal.SIGUSR1)
            assert (await anext(output))[1] == b"got\n"

    async def test_death_by_a_signal_is_named(self, sandbox: Sandbox) -> None:
        ended = await sandbox.shell("kill -SEGV $$")
        assert (ended.exit.cause, ended.exit.signal) == (Cause.SIGNALLED, signal.SIGSEGV)
        assert "SIGSEGV" in ended.exit.detail

    async def test_a_program_that_is_not_there_is_named(self, sandbox: Sandbox) -> None:
        ended = await sandbox.run("/opt/none/tool")
        assert ended.exit.cause is Cause.START_FAILED
        assert "/opt/none/tool" in ended.exit.detail

    async def test_a_flood_of_output_waits_for_its_reader(self, sandbox: Sandbox) -> None:
        async with sandbox.started("/bin/sh", "-c", "head -c 20000000 /dev/zero; echo end >&2") as handle:
            await asyncio.sleep(0)
            length = 0
            async for name, chunk in handle.output():
                assert len(chunk) <= 65536
                length += len(chunk) if name == "stdout" else 0
            assert length == 20_000_000

    async def test_output_nobody_reads_does_not_hold_up_a_stop(self, sandbox: Sandbox) -> None:
        async with sandbox.started("/bin/sh", "-c", "yes") as handle:
            assert (await handle.stop(0.1)).cause is Cause.STOPPED

    async def test_standard_output_can_be_opened_by_name(self, sandbox: Sandbox) -> None:
        assert (await sandbox.shell("echo named > /dev/stdout")).stdout == "named\n"

    async def test_a_toolchain_in_a_private_folder_is_seen_at_its_own_path_and_only_read(self, sandbox: Sandbox) -> None:
        tool = sandbox.base / "private" / "tool"
        tool.mkdir(parents=True)
        tool.parent.chmod(0o700)
        (tool.parent / "beside").write_text("hidden")
        (tool / "hello").write_text("#!/bin/sh\necho from $0\n")
        (tool / "hello").chmod(0o755)
        ended = await sandbox.shell(f"{tool}/hello; ls {tool.parent}; touch {tool}/x || echo readonly", toolchains=(tool,))
        assert ended.stdout == f"from {tool}/hello\ntool\nreadonly\n"

    async def test_the_tests_own_interpreter_runs_inside(self, sandbox: Sandbox) -> None:
        assert (await sandbox.python("import ssl, sys; print(sys.prefix)")).stdout.strip() == sys.prefix

    async def test_the_agents_socket_can_be_reached_and_its_folder_not_changed(self, sandbox: Sandbox) -> None:
        with listening(sandbox, "agent.sock") as server:
            text = "import socket; s=socket.socket(socket.AF_UNIX); s.connect('/run/conductor/agent.sock')"
            text += "; s.sendall(b'hi'); print(s.recv(9))"
            async with sandbox.started(str(PYTHON), "-I", "-c", text, toolchains=FOLDERS) as handle:
                loop = asyncio.get_running_loop()
                client, _ = await loop.sock_accept(server)
                with client:
                    assert await loop.sock_recv(client, 9) == b"hi"
                    credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
                    assert int.from_bytes(credentials[4:8], sys.byteorder) == sandbox.driver.agent_uid
                    client.sendall(b"yes")
                assert await line_of(handle) == b"b'yes'\n"
            assert (
                "denied"
                in (await sandbox.shell("rm -f /run/conductor/agent.sock; touch /run/conductor/x 2>&1 || echo denied")).stdout
            )

    async def test_a_bridge_leads_from_a_port_to_a_socket_from_the_first_instruction_on(self, sandbox: Sandbox) -> None:
        with listening(sandbox, "gateway.sock") as server:
            text = "import socket; s=socket.create_connection(('127.0.0.1', 18080)); s.sendall(b'ping'); print(s.recv(9))"
            argv = (str(PYTHON), "-I", "-c", text)
            async with sandbox.started(*argv, toolchains=FOLDERS, bridges={18080: "gateway.sock"}) as handle:
                loop = asyncio.get_running_loop()
                client, _ = await loop.sock_accept(server)
                with client:
                    client.setblocking(False)
                    assert await loop.sock_recv(client, 9) == b"ping"
                    await loop.sock_sendall(client, b"pong")
                assert await line_of(handle) == b"b'pong'\n"

    async def test_a_start_that_is_cancelled_at_any_moment_leaves_nothing(self, sandbox: Sandbox) -> None:
        for milliseconds in (0, 1, 2, 4, 8, 12):
            decided = sandbox.plan(sandbox.spec("/bin/sleep", "980"))
            starting = asyncio.create_task(sandbox.driver.start(decided), name="start")
            await asyncio.sleep(milliseconds / 1000)
            starting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await (await starting).stop(0.0)
        assert not processes_with("sleep\0980", sandbox.driver.agent_uid)
        assert await sandbox.driver.sweep() == []

    async def test_many_runs_at_once_do_not_disturb_each_other(self, sandbox: Sandbox) -> None:
        ended = await asyncio.gather(*(sandbox.shell(f"echo {number}; exit {number}") for number in range(8)))
        assert [(each.stdout, each.exit.code) for each in ended] == [(f"{number}\n", number) for number in range(8)]

    async def test_a_plan_is_a_decision_without_effect(self, sandbox: Sandbox) -> None:
        decided = sandbox.plan(sandbox.spec("/bin/true"))
        assert decided.effective_level is sandbox.level
        assert decided.degraded == ()
        assert {"seccomp", "network_namespace", "cgroup.memory", "cgroup.pids"} <= set(decided.in_force)

    async def test_a_cap_that_cannot_be_kept_is_refused(self, sandbox: Sandbox) -> None:
        if sandbox.driver.probe().strength("disk").value == "yes":
            return
        spec = sandbox.spec("/bin/true", limits=replace(SMALL, workspace_bytes=1 << 30))
        decided = sandbox.driver.plan(spec)
        assert isinstance(decided, Refusal)
        assert decided.missing[0].name == "disk"

    async def test_a_sweep_leaves_what_runs_alone(self, sandbox: Sandbox) -> None:
        async with sandbox.started("/bin/cat") as handle:
            assert await sandbox.driver.sweep() == []
            await handle.write_stdin(b"alive\n")
            assert await line_of(handle) == b"alive\n"

    async def test_zz_closing_stops_what_runs_and_refuses_more(self, sandbox: Sandbox) -> None:
        """The last one, since the driver is of no use afterwards."""
        decided = sandbox.plan(sandbox.spec("/bin/sleep", "985"))
        handle = await sandbox.driver.start(decided)
        await sandbox.driver.close()
        assert (await handle.wait()).cause is Cause.STOPPED
        await sandbox.driver.close()
        try:
            await sandbox.driver.start(decided)
        except StartFailedError:
            return
        raise AssertionError("a closed driver started something")


@contextlib.contextmanager
def listening(sandbox: Sandbox, name: str):  # type: ignore[no-untyped-def]  # a generator for a with statement
    """Listen on a socket of the agent's."""
    path = sandbox.sockets / name
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as server:
        folder = os.open(sandbox.sockets, os.O_RDONLY)
        try:
            server.bind(f"/proc/self/fd/{folder}/{name}")
        finally:
            os.close(folder)
        if os.geteuid() != sandbox.driver.agent_uid:
            os.chown(path, sandbox.driver.agent_uid, sandbox.driver.agent_uid)
        server.listen()
        server.setblocking(False)
        yield server


def processes_with(words: str, uid: int) -> list[int]:
    """Return the living processes of a uid whose command line holds the words (NUL between arguments)."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            line = (entry / "cmdline").read_text() if entry.name.isdecimal() and entry.stat().st_uid == uid else ""
            if line and words in line:
                found.append(int(entry.name))
    return found
