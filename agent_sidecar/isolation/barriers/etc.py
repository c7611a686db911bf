"""The folders a sandbox shows as /etc, /sys and /proc/meminfo: what programs need of the host, and nothing that tells of it."""

from __future__ import annotations

import fcntl
import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from agent_sidecar.isolation.barriers import view
from agent_sidecar.isolation.interface import Limits

_COPIED = (
    *("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "timezone", "protocols", "services", "mime.types"),
    *("alternatives", "ssl/certs", "ssl/openssl.cnf", "ssl/cert.pem", "pki/tls/certs", "pki/ca-trust/extracted", "terminfo"),
    *("ca-certificates/extracted", "bash.bashrc", "profile", "inputrc", "python3", "perl"),
)
_WRITTEN: Mapping[str, str] = {
    "passwd": f"root:x:0:0:root:/:/usr/sbin/nologin\nagent:x:{view.UID}:{view.GID}:agent:{view.HOME}:/bin/sh\n"
    "nobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n",
    "group": f"root:x:0:\nagent:x:{view.GID}:\nnogroup:x:65534:\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\nservices: files\nprotocols: files\n",
    "hosts": f"127.0.0.1 localhost {view.HOSTNAME}\n::1 localhost\n",
    "hostname": f"{view.HOSTNAME}\n",
}


def build(target: Path, source: Path = Path("/etc")) -> None:
    """Make the /etc of sandboxes: copies, so that one mount shows them all; no shadow, no resolver, no machine id.

    Several processes may make the same one: the first does, the others wait for it.

    Args:
        target: Folder to make; replaced if it is there and the host's has changed.
        source: The host's own.
    """
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    with target.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _build(target, source)


def _build(target: Path, source: Path) -> None:
    stamp, mark = target.with_suffix(".stamp"), _mark(source)
    if target.exists() and stamp.exists() and stamp.read_text() == mark:
        return
    if target.exists():
        import shutil  # noqa: PLC0415 - with three compression libraries, 0.5 MB, for the rare host that changed

        shutil.rmtree(target)
    target.mkdir(parents=True, mode=0o755)
    target.chmod(0o755)
    for name in _COPIED:
        _copy(source / name, target / name)
    for name, text in _WRITTEN.items():
        (target / name).write_text(text)
        (target / name).chmod(0o644)
    stamp.write_text(mark)


def build_capped(target: Path, limits: Limits) -> None:
    """Make `meminfo` and `sys` as a machine of exactly these limits would show them; they stay as they are during the run."""
    kibibytes = limits.memory_bytes // 1024
    names = {"MemTotal": kibibytes, "MemFree": kibibytes, "MemAvailable": kibibytes, "Buffers": 0, "Cached": 0}
    names |= {"SwapCached": 0, "SwapTotal": 0, "SwapFree": 0, "Shmem": 0}
    folder = target / "sys/devices/system/cpu"
    folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    (target / "meminfo").write_text("".join(f"{name + ':':<16}{value:>8} kB\n" for name, value in names.items()))
    processors = processor_count(limits)
    for name in ("online", "possible", "present"):
        (folder / name).write_text("0\n" if processors == 1 else f"0-{processors - 1}\n")


def processor_count(limits: Limits) -> int:
    """Return how many whole processors a share needs at least."""
    return max(1, math.ceil(limits.cpus))


def _copy(source: Path, target: Path) -> None:
    if not source.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    if source.is_dir():
        _copy_folder(source, target)
    else:
        target.write_bytes(source.read_bytes())
        target.chmod(0o644)


def _copy_folder(source: Path, target: Path) -> None:
    """Copy links as links, and files and folders anybody may read; plain calls, since there are a thousand links."""
    target.mkdir(mode=0o755, exist_ok=True)
    with os.scandir(source) as entries:
        for entry in entries:
            if entry.is_symlink():
                os.symlink(os.readlink(entry.path), f"{target}/{entry.name}")  # noqa: PTH115, PTH211
            elif entry.is_dir():
                _copy_folder(source / entry.name, target / entry.name)
            elif entry.stat().st_mode & stat.S_IROTH:
                (target / entry.name).write_bytes(Path(entry.path).read_bytes())


def _mark(source: Path) -> str:
    """Return what changes when one of the copied files or folders does, or this module."""
    found = [(name, (source / name).stat().st_mtime_ns) for name in _COPIED if (source / name).exists()]
    return f"{found} {sorted(_WRITTEN.items())}"
