import copy
import json

import pytest

from claude_conductor.errors import SettingsError
from claude_conductor.supervisor.setup import parse

PROGRAM = {"argv": ["/bin/true"], "environment": {"PATH": "/bin"}, "settings": {"key": 1}}
DOCUMENT = {
    "home": "/home/someone/.claude-conductor",
    "programs": {"controlplane": PROGRAM, "sidecars": [{"agent_id": "reviewer", **PROGRAM}]},
    "restart": {"first_delay": 0.2, "max_delay": 10, "reset_after": 30},
    "grace": 5.0,
}


def without(*path: str | int):
    document = copy.deepcopy(DOCUMENT)
    inner = document
    for step in path[:-1]:
        inner = inner[step]
    del inner[path[-1]]
    return json.dumps(document)


def test_a_whole_document_is_understood():
    setup = parse(json.dumps(DOCUMENT))

    assert setup.home == "/home/someone/.claude-conductor"
    assert setup.control_plane.name == "controlplane"
    assert setup.control_plane.agent_id is None
    assert [(each.name, each.agent_id) for each in setup.sidecars] == [("sidecar-reviewer", "reviewer")]
    assert setup.sidecars[0].settings == {"key": 1}
    assert (setup.restart.max_delay, setup.grace) == (10.0, 5.0)


@pytest.mark.parametrize(
    ("path", "key"),
    [
        (("home",), "home"),
        (("grace",), "grace"),
        (("restart", "max_delay"), "restart.max_delay"),
        (("programs", "controlplane"), "programs.controlplane"),
        (("programs", "controlplane", "argv"), "programs.controlplane.argv"),
        (("programs", "sidecars"), "programs.sidecars"),
        (("programs", "sidecars", 0, "agent_id"), "programs.sidecars[0].agent_id"),
        (("programs", "sidecars", 0, "settings"), "programs.sidecars[0].settings"),
    ],
)
def test_a_missing_key_is_named_with_its_path(path: tuple[str | int, ...], key: str):
    with pytest.raises(SettingsError) as caught:
        parse(without(*path))

    assert caught.value.details["key"] == key


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"home": "relative"}, "home"),
        ({"grace": -1}, "grace"),
        ({"grace": True}, "grace"),
        ({"programs": []}, "programs"),
        ({"programs": {"controlplane": {**PROGRAM, "argv": []}, "sidecars": []}}, "programs.controlplane.argv"),
        (
            {"programs": {"controlplane": {**PROGRAM, "environment": {"A": 1}}, "sidecars": []}},
            "programs.controlplane.environment",
        ),
        ({"programs": {"controlplane": PROGRAM, "sidecars": [{"agent_id": "../x", **PROGRAM}]}}, "programs.sidecars[0].agent_id"),
        ({"programs": {"controlplane": PROGRAM, "sidecars": [{"agent_id": "a", **PROGRAM}] * 2}}, "programs.sidecars"),
    ],
)
def test_a_wrong_value_is_refused_by_its_key(change: dict[str, object], key: str):
    with pytest.raises(SettingsError) as caught:
        parse(json.dumps({**DOCUMENT, **change}))

    assert caught.value.details["key"] == key


def test_something_that_is_not_json_is_refused():
    with pytest.raises(SettingsError, match="not JSON"):
        parse("{")
