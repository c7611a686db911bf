"""How does a benchmark run where there is only the loopback? Some peers listen on every interface, whatever they are told."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence

_SIOCSIFFLAGS = 0x8914  # netdevice(7)
_IFF_UP = 1
_INSIDE = "CONDUCTOR_BENCH_INSIDE"
_WAYS = (("--net",), ("--map-root-user", "--net"))
"""As root; as a user where user namespaces are allowed."""


def is_inside() -> bool:
    """Return whether this process sees the loopback only."""
    return [name for _, name in socket.if_nameindex()] == ["lo"]


def entered() -> bool:
    """Return whether this process was started by `enter`."""
    return _INSIDE in os.environ and is_inside()


def enter(arguments: Sequence[str]) -> str:
    """Start this benchmark again in a network namespace of its own; returns only if that is not possible, with the reason."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return "`unshare` (util-linux) is not installed"
    said = ""
    for way in _WAYS:
        tried = subprocess.run([unshare, *way, "true"], capture_output=True, text=True, check=False)
        if tried.returncode == 0:
            os.environ[_INSIDE] = "1"
            os.execv(  # noqa: S606 - ourselves, with what we were given
                unshare, [unshare, *way, sys.executable, "-m", "bench", *arguments]
            )
        said = tried.stderr.strip()
    return f"a network namespace cannot be made here ({said}); run it as root, or allow user namespaces"


def bring_up() -> None:
    """Bring the loopback of this network namespace up (netdevice(7))."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        fcntl.ioctl(handle, _SIOCSIFFLAGS, struct.pack("16sh", b"lo", _IFF_UP))
