"""What does the supervisor tell about the processes it looks after?"""

from __future__ import annotations

import asyncio
import json
import logging
import socket

from claude_conductor.errors import StoreUnavailableError
from claude_conductor.ids import DEFAULT_TENANT, AgentId
from controlplane.service.sessions import Sessions

_log = logging.getLogger(__name__)
_LINE = 64 << 10
_STORE_PAUSE = 0.5


async def listen(descriptor: int, sessions: Sessions) -> None:
    """Act on the supervisor's JSON lines until it closes its end of the socket.

    `{"event": "sidecar_exited", "agent_id": ..., "incarnation_pid": ..., "cause": ...}` ends the leases of that process at once.
    Lines this version does not know are passed over; a line that is lost only costs time, since leases end by themselves.
    """
    reader, writer = await asyncio.open_unix_connection(sock=socket.socket(fileno=descriptor), limit=_LINE)
    try:
        while line := await _line(reader):
            exited = parse(line)
            if exited is not None:
                await _lose(sessions, *exited)
    finally:
        writer.close()


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except (ValueError, OSError):  # longer than any line of ours, or reset
        return b""


async def _lose(sessions: Sessions, agent_id: AgentId, pid: int, cause: str) -> None:
    while True:
        try:
            await sessions.sidecar_exited(DEFAULT_TENANT, agent_id, pid, cause)
        except StoreUnavailableError as error:
            _log.warning("a sidecar's end waits for the store", extra={"agent": agent_id, "cause": str(error)})
            await asyncio.sleep(_STORE_PAUSE)
            continue
        return


def parse(line: bytes) -> tuple[AgentId, int, str] | None:
    """Return (agent, process id, cause) of a sidecar that ended, or None if the line says something else."""
    try:
        said = json.loads(line)
    except ValueError:
        return None
    if not isinstance(said, dict) or said.get("event") != "sidecar_exited":
        return None
    agent_id, pid = said.get("agent_id"), said.get("incarnation_pid")
    if not isinstance(agent_id, str) or not isinstance(pid, int):
        return None
    return AgentId(agent_id), pid, str(said.get("cause") or "")
