"""Settings gRPC reads once per process, set before it is imported: the first call of every `__main__`."""

from __future__ import annotations

import asyncio
import importlib.util
import os
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


def prepare() -> None:
    """Set the process-wide gRPC settings, each only where the user has not set it.

    The two event-engine experiments cost about half of the processor time of our streams (docs/benchmarks.md); measured again at
    every grpcio upgrade. Fork support is off because no program of ours forks once grpc is loaded.
    """
    os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def run(main: Coroutine[Any, Any, _T]) -> _T:
    """Run a program's main coroutine on uvloop where it is installed, on asyncio's own loop elsewhere."""
    if importlib.util.find_spec("uvloop") is None:
        return asyncio.run(main)
    import uvloop  # noqa: PLC0415 - optional

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)
