"""The document for the supervisor is one it takes, and no secret is where it can be seen."""

from __future__ import annotations

import json
from pathlib import Path

from agent_sidecar.settings import Settings as SidecarSettings
from claude_conductor.cli import setup_document
from claude_conductor.rpc.process import ALLOCATOR
from claude_conductor.settings.handover import from_plain
from claude_conductor.settings.home import Home
from claude_conductor.settings.load import Sources, load
from claude_conductor.settings.resolve import resolve
from claude_conductor.supervisor import setup
from controlplane.settings import Settings as ControlPlaneSettings

VARIABLES = {"HOME": "/me", "PATH": "/bin", "ANTHROPIC_API_KEY": "sk-canary", "OTEL_SERVICE_NAME": "x", "AWS_SECRET": "no"}
HOME = Home(Path("/c"))


def document() -> dict[str, object]:
    resolved = resolve(load(Sources(flags={"num_agents": (2, "--agents")})), HOME, VARIABLES)
    return setup_document.build(resolved, HOME, VARIABLES, "/usr/bin/python3")


def test_the_supervisor_and_both_programs_take_it():
    parsed = setup.parse(json.dumps(document()))

    assert [program.name for program in parsed.sidecars] == ["sidecar-agent-1", "sidecar-agent-2"]
    assert parsed.grace == 8.0
    from_plain(ControlPlaneSettings, parsed.control_plane.settings)
    sidecar = from_plain(SidecarSettings, parsed.sidecars[1].settings)
    assert (sidecar.agent_id, sidecar.control_plane) == ("agent-2", "unix:/c/run/control.sock")


def test_programs_start_with_our_allocator_settings_unless_the_user_has_others():
    own = setup_document.programs_environment({"MALLOC_TRIM_THRESHOLD_": "1", "HOME": "/me"})
    assert own == ALLOCATOR | {"MALLOC_TRIM_THRESHOLD_": "1", "HOME": "/me"}


def test_the_providers_key_is_in_the_settings_of_sidecars_only():
    parsed = setup.parse(json.dumps(document()))

    for program in (parsed.control_plane, *parsed.sidecars):
        assert "sk-canary" not in json.dumps([program.argv, dict(program.environment)])
        assert "AWS_SECRET" not in program.environment
        assert program.environment["CONDUCTOR_HOME"] == "/c"
        assert program.environment["OTEL_SERVICE_NAME"] == "x"
    assert "sk-canary" not in json.dumps(dict(parsed.control_plane.settings))
    assert from_plain(SidecarSettings, parsed.sidecars[0].settings).provider.api_key.reveal() == "sk-canary"
    assert setup_document.supervisor_environment(HOME, VARIABLES) == {"HOME": "/me", "PATH": "/bin", "CONDUCTOR_HOME": "/c"}
