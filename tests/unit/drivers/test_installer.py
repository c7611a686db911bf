"""The opt-in installer of Claude Code, with a stand-in for npm: nothing is fetched here."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

INSTALLER = Path(__file__).parents[3] / "tools" / "install_claude_code.sh"
PROCESSOR = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), "")
pytestmark = pytest.mark.skipif(not PROCESSOR, reason=f"Claude Code has no package for {platform.machine()}")

NPM_THAT_INSTALLS = f"""#!/bin/bash
while [ "$1" != --prefix ]; do shift; done
for libc in "" -musl; do
  package="$2/node_modules/@anthropic-ai/claude-code-linux-{PROCESSOR}$libc"
  mkdir -p "$package"
  echo '{{"version": "1.2.3"}}' >"$package/package.json"
  echo '#!/bin/sh' >"$package/claude"
  chmod 755 "$package/claude"
done
echo called >>"$2/calls"
"""
NPM_WITHOUT_NETWORK = """#!/bin/sh
echo 'npm warn something else'
echo 'npm error network request to the registry failed, reason: connect ECONNREFUSED'
exit 1
"""


def install(tmp_path: Path, npm: str | None) -> subprocess.CompletedProcess[str]:
    programs = tmp_path / "bin"
    programs.mkdir(exist_ok=True)
    for name in ("bash", "uname", "grep", "tail", "mkdir", "dirname", "chmod"):
        found = shutil.which(name)
        assert found
        (programs / name).unlink(missing_ok=True)
        (programs / name).symlink_to(found)
    if npm:
        (programs / "npm").write_text(npm)
        (programs / "npm").chmod(0o755)
    environment = {"PATH": str(programs), "CLAUDE_CODE_VERSION": "1.2.3"}
    command = [str(programs / "bash"), str(INSTALLER), str(tmp_path / "out")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20, check=False)


def test_it_prints_the_path_of_the_program_and_installs_once(tmp_path: Path):
    first, second = install(tmp_path, NPM_THAT_INSTALLS), install(tmp_path, NPM_THAT_INSTALLS)

    assert first.stdout == second.stdout
    assert Path(first.stdout.strip()).name == "claude"
    assert Path(first.stdout.strip()).is_file()
    assert (tmp_path / "out" / "calls").read_text() == "called\n"


def test_without_npm_it_says_what_to_install(tmp_path: Path):
    done = install(tmp_path, None)

    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "npm is not on PATH" in done.stderr
    assert "CONDUCTOR_CLAUDE_BINARY" in done.stderr


def test_without_network_it_repeats_npms_reason_in_one_line(tmp_path: Path):
    done = install(tmp_path, NPM_WITHOUT_NETWORK)

    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "ECONNREFUSED" in done.stderr
    assert str(tmp_path / "out" / "npm.log") in done.stderr
