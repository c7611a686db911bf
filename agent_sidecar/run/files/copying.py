"""How a tree is copied: by cp(1), which shares blocks where the file system can, and follows no link."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from claude_conductor.errors import WorkspaceError


async def copy(source: str | Path, target: Path) -> None:
    """Copy a file or a tree; the copy belongs to this process's user. Cancelling it kills cp, and leaves a part.

    Args:
        source: What; with `/.` at its end what is in it.
        target: The name of the copy.

    Raises:
        WorkspaceError: It could not be read or written; a part may be there.
    """
    process = await asyncio.create_subprocess_exec(
        *("cp", "--reflink=auto", "-a", "--no-preserve=ownership", "-T", "--", str(source), str(target)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, complaint = await process.communicate()
    except BaseException:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        words = complaint.decode(errors="replace").strip().splitlines()
        raise WorkspaceError(f"The folder could not be copied: {words[0] if words else process.returncode}", path=source)
