"""`conductor-agent`: runs one verb inside an agent's sandbox and says how it went by its exit code."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import stat
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from claude_conductor.agent_tools.advice import next_step, one_line
from claude_conductor.agent_tools.arguments import PROGRAM, parser
from claude_conductor.cli import exits
from claude_conductor.errors import ConductorError, ControlPlaneUnavailableError, PayloadTooLargeError

SOCKET: Final = "/run/conductor/agent.sock"
_INPUT_BYTES: Final = 64 << 20
"""Bound of memory; what may be sent is the control plane's setting."""


def main(words: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    given = parser().parse_args(words)
    try:
        return asyncio.run(_run(given))
    except ConductorError as error:
        _tell(error, as_json=given.json)
        return exits.code(error)
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except BrokenPipeError:  # whoever read our output has enough of it
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.OK


async def _run(given: argparse.Namespace) -> int:
    socket = _socket(os.environ.get("CONDUCTOR_SOCKET") or SOCKET)
    for name in ("text", "approve"):
        if getattr(given, name, b"") == b"-":
            setattr(given, name, _input())
    # Loaded now, so that help and wrong use are told without waiting for gRPC.
    from claude_conductor.rpc import process  # noqa: PLC0415

    process.prepare()
    from claude_conductor.agent_tools import actions, verbs  # noqa: PLC0415

    given.socket = socket
    async with verbs.open_desk(socket) as desk:
        if given.verb == "mcp":
            from claude_conductor.agent_tools.mcp import stdio  # noqa: PLC0415

            await stdio.serve(desk, tempfile.gettempdir())
            return exits.OK
        shown = await verbs.VERBS[given.verb](desk, given)
        if shown.claim is not None:
            shown.claim.printing()
        _print(shown.value if given.json else shown.text, as_json=given.json)
        if shown.claim is not None:
            shown.claim.printed()
        await actions.acknowledge(desk, shown.taken)
    return exits.OK


def _socket(path: str) -> str:
    """Return the path of the agent's socket.

    Raises:
        ControlPlaneUnavailableError: There is none.
    """
    plain = path.removeprefix("unix:")
    try:
        found = stat.S_ISSOCK(os.stat(plain).st_mode)  # noqa: PTH116 - pathlib would cost start time
    except (OSError, ValueError):
        found = False
    if not found:
        raise ControlPlaneUnavailableError(
            "There is no agent socket here.",
            next_step="this command works inside of an agent's sandbox; outside of it use `conductor`",
            socket=plain,
        )
    return path


def _input() -> bytes:
    """Read standard input.

    Raises:
        PayloadTooLargeError: It is larger than anything that can be sent.
    """
    data = sys.stdin.buffer.read(_INPUT_BYTES + 1)
    if len(data) > _INPUT_BYTES:
        raise PayloadTooLargeError("Standard input is larger than anything that can be sent.", limit=_INPUT_BYTES)
    return data


def _print(shown: object, *, as_json: bool) -> None:
    line = json.dumps(shown, ensure_ascii=False) if as_json else str(shown)
    if line:
        sys.stdout.buffer.write(line.encode("utf-8", "replace") + b"\n")
        sys.stdout.buffer.flush()


def _tell(error: ConductorError, *, as_json: bool) -> None:
    if as_json:
        known = {"reason": error.reason, "message": error.message, "next_step": next_step(error), "details": error.details}
        sys.stderr.write(json.dumps({"error": known}, ensure_ascii=False) + "\n")
    else:
        sys.stderr.write(f"{PROGRAM}: {one_line(error)}\n")
