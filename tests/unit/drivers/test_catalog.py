from __future__ import annotations

from pathlib import Path

import pytest

from agent_sidecar.drivers.catalog import DriverSettings, build, find
from agent_sidecar.drivers.driver import AgentDriver, TaskOrder
from agent_sidecar.drivers.toolchain import Toolchain
from claude_conductor.errors import InvalidArgumentError

from .conftest import FakeFinder


def drivers(settings: DriverSettings | None = None) -> dict[str, AgentDriver]:
    finder = FakeFinder(native=["/opt/claude"])
    return build(settings or DriverSettings(), finder, Toolchain(Path("/opt/py/bin/python3"), (Path("/opt/py"),)))


def test_every_kind_of_agent_is_found_by_its_name():
    assert set(drivers()) == {"command", "claude_code", "grpc_agent", "scripted"}
    assert all(driver.name == name for name, driver in drivers().items())


def test_a_dash_is_as_good_as_an_underscore():
    assert find(drivers(), "Claude-Code").name == "claude_code"


def test_an_unknown_kind_names_the_nearest():
    with pytest.raises(InvalidArgumentError) as unknown:
        find(drivers(), "clade-code")
    assert "did you mean `claude_code`?" in unknown.value.next_step


def test_only_claude_code_needs_the_gateway_and_only_the_grpc_agent_runs_long():
    found = drivers()

    assert [name for name, driver in found.items() if driver.capabilities.needs_gateway] == ["claude_code"]
    assert [name for name, driver in found.items() if driver.capabilities.long_running] == ["grpc_agent"]


def test_the_settings_reach_the_drivers():
    found = drivers(DriverSettings(claude_program=Path("/opt/claude"), claude_model="m", gateway_port=9, grpc_program=("agent",)))
    order = TaskOrder(task_id="t", type="x", prompt="p")

    claude = found["claude_code"].command(order)
    assert (claude.argv[0], claude.argv[-4:-2], set(claude.bridges)) == ("/opt/claude", ("--model", "m"), {9})
    assert found["grpc_agent"].command(order).argv == ("agent",)
