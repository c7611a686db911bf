import json

import pytest

from claude_conductor.supervisor.state import ChildState, Condition, LastExit, Phase, State, dump, load

STATE = State(
    pid=4,
    start_time=99,
    boot_id="b",
    state=Phase.RUNNING,
    children=(
        ChildState("controlplane", None, 5, 100, 0, Condition.RUNNING, None),
        ChildState("sidecar-a", "a", None, None, 2, Condition.FAILED, LastExit("exit code 78", 78, 1.5, 0.25, ("bad key",))),
    ),
    started_at=1.25,
)


def test_what_is_written_is_read_back():
    assert load(dump(STATE)) == STATE


def test_the_keys_are_the_agreed_ones():
    document = json.loads(dump(STATE))

    assert {"pid", "start_time", "state", "children", "started_at"} <= set(document)
    assert set(document["children"][0]) == {"name", "agent_id", "pid", "start_time", "restarts", "state", "last_exit"}


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{}", '{"pid": "4"}', dump(STATE)[:-20], dump(STATE).replace('"running"', '"x"', 1)]
)
def test_a_cut_or_foreign_file_is_nobodys_state(text: str):
    assert load(text) is None
