"""How does a verb talk to the control plane: whom does it reach, and what if nobody answers?"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from claude_conductor.client import Conductor
from claude_conductor.errors import NotRunningError
from claude_conductor.rpc.channel import Tls
from claude_conductor.settings import place
from claude_conductor.settings.home import find

_T = TypeVar("_T")


def run(main: Coroutine[Any, Any, _T]) -> _T:
    """Run a verb's coroutine; Ctrl-C cancels it and comes out as KeyboardInterrupt."""
    return asyncio.run(main)


@asynccontextmanager
async def connect() -> AsyncGenerator[Conductor, None]:
    """Open a connection to the control plane in use.

    Raises:
        NotRunningError: It is this home's own, and nothing listens there.
    """
    where = place.resolve(os.environ)
    home = find(os.environ)
    if where.local and not home.socket.is_socket():
        raise NotRunningError(home=home.path)
    async with Conductor(where.address, where.token, Tls(where.trust)) as conductor:
        yield conductor
