"""The real Claude Code, outside a sandbox: driver, gateway and parser against the stub of its provider.

It is started as an ordinary user even where the tests run as root: it refuses to skip permissions for root.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent_sidecar.drivers.claude_code import PLACEHOLDER_KEY, ClaudeCodeDriver, find_claude_code
from agent_sidecar.drivers.driver import Answer, Observation, Progress, TaskOrder, TokenUse
from agent_sidecar.drivers.finder import HostFinder
from agent_sidecar.gateway.door import Door, open_gateway
from agent_sidecar.gateway.provider import provider_at
from agent_sidecar.gateway.usage import Usage
from claude_conductor.clock import SystemClock
from claude_conductor.errors import MissingProgramError
from claude_conductor.settings.secret import Secret
from tests.fakes import messages_api as api
from tests.fakes.loopback_bridge import bridge

REAL_KEY = "sk-real-key-of-the-sidecar"
ORDINARY_UID = 61999
INSTALLED = Path(__file__).parents[2] / ".cache" / "claude-code" / "node_modules" / ".bin" / "claude"
RUN_SECONDS = 50
FINDER = HostFinder("")


def claude_binary() -> Path:
    """Return the real program, or skip and say what is missing."""
    named = os.environ.get("CONDUCTOR_CLAUDE_BINARY")
    try:
        program = find_claude_code(FINDER, Path(named) if named else INSTALLED, os.uname().machine)
    except MissingProgramError:
        if named:
            raise
        pytest.skip("Claude Code is not installed: run tools/install_claude_code.sh, or set CONDUCTOR_CLAUDE_BINARY")
    closed = [folder for folder in program.parents if not folder.stat().st_mode & 0o001]
    if os.geteuid() == 0 and closed:
        pytest.skip(
            f"ordinary users cannot enter {closed[-1]}: run tools/install_claude_code.sh FOLDER and set CONDUCTOR_CLAUDE_BINARY"
        )
    return program


@dataclass
class Run:
    """One run of Claude Code and what came of it."""

    code: int
    stdout: bytes
    stderr: bytes
    environment: dict[str, str]
    observations: list[Observation]
    shown: bytes
    usage: list[Usage]

    def only(self, kind: type[Observation]) -> list[Observation]:
        return [seen for seen in self.observations if isinstance(seen, kind)]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the agent's user can write: pytest's own are private to the user of the tests."""
    path = Path(tempfile.mkdtemp(prefix="cc-"))
    for name in ("workspace", "home"):
        (path / name).mkdir()
        if os.geteuid() == 0:
            os.chown(path / name, ORDINARY_UID, ORDINARY_UID)
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


async def run(stub: api.MessagesApi, folder: Path, order: TaskOrder, key: str | None = REAL_KEY) -> Run:
    """Run it: program -> loopback bridge -> gateway -> stub."""
    program = claude_binary()
    usage: list[Usage] = []
    provider = provider_at(stub.url, Secret(key) if key else None)
    door = Door(folder / "model.sock", provider, usage.append, lambda _: None, SystemClock())
    gateway = await open_gateway(door)
    try:
        async with bridge(door.path) as port:
            driver = ClaudeCodeDriver(FINDER, program=program, port=port)
            command = driver.command(order)
            environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder / "home"), **command.environment}
            process = await asyncio.create_subprocess_exec(
                *command.argv,
                cwd=folder / "workspace",
                env=environment,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=1 << 24,
                **({"user": ORDINARY_UID, "group": ORDINARY_UID, "extra_groups": []} if os.geteuid() == 0 else {}),
            )
            try:
                async with asyncio.timeout(RUN_SECONDS):
                    stdout, stderr = await process.communicate(command.stdin)
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
    finally:
        await gateway.close()
    parser = driver.parser()
    observations: list[Observation] = []
    shown = b""
    for live, meaning in [*(parser.feed(stdout[at : at + 1000]) for at in range(0, len(stdout), 1000)), parser.finish()]:
        shown += live
        observations += meaning
    assert process.returncode is not None
    return Run(process.returncode, stdout, stderr, environment, observations, shown, usage)


