import resource
from dataclasses import replace
from pathlib import Path

import pytest

from agent_sidecar.isolation import commands
from agent_sidecar.isolation import level as levels
from agent_sidecar.isolation.barriers.view import HostView
from agent_sidecar.isolation.bubblewrap import Bubblewrap
from agent_sidecar.isolation.commands import Setting
from agent_sidecar.isolation.interface import Level, Limits, Plan, Spec

SETTING = Setting(
    uid=61200,
    gid=61200,
    bubblewrap=Bubblewrap(Path("/opt/b/_bin/bwrap"), "0.11", (Path("/opt/b"),)),
    host=HostView({"/bin": "usr/bin", "/sbin": ""}, ("/proc/keys",), Path("/state/view/etc")),
    view_folder=Path("/state/view"),
    python=Path("/opt/python/bin/python3"),
    python_folders=(Path("/opt/python"),),
    processors=(1, 0),
    seccomp=b"12345678",
    open_seccomp=b"87654321",
)
SPEC = Spec("coder", "run-1", ("tool", "x y"), {"TOKEN": "s3cret"}, Path("/srv/w"), Path("/srv/s"), toolchains=(Path("/opt/t"),))
STRICT = Plan(SPEC, Level.STRICT, levels.EVERY)


def words(spec: Spec = SPEC) -> list[str]:
    return commands.sandbox_arguments(SETTING, spec).decode().split("\0")


def after(name: str, spec: Spec = SPEC) -> list[str]:
    found = words(spec)
    return [found[index + 1] for index, word in enumerate(found) if word == name]


def test_values_of_the_environment_never_show_in_a_process_list():
    order = commands.order(SETTING, STRICT, SPEC, 3, into_group=True)
    assert "s3cret" not in " ".join(order.argv) + " ".join(order.environment.values())
    assert order.argv[-2:] == ("tool", "x y")
    assert "s3cret" in words()


def test_a_sandbox_asks_for_every_wall():
    for word in ("--unshare-all", "--disable-userns", "--die-with-parent", "--new-session", "--clearenv"):
        assert word in words()
    assert after("--cap-drop") == ["ALL"]
    assert after("--remount-ro") == ["/dev", "/"]
    assert after("--seccomp") == [str(commands.SECCOMP)]
    assert "--share-net" not in words()


def test_only_the_workspace_is_bound_for_writing():
    assert after("--bind") == ["/srv/w"]


def test_the_root_is_closed_after_everything_is_in_place():
    found = words()
    assert found.index("/run/conductor") < len(found) - 1 - found[::-1].index("--remount-ro")


def test_every_temporary_file_system_has_a_size():
    found = words()
    for index, word in enumerate(found):
        if word == "--tmpfs":
            assert found[index - 2] == "--size", found[index : index + 2]


def test_a_bridge_brings_its_interpreter_and_its_program():
    spec = commands.shown(SETTING, replace(SPEC, bridges={18080: "gateway.sock"}))
    assert Path("/opt/python") in spec.toolchains
    assert after("--ro-bind-data", spec) == [str(commands.BRIDGE)]
    text = commands.order(SETTING, replace(STRICT, spec=spec), spec, 0, into_group=False).argv[6]
    assert "18080=gateway.sock" in text


def test_folders_the_system_shows_anyway_are_not_mounted_again():
    spec = commands.shown(SETTING, replace(SPEC, toolchains=(Path("/usr/lib/node"), Path("/opt/t"), Path("/opt/t"))))
    assert spec.toolchains == (Path("/opt/t"),)


def test_limits_without_groups_fall_back_to_those_of_the_process():
    weak = Plan(replace(SPEC, limits=Limits(workspace_bytes=7, pids=9, memory_bytes=11)), Level.MODERATE, ("seccomp",))
    limits = dict(commands.rlimits(weak))
    assert limits[resource.RLIMIT_FSIZE] == 7
    assert limits[resource.RLIMIT_NPROC] == 9
    assert limits[resource.RLIMIT_DATA] == 11
    assert commands.order(SETTING, weak, weak.spec, 0, into_group=False).nice == 10


def test_limits_with_groups_leave_the_process_free():
    limits = dict(commands.rlimits(STRICT))
    assert resource.RLIMIT_NPROC not in limits
    assert resource.RLIMIT_DATA not in limits
    assert limits[resource.RLIMIT_CORE] == 0


@pytest.mark.parametrize(("cpus", "expected"), [(0.5, (1,)), (1.0, (1,)), (1.5, (1, 0)), (8.0, (1, 0))])
def test_a_run_is_kept_on_as_many_processors_as_its_share_needs(cpus, expected):
    spec = replace(SPEC, limits=Limits(cpus=cpus))
    assert commands.order(SETTING, replace(STRICT, spec=spec), spec, 0, into_group=False).processors == expected


def test_the_minimal_level_runs_the_program_itself_with_the_filter_on_it():
    plan = Plan(replace(SPEC, level=Level.MINIMAL), Level.MINIMAL, ("seccomp",))
    order = commands.order(SETTING, plan, plan.spec, 0, into_group=False)
    assert order.program == "/bin/sh"
    assert order.folder == "/srv/w"
    assert bytes.fromhex(order.seccomp) == b"87654321"
    assert order.environment["TOKEN"] == "s3cret"
    assert order.reports is False
