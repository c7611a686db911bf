"""Arguments of tool calls against their schemas."""

from __future__ import annotations

import pytest

from claude_conductor.agent_tools.mcp.catalogue import TOOLS
from claude_conductor.agent_tools.mcp.shape import fitted
from claude_conductor.agent_tools.mcp.tools import CALLS
from claude_conductor.errors import InvalidArgumentError

SCHEMAS = {tool["name"]: tool["inputSchema"] for tool in TOOLS}


def test_what_is_left_out_gets_its_default_and_null_is_left_out():
    assert fitted(SCHEMAS["get_task"], {"task_id": "task_1", "wait_seconds": None}) == {"task_id": "task_1", "wait_seconds": 0}


def test_every_tool_that_is_offered_can_be_called_and_has_a_default_for_what_is_not_required():
    assert set(SCHEMAS) == set(CALLS)
    for name, schema in SCHEMAS.items():
        optional = set(schema["properties"]) - set(schema["required"])
        assert all("default" in schema["properties"][each] for each in optional), name


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"to": "x", "text": "\ud800"}, "surrogate"),
        ({"to": "x", "text": "y" * 1_000_001}, "at most 1000000 characters"),
        ({"to": "x", "text": None}, "`text` is missing."),
    ],
)
def test_text_that_cannot_travel_is_refused(arguments: dict, said: str):
    with pytest.raises(InvalidArgumentError, match=said):
        fitted(SCHEMAS["send_message"], arguments)