@pytest.fixture
async def writing(folder: Path) -> AsyncIterator[tuple[api.MessagesApi, Path]]:
    target = folder / "workspace" / "hello.txt"
    script = api.use_then_say("Write", {"file_path": str(target), "content": "written by its own tool\n"}, "All done.")
    async with api.MessagesApi(script).serve() as stub:
        yield stub, target


async def test_it_writes_a_file_with_its_own_tool_and_everything_is_parsed(writing: tuple[api.MessagesApi, Path], folder: Path):
    stub, target = writing

    done = await run(stub, folder, TaskOrder(task_id="task_1", type="refactor", prompt="--write the file", max_turns=5))

    assert (done.code, done.stderr) == (0, b"")
    assert target.read_text() == "written by its own tool\n"
    assert done.observations[-1] == Answer("All done.")
    assert Progress(f"Write {target}") in done.observations
    assert f"> Write {target}\n".encode() in done.shown
    total = done.only(TokenUse)[-1]
    assert isinstance(total, TokenUse)
    assert (total.input_tokens, total.output_tokens) == (2 * api.INPUT_TOKENS, 2 * api.OUTPUT_TOKENS)
    assert (total.cache_read_tokens, total.cache_write_tokens) == (2 * api.CACHE_READ_TOKENS, 2 * api.CACHE_WRITE_TOKENS)
    assert total.turns == 2
    assert total.cost_usd > 0
    assert (
        done.usage
        == [Usage(api.INPUT_TOKENS, api.OUTPUT_TOKENS, api.CACHE_READ_TOKENS, api.CACHE_WRITE_TOKENS, "claude-stub")] * 2
    )


async def test_the_provider_sees_the_real_key_and_the_agent_never_does(writing: tuple[api.MessagesApi, Path], folder: Path):
    stub, _ = writing

    done = await run(stub, folder, TaskOrder(task_id="task_1", type="refactor", prompt="write the file"))

    assert done.code == 0
    posts = [seen for seen in stub.seen if seen.method == "POST"]
    assert len(posts) == 2
    assert {seen.key for seen in posts} == {REAL_KEY}
    assert {seen.target for seen in posts} == {"/v1/messages?beta=true"}
    assert done.environment["ANTHROPIC_API_KEY"] == PLACEHOLDER_KEY
    assert REAL_KEY not in str(done.environment)
    assert REAL_KEY.encode() not in done.stdout + done.stderr
    assert files_with(REAL_KEY, folder) == []


def files_with(text: str, folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


async def test_a_prompt_longer_than_an_argument_arrives_whole(folder: Path):
    prompt = "remember this " + "word " * 40_000 + "and the very last one"
    async with api.MessagesApi().serve() as stub:
        done = await run(stub, folder, TaskOrder(task_id="task_1", type="analysis", prompt=prompt))

    assert done.code == 0
    assert done.observations[-1] == Answer("hello")
    assert any(b"and the very last one" in seen.body for seen in stub.seen)


async def test_a_rate_limit_is_waited_out(folder: Path):
    refuse = api.Refuse(429, "rate_limit_error", {"retry-after": "0"})
    async with api.MessagesApi(once=(refuse,)).serve() as stub:
        done = await run(stub, folder, TaskOrder(task_id="task_1", type="analysis", prompt="hello"))

    assert (done.code, done.observations[-1]) == (0, Answer("hello"))


async def test_without_a_key_it_ends_at_once_and_says_why(folder: Path):
    async with api.MessagesApi().serve() as stub:
        done = await run(stub, folder, TaskOrder(task_id="task_1", type="analysis", prompt="hello"), key=None)

    assert done.code != 0
    answer = done.observations[-1]
    assert isinstance(answer, Answer)
    assert answer.failed
    assert "conductor start" in answer.text
    assert stub.seen == []
