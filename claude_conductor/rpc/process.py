"""What a process of ours needs besides its code: settings that gRPC and the C library read once, the loop, the collector.

`prepare` is the first call of every `__main__`, before gRPC is imported.
"""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import os
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

_T = TypeVar("_T")

ALLOCATOR: Final = {"MALLOC_MMAP_THRESHOLD_": str(4 << 20), "MALLOC_TRIM_THRESHOLD_": str(8 << 20)}
"""Environment for whoever starts a program of ours, as glibc reads it once (mallopt(3)). With its defaults each buffer of a frame
of 128 KiB or more is a mapping of its own, and every page of it a fault: writing a frame of 256 KiB took twenty times as long."""


def prepare() -> None:
    """Set the process-wide gRPC settings, each only where the user has not set it.

    The two event-engine experiments cost about half of the processor time of our streams (docs/benchmarks.md); measured again at
    every grpcio upgrade. Fork support is off because no program of ours forks once grpc is loaded.
    """
    os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Of TLS 1.2 only, and for RSA certificates only, which nobody here has: what is left is TLS 1.3. grpc has no option for it.
    os.environ.setdefault("GRPC_SSL_CIPHER_SUITES", "ECDHE-RSA-AES128-GCM-SHA256")


def settled() -> None:
    """Tell the garbage collector that the program is set up: what is there stays, and is not looked at again.

    Walking over modules and classes took a sixth of the control plane's time under a flood. How often it looks stays as it is: an
    error that was raised is a cycle with what its frames held, messages of a megabyte among it.
    """
    gc.collect()
    gc.freeze()


def run(main: Coroutine[Any, Any, _T]) -> _T:
    """Run a program's main coroutine on uvloop where it is installed, on asyncio's own loop elsewhere."""
    if importlib.util.find_spec("uvloop") is None:
        return asyncio.run(main)
    import uvloop  # noqa: PLC0415 - optional

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)
