"""Where the control plane is, and as whom it is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_conductor.errors import SettingsError
from claude_conductor.settings.home import Home, expand_path, find
from claude_conductor.settings.place import Context, current, read_contexts, resolve, write_contexts


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_the_home_is_the_variable_or_a_folder_in_the_users_home():
    assert find({"HOME": "/me"}).path == Path("/me/.claude-conductor")
    assert find({"HOME": "/me", "CONDUCTOR_HOME": "~/c/"}).path == Path("/me/c")
    with pytest.raises(SettingsError):
        find({"CONDUCTOR_HOME": "relative"})


def test_a_path_below_the_default_home_follows_the_variable():
    found = expand_path("~/.claude-conductor/workspace", Home(Path("/c")), {"HOME": "/me"}, key="k")

    assert found == Path("/c/workspace")
    assert expand_path("~/.claude-conductor-2/w", Home(Path("/c")), {"HOME": "/me"}, key="k") == Path("/me/.claude-conductor-2/w")


def test_argument_wins_over_environment_over_context_over_home(home: Home):
    (home.path / "run").mkdir()
    home.operator_token.write_text("of the home\n")
    (home.path / "theirs").write_text("of the context\n")
    variables = {"CONDUCTOR_HOME": str(home.path), "HOME": "/me"}

    def found(**given: str) -> tuple[str, str, bool]:
        place = resolve(variables, **given)
        return place.address, place.token.reveal(), place.local

    assert found() == (f"unix:{home.socket}", "of the home", True)
    write_contexts(home, "work", {"work": Context("work", "unix:/work.sock", str(home.path / "theirs"))})
    assert found() == ("unix:/work.sock", "of the context", False)
    variables |= {"CONDUCTOR_ADDRESS": "unix:/e.sock", "CONDUCTOR_TOKEN": "of the environment"}
    assert found() == ("unix:/e.sock", "of the environment", False)
    assert found(address="unix:/a.sock", token="given") == ("unix:/a.sock", "given", False)


def test_a_network_address_takes_the_roots_of_its_context_and_never_the_token_of_this_home(home: Home):
    (home.path / "run").mkdir()
    home.operator_token.write_text("of the home\n")
    (home.path / "roots.pem").write_bytes(b"roots")
    variables = {"CONDUCTOR_HOME": str(home.path), "HOME": "/me"}
    write_contexts(home, "work", {"work": Context("work", "host:7444", trust_file=str(home.path / "roots.pem"))})

    place = resolve(variables)
    assert (place.address, place.token.reveal(), place.trust) == ("host:7444", "", b"roots")
    assert resolve(variables, address="other:7444").trust == b""
    assert resolve({**variables, "CONDUCTOR_TRUST_FILE": str(home.path / "roots.pem")}, address="other:1").trust == b"roots"
    with pytest.raises(SettingsError, match="roots"):
        resolve({**variables, "CONDUCTOR_TRUST_FILE": "/nowhere"})


def test_contexts_are_read_back_as_they_were_written(home: Home):
    contexts = {"a": Context("a", "unix:/a", "/t", {"num_agents": 2}), "b": Context("b", settings={})}
    write_contexts(home, "a", contexts)

    assert read_contexts(home) == ("a", contexts)
    assert current(home, {}).name == "a"
    assert current(home, {"CONDUCTOR_CONTEXT": "b"}).name == "b"
    assert current(home, {"CONDUCTOR_CONTEXT": "local"}).name == "local"


def test_an_unknown_context_a_missing_token_and_a_damaged_file_are_said(home: Home):
    variables = {"CONDUCTOR_HOME": str(home.path)}
    with pytest.raises(SettingsError, match="context"):
        current(home, {"CONDUCTOR_CONTEXT": "nope"})
    write_contexts(home, "work", {"work": Context("work", "unix:/w", str(home.path / "missing"))})
    with pytest.raises(SettingsError, match="token"):
        resolve(variables)
    home.contexts.write_text("[]")
    with pytest.raises(SettingsError, match="contexts"):
        resolve(variables)
