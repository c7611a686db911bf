"""What a task of the fault suite runs: it writes down what it did, with nothing between it and the kernel that a kill could lose.

    python worker.py FOLDER work SECONDS
    python worker.py FOLDER flaky SECONDS TIMES      fails the first TIMES it comes to its end
    python worker.py FOLDER exit CODE
    python worker.py FOLDER parent SECONDS COUNT     submits COUNT subtasks of SECONDS and waits for them

FOLDER gets a file for each run. Standard library only, but for `parent`, which needs the client.
"""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import signal
import sys
import time
from pathlib import Path

TASK, AGENT = os.environ.get("CONDUCTOR_TASK_ID", ""), os.environ.get("CONDUCTOR_AGENT_ID", "")
PAUSE = 0.1
PR_SET_PDEATHSIG = 1


class Record:
    """The file of this run: one write(2) a line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nonce = secrets.token_hex(8)
        self._file = os.open(folder / f"{TASK}.{self.nonce}.log", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)

    def write(self, kind: str, value: str = "") -> None:
        line = json.dumps([time.monotonic(), kind, self.nonce, TASK, AGENT, value], separators=(",", ":"))
        os.write(self._file, line.encode() + b"\n")

    def ends_before(self) -> int:
        """Return how often a run of this task came to its end."""
        return sum('"ended"' in path.read_text() for path in self.folder.glob(f"{TASK}.*.log"))


def flaky(record: Record, times: int) -> int:
    return 1 if record.ends_before() < times else 0


def parent(record: Record, seconds: str, count: int) -> int:
    import asyncio

    return asyncio.run(_have_children(record, seconds, count))


async def _have_children(record: Record, seconds: str, count: int) -> int:
    import asyncio

    from claude_conductor.client.agent import AgentClient
    from claude_conductor.client.tasks import FINAL
    from claude_conductor.errors import ConductorError, Kind
    from claude_conductor.v1 import task_pb2

    passing = {Kind.UNAVAILABLE, Kind.DEADLINE_EXCEEDED, Kind.RESOURCE_EXHAUSTED}
    spec = task_pb2.TaskSpec(driver="command", labels={"kind": "child"}, retry=task_pb2.RetryPolicy(max_attempts=10))
    spec.command.extend([sys.executable, "-S", "-E", __file__, str(record.folder), "work", seconds])

    async def insist(call):  # type: ignore[no-untyped-def]
        while True:
            try:
                return await call()
            except ConductorError as error:
                if error.kind not in passing:
                    raise
            await asyncio.sleep(PAUSE)

    states = []
    async with AgentClient.connect() as agent:
        children = [
            await insist(lambda number=number: agent.submit_subtask(spec, request_id=f"child-{number}"))
            for number in range(count)
        ]
        for child in children:
            record.write("child", child.task_id)
        for child in children:
            task = child
            while task.state not in FINAL:
                task = await insist(lambda task=task: agent.get_subtask(task.task_id, wait=2.0))
            states.append(task.state)
    return 0 if states == [task_pb2.TASK_STATE_SUCCEEDED] * count else 1


def main(folder: str, kind: str, *arguments: str) -> int:
    # In a real sandbox it could not outlive its sidecar: prctl(2).
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    record = Record(Path(folder))
    record.write("began", str(os.getpid()))
    sys.stdout.write(f"run {record.nonce}\n")
    sys.stdout.flush()
    code = 0
    if kind in {"work", "flaky"}:
        time.sleep(float(arguments[0]))
    if kind == "flaky":
        code = flaky(record, int(arguments[1]))
    elif kind == "exit":
        code = int(arguments[0])
    elif kind == "parent":
        code = parent(record, arguments[0], int(arguments[1]))
    record.write("ended", str(code))
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
