import subprocess

import pytest

from agent_sidecar.isolation.barriers import selftest

STATUS = {"Uid": "61200\t61200\t61200\t61200", "NSpid": "900\t2", "NoNewPrivs": "1", "Seccomp": "2"} | dict.fromkeys(
    ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), "0000000000000000"
)
MOUNTS = {"/": "ro,nosuid", "/usr": "ro,nosuid", "/workspace": "rw,nosuid", "/tmp": "rw"}


def status(**changes: str) -> str:
    return "".join(f"{name}:\t{value}\n" for name, value in (STATUS | changes).items())


def mounts(**changes: str) -> str:
    table = MOUNTS | {"/" + name.replace("root_", ""): value for name, value in changes.items()}
    return "".join(f"20 1 0:1 / {point} {options} - tmpfs tmpfs rw\n" for point, options in table.items() if options)


def test_a_process_as_planned_passes():
    assert selftest.check_status(status(), 61200) == ()
    assert selftest.check_mounts(mounts()) == ()
    assert selftest.check_interfaces("Inter-| x\n face |y\n    lo:  1 2\n") == ()


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"Uid": "0\t0\t0\t0"}, "own_uid"),
        ({"Uid": "61200\t0\t61200\t61200"}, "own_uid"),
        ({"Uid": "61201\t61201\t61201\t61201"}, "own_uid"),
        ({"NoNewPrivs": "0"}, "no_new_privs"),
        ({"Seccomp": "0"}, "seccomp"),
        ({"CapEff": "0000000000000001"}, "capabilities"),
        ({"CapBnd": "000001ffffffffff"}, "capabilities"),
        ({"NSpid": "900"}, "pid_namespace"),
    ],
)
def test_each_missing_mechanism_is_named(changes, name):
    found = selftest.check_status(status(**changes), 61200)
    assert [each.split(":")[0] for each in found] == [name]


def test_uid_0_never_passes_even_if_it_is_expected():
    assert selftest.check_status(status(Uid="0\t0\t0\t0"), 0)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"root_": "rw"}, "root is writable"),
        ({"workspace": "ro"}, "workspace"),
        ({"workspace": ""}, "workspace"),
        ({"usr": "rw"}, "system is writable"),
        ({"root": "ro"}, "/root of the host"),
    ],
)
def test_each_wrong_mount_is_named(changes, word):
    assert word in selftest.check_mounts(mounts(**changes))[0]


def test_a_foreign_interface_is_named():
    assert selftest.check_interfaces("a|b\n    lo: 1\n  eth0: 2\n") == ("network_namespace: the interface eth0 is visible",)


@pytest.mark.parametrize("bridges", [{}, {80: "a b", 81: "c'd"}])
def test_the_shell_text_is_valid_for_a_posix_shell(bridges):
    text = selftest.script(bridges, "/opt/a b/python")
    assert subprocess.run(["/bin/sh", "-n", "-c", text], check=False).returncode == 0
