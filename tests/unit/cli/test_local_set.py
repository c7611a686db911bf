"""What `conductor start` finds out before and after it starts something."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_conductor.cli.in_use import InUse
from claude_conductor.cli.local_set import check_home, check_temp, foreign_command, too_weak
from claude_conductor.errors import AddressInUseError, HomeUnusableError, SocketPathTooLongError
from claude_conductor.settings import yaml_file
from claude_conductor.settings.home import Home
from claude_conductor.settings.load import Sources, load
from claude_conductor.settings.resolve import resolve
from claude_conductor.v1 import agent_pb2


@pytest.fixture
def home() -> Iterator[Home]:
    with tempfile.TemporaryDirectory(prefix="cc-") as folder:
        yield Home(Path(folder))


def test_an_agent_on_a_weaker_host_than_configured_is_found():
    agents = [
        agent_pb2.Agent(agent_id="strong", strongest_level=agent_pb2.ISOLATION_LEVEL_STRICT),
        agent_pb2.Agent(agent_id="weak", strongest_level=agent_pb2.ISOLATION_LEVEL_MODERATE),
        agent_pb2.Agent(agent_id="silent"),
        agent_pb2.Agent(agent_id="of an earlier set"),
    ]

    assert too_weak({"strong": "strict", "weak": "strict", "silent": "minimal"}, agents) == ["weak", "silent"]
    assert too_weak({"strong": "minimal", "weak": "moderate"}, agents) == []


def test_sockets_with_too_long_a_path_are_refused_also_those_of_agents(home: Home):
    check_home(home, ["agent-1"])
    with pytest.raises(SocketPathTooLongError):
        check_home(home, ["a" * 63, "b" * 100])
    with pytest.raises(SocketPathTooLongError):
        check_home(Home(home.path / ("x" * 100)), [])


def test_a_home_below_a_file_or_behind_a_dead_link_is_refused_and_none_is_made(home: Home):
    (home.path / "file").touch()
    (home.path / "link").symlink_to("nowhere")

    for name in ("file/home", "link"):
        with pytest.raises(HomeUnusableError):
            check_home(Home(home.path / name), [])
    check_home(Home(home.path / "new" / "home"), [])
    assert not (home.path / "new").exists()


def test_a_socket_somebody_listens_on_is_refused_and_a_dead_one_is_not(home: Home):
    home.socket.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(home.socket))
        other.listen()
        with pytest.raises(AddressInUseError):
            check_home(home, [])
    check_home(home, [])
    home.socket.unlink()
    home.socket.touch()
    with pytest.raises(AddressInUseError, match="not a socket"):
        check_home(home, [])


def test_a_parent_of_temporary_folders_that_is_a_link_is_refused_with_the_key(home: Home):
    (home.path / "link").symlink_to("/tmp")
    text = f"storage: {{temp_path: {home.path}/link}}"
    loaded = load(Sources(file=yaml_file.parse(text.encode(), "x.yaml")))

    with pytest.raises(HomeUnusableError, match=r"x\.yaml:1"):
        check_temp(InUse(home, loaded, resolve(loaded, home, {})))


def test_another_conductor_on_path_is_found_and_our_own_is_not(tmp_path: Path):
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "conductor").write_text("#!/bin/sh\n")
        (tmp_path / name / "conductor").chmod(0o755)
    ours, theirs = (str(tmp_path / name / "conductor") for name in ("ours", "theirs"))

    assert foreign_command({"PATH": f"{tmp_path}/theirs:{tmp_path}/ours"}, ours) == theirs
    assert foreign_command({"PATH": f"{tmp_path}/ours:{tmp_path}/theirs"}, ours) is None
    assert foreign_command({"PATH": "/nowhere"}, ours) is None
