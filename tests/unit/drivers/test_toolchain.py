from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agent_sidecar.drivers.finder import HostFinder
from agent_sidecar.drivers.toolchain import Interpreter, outermost, python_toolchain, running_interpreter
from claude_conductor.errors import IsolationRefusedError

from .conftest import FakeFinder


def interpreter(executable: str, *folders: str) -> Interpreter:
    return Interpreter(Path(executable), tuple(Path(folder) for folder in folders))


def folders(*names: str) -> tuple[Path, ...]:
    return tuple(Path(name) for name in names)


def test_a_virtual_environment_over_a_built_python_needs_both():
    finder = FakeFinder(
        links={
            "/w/.venv/bin/python": "/w/.venv/bin/python3",
            "/w/.venv/bin/python3": "/home/u/.pyenv/versions/3.11.7/bin/python3",
        }
    )

    toolchain = python_toolchain(interpreter("/w/.venv/bin/python", "/w/.venv", "/home/u/.pyenv/versions/3.11.7"), finder)

    assert toolchain.program == Path("/w/.venv/bin/python")
    assert toolchain.folders == folders("/home/u/.pyenv/versions/3.11.7", "/w/.venv")


def test_a_folder_that_is_a_link_appears_under_both_names():
    finder = FakeFinder(links={"/w/.venv/bin/python": "/py/3.11/bin/python3", "/py/3.11": "/py/cpython-3.11.7"})

    toolchain = python_toolchain(interpreter("/w/.venv/bin/python", "/w/.venv", "/py/3.11"), finder)

    assert toolchain.folders == folders("/py/3.11", "/py/cpython-3.11.7", "/w/.venv")


def test_a_link_outside_of_every_known_folder_brings_its_own_folder():
    finder = FakeFinder(links={"/w/.venv/bin/python": "/home/u/shims/python", "/home/u/shims/python": "/opt/py/bin/python3"})

    toolchain = python_toolchain(interpreter("/w/.venv/bin/python", "/w/.venv", "/opt/py"), finder)

    assert toolchain.folders == folders("/home/u/shims", "/opt/py", "/w/.venv")


def test_the_systems_python_needs_no_folder_of_its_own():
    finder = FakeFinder(links={"/w/.venv/bin/python": "/usr/bin/python3", "/usr/bin/python3": "/usr/bin/python3.11"})

    assert python_toolchain(interpreter("/w/.venv/bin/python", "/w/.venv", "/usr"), finder).folders == folders("/w/.venv")


def test_packages_of_a_development_install_are_added():
    toolchain = python_toolchain(
        interpreter("/opt/py/bin/python3", "/opt/py"), FakeFinder(), folders("/src/agent", "/opt/py/lib/x")
    )

    assert toolchain.folders == folders("/opt/py", "/src/agent")


def test_a_loop_of_links_ends():
    finder = FakeFinder(links={"/w/a": "/w/b", "/w/b": "/w/a"})

    assert Path("/w") in python_toolchain(interpreter("/w/a", "/opt/py"), finder).folders


def test_the_root_folder_is_never_mounted():
    with pytest.raises(IsolationRefusedError):
        python_toolchain(interpreter("/bin/python3", "/"), FakeFinder())


def test_only_outermost_folders_remain():
    assert outermost(folders("/b/c", "/a", "/b", "/a/b/c", "/bc", "/usr/lib/x")) == folders("/a", "/b", "/bc")


def test_this_interpreter_loads_nothing_from_outside_its_toolchain():
    toolchain = python_toolchain(running_interpreter(), HostFinder("/usr/bin"))
    script = (
        "import sys, ssl, sqlite3, ctypes, json;"
        "print(*{m.__file__ for m in sys.modules.values() if getattr(m, '__file__', None)}, sep='\\n')"
    )

    loaded = subprocess.run([toolchain.program, "-I", "-c", script], capture_output=True, text=True, check=True).stdout.split()

    system = folders("/usr", "/lib", "/lib64", "/bin")
    assert loaded
    assert [
        name for name in loaded if not any(Path(name).is_relative_to(folder) for folder in (*toolchain.folders, *system))
    ] == []
    assert any(Path(sys.executable).resolve().is_relative_to(folder) for folder in (*toolchain.folders, *system))


def test_the_hosts_finder_follows_links_one_by_one(tmp_path: Path):
    finder = HostFinder(str(tmp_path))
    script, native, link, loop = (tmp_path / name for name in ("tool", "native", "link", "loop"))
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    native.write_bytes(b"\x7fELF rest")
    native.chmod(0o755)
    link.symlink_to("tool")
    loop.symlink_to("loop")

    assert finder.which("tool") == script
    assert finder.which("nothing") is None
    assert (finder.read_link(link), finder.read_link(script)) == (script, None)
    assert finder.resolve(link) == script
    assert finder.resolve(loop) == loop
    assert [finder.is_program(path) for path in (script, link, loop, tmp_path)] == [True, True, False, False]
    assert [finder.is_native(path) for path in (script, native, loop)] == [False, True, False]
