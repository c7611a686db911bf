"""How does the server reach its client? Lines on standard input and output, nothing else on either."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from typing import Final

from claude_conductor import __version__
from claude_conductor.agent_tools.actions import Desk
from claude_conductor.agent_tools.mcp import protocol
from claude_conductor.agent_tools.mcp.catalogue import INSTRUCTIONS
from claude_conductor.agent_tools.mcp.protocol import Server
from claude_conductor.agent_tools.mcp.server import McpServer, Write
from claude_conductor.agent_tools.mcp.tools import Bench
from claude_conductor.errors import InvalidArgumentError

_log = logging.getLogger(__name__)
LONGEST_LINE: Final = 8 << 20
"""Bytes: a payload of 1 MiB of which every byte is escaped, and what is around it."""
_SERVER: Final = Server("conductor", "Claude Conductor", __version__, INSTRUCTIONS)


async def serve(desk: Desk, folder: str) -> None:
    """Serve the client at standard input and output until it closes them.

    Args:
        desk: Connected.
        folder: For messages that are too long to show.

    Raises:
        InvalidArgumentError: Standard input or output is a plain file.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="conductor-agent mcp: %(message)s")
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(LONGEST_LINE)
    try:
        source, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        pipe, connection = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, sys.stdout)
    except ValueError as cause:
        raise InvalidArgumentError(
            "MCP needs pipes as standard input and output.", next_step="let an MCP client start this command"
        ) from cause
    writer = asyncio.StreamWriter(pipe, connection, None, loop)
    turn = asyncio.Lock()

    async def write(line: bytes) -> None:
        async with turn:
            writer.write(line)
            await writer.drain()

    try:
        await McpServer(_SERVER, Bench(desk, folder), write).serve(_lines(reader, write))
    except* ConnectionError:
        _log.warning("the client went away while it was answered")
    finally:
        writer.close()
        source.close()


async def _lines(reader: asyncio.StreamReader, write: Write) -> AsyncIterator[bytes]:
    """Yield lines up to the end of the input; one that is too long is refused."""
    while True:
        try:
            line = await reader.readuntil(b"\n")
        except asyncio.LimitOverrunError:
            await _skip(reader)
            message = f"A line is longer than {LONGEST_LINE} bytes."
            await write(protocol.written(protocol.failure(None, protocol.PARSE_ERROR, message)))
            continue
        except asyncio.IncompleteReadError as last:
            if last.partial.strip():
                yield last.partial
            return
        if line.strip():
            yield line


async def _skip(reader: asyncio.StreamReader) -> None:
    """Read up to the end of a line that is too long."""
    while True:
        try:
            await reader.readuntil(b"\n")
        except asyncio.LimitOverrunError as overrun:
            await reader.readexactly(max(1, overrun.consumed))
        else:
            return
