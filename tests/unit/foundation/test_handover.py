"""Settings go from one program to the next without a loss, and secrets do not show."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_sidecar.isolation.interface import Level, Limits
from agent_sidecar.settings import Provider
from agent_sidecar.settings import Settings as SidecarSettings
from claude_conductor.errors import SettingsError
from claude_conductor.settings.handover import from_plain, read_descriptor, to_plain
from claude_conductor.settings.secret import Secret
from controlplane.settings import Settings

FULL = SidecarSettings(
    home=Path("/h"),
    agent_id="a",
    control_plane="unix:/h/run/control.sock",
    token=Secret("canary-token"),
    level=Level.MODERATE,
    limits=Limits(memory_bytes=5, cpus=2.0),
    temp_path=Path("/tmp/x"),
    agent_command=("python", "x.py"),
    labels={"a": "b"},
    provider=Provider(api_key=Secret("canary-key")),
)


def test_sidecar_settings_survive_the_way_through_json():
    assert from_plain(SidecarSettings, json.loads(json.dumps(to_plain(FULL)))) == FULL


@given(st.floats(0.1, 100), st.dictionaries(st.text(max_size=5), st.text(max_size=5)))
def test_control_plane_settings_survive_the_way_through_json(seconds, tokens):
    settings = Settings(home=Path("/h"), lease_seconds=seconds, sidecar_tokens=tokens)

    assert from_plain(Settings, json.loads(json.dumps(to_plain(settings)))) == settings


def test_an_unknown_key_is_named():
    with pytest.raises(SettingsError) as caught:
        from_plain(Settings, {"home": "/h", "lease_secnds": 3})

    assert caught.value.details == {"keys": "lease_secnds"}


@pytest.mark.parametrize(
    "plain", [{"home": 3}, {}, {"home": "/h", "sidecar_tokens": [1]}, {"home": "/h", "lease_seconds": "soon"}]
)
def test_a_value_of_the_wrong_shape_is_an_error_of_settings(plain):
    with pytest.raises(SettingsError):
        from_plain(Settings, plain)


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff"])
def test_a_descriptor_without_settings_is_an_error_of_settings(text):
    reading, writing = os.pipe()
    os.write(writing, text)
    os.close(writing)

    with pytest.raises(SettingsError):
        read_descriptor(Settings, reading)


def test_a_secret_does_not_show():
    shown = f"{FULL} {FULL!r} {FULL.token} {[FULL.token]}"

    assert "canary" not in shown
    assert FULL.token.reveal() == "canary-token"
